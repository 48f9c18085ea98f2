"""Rules about the global batch: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.batch import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import judge, model

BY_ID = {rule.id: rule for rule in RULES}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    (
        "batch.gbs",
        model(),
        {"gpus": 12, "global_batch_size": 512, "num_microbatches": 42},
        ("512", "dp 12", "512 mod 12 = 8"),
    ),
    ("batch.gbs", model(), {"gpus": 8, "global_batch_size": 4, "num_microbatches": 0}, ("4 < 8",)),
    (
        "batch.gbs",
        model(),
        {"gpus": 8, "micro_batch_size": 3, "global_batch_size": 128, "num_microbatches": 5},
        ("micro-batch 3 * dp 8 = 24", "128 mod 24 = 8"),
    ),
    ("batch.requested", model(), {"asked_batch": 1024, "global_batch_size": 512}, ("1024", "512")),
    (
        "batch.near-target",
        model(),
        {"gpus": 1536, "pp": 8, "vpp": 2, "micro_batch_size": 4, "seq_length": 4096},
        ("6144 sequences", "1024", "--global-batch-size"),
    ),
    (
        "batch.near-target",
        model(),
        {"gpus": 8, "micro_batch_size": 8, "seq_length": 1 << 20},
        ("64 sequences", "the target is 4"),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("batch.gbs", model(), {"gpus": 12, "global_batch_size": 504, "num_microbatches": 42}),
    ("batch.gbs", model(), {"gpus": 8, "global_batch_size": 8, "num_microbatches": 1}),
    (
        "batch.gbs",
        model(),
        {"gpus": 8, "micro_batch_size": 4, "global_batch_size": 128, "num_microbatches": 4},
    ),
    ("batch.requested", model(), {"asked_batch": 512, "global_batch_size": 512}),
    ("batch.requested", model(), {"global_batch_size": 512}),
    (
        "batch.near-target",
        model(),
        {"gpus": 1536, "pp": 8, "vpp": 2, "micro_batch_size": 1, "seq_length": 4096},
    ),
    # Not interleaved, the batch need not be a multiple of pp.
    ("batch.near-target", model(), {"gpus": 1536, "pp": 8, "micro_batch_size": 4, "seq_length": 4096}),
    # dp alone may exceed the target where GPUs are many; and a batch that is asked for has no target.
    ("batch.near-target", model(), {"gpus": 4096, "seq_length": 8192}),
    (
        "batch.near-target",
        model(),
        {"gpus": 8, "micro_batch_size": 8, "seq_length": 1 << 20, "asked_batch": 64, "global_batch_size": 64},
    ),
]


@pytest.mark.parametrize(("name", "spec", "words", "numbers"), BROKEN)
def test_broken(name: str, spec: ModelSpec, words: dict[str, Any], numbers: tuple[str, ...]) -> None:
    text = judge(BY_ID[name], spec, **words)
    assert text is not None
    assert all(number in text for number in numbers), text


@pytest.mark.parametrize(("name", "spec", "words"), KEPT)
def test_kept(name: str, spec: ModelSpec, words: dict[str, Any]) -> None:
    assert judge(BY_ID[name], spec, **words) is None


def test_every_rule_is_broken_and_kept() -> None:
    assert {case[0] for case in BROKEN} == {case[0] for case in KEPT} == set(BY_ID)
