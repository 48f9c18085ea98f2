"""Rules about virtual pipeline stages: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.interleaving import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import judge, model

BY_ID = {rule.id: rule for rule in RULES}

GROUP = "microbatch_group_size_per_vp_stage"

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("pipeline.vpp-needs-pp", model(), {"vpp": 2}, ("vpp=2", "pp=1", "virtual_pipeline_model_parallel_size=null")),
    ("pipeline.vpp-needs-pp", model(), {"vpp": 1}, ("vpp=1", "pp=1")),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 6}, ("6 mod 4 = 2", "pp=4")),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 2}, ("at least 4", "there are 2")),
    # vpp=1 is "virtual pipeline on": the interleaved schedule and its rules come with it.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 1, "num_microbatches": 6}, ("6 mod 4 = 2",)),
    (
        "pipeline.vpp-microbatches",
        model(),
        {"pp": 4, "vpp": 2, "num_microbatches": 9, GROUP: 6},
        ("9 mod 6 = 3", "pp=4"),
    ),
    (
        "pipeline.vpp-microbatches",
        model(),
        {"pp": 4, "vpp": 2, "num_microbatches": 8, GROUP: 2},
        (GROUP + "=2", "pp=4"),
    ),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 4, GROUP: 8}, ("at least 8",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("pipeline.vpp-needs-pp", model(), {"pp": 2, "vpp": 2}),
    ("pipeline.vpp-needs-pp", model(), {"pp": 2, "vpp": 1}),
    ("pipeline.vpp-needs-pp", model(), {}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 8}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 4}),
    # A group of its own takes counts that pp does not divide, and a remainder of at least pp.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 6, GROUP: 6}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 10, GROUP: 6}),
    # Without interleaving any count will do, fewer than ranks too.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "num_microbatches": 6}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "num_microbatches": 1}),
    # Two ranks with virtual stages are fine on Megatron Bridge (the Megatron-LM command line wants overlapped sends).
    ("pipeline.vpp-microbatches", model(), {"pp": 2, "vpp": 2, "num_microbatches": 2}),
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
