"""The memory rule: broken by one layout and kept by a near twin, at the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from constraints.layout import PipelineSplit
from constraints.memory.budget import RULES, memory_report
from constraints.problem import GIB
from models_catalog.loader import load_gpu, load_model
from models_catalog.schema import ModelSpec
from tests.rules.builders import FULL, judge, model, said, verdict

(CAPACITY,) = RULES
H100 = {"gpu": load_gpu("h100"), "budget_bytes": int(79.1 * GIB), "seq_length": 4096, "sequence_parallel": True}
SEVENTY = load_model("llama-3.1-70b")

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("weights alone", load_model("llama-3.1-405b"), {"gpus": 8, "tp": 8}, ("stage 0", "h100", "79.1 usable")),
    ("no tensor parallelism", SEVENTY, {"gpus": 64, "pp": 4}, ("h100", "79.1 usable")),
    (
        "a longer sequence",
        SEVENTY,
        {"gpus": 64, "tp": 8, "pp": 4, "num_microbatches": 8, "seq_length": 65536},
        ("h100",),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    (
        "on more GPUs",
        load_model("llama-3.1-405b"),
        {
            "gpus": 512,
            "tp": 8,
            "pp": 14,
            "recompute": FULL,
            "split": PipelineSplit(account_for_embedding=False, first=9, last=9),
        },
    ),
    ("tensor parallelism", SEVENTY, {"gpus": 64, "tp": 8, "pp": 4}),
    (
        "a longer sequence, recomputed",
        SEVENTY,
        {"gpus": 64, "tp": 8, "pp": 4, "num_microbatches": 8, "seq_length": 65536, "recompute": FULL},
    ),
    ("layers that are not placed are the split's fault", SEVENTY, {"gpus": 7, "pp": 7}),
]


@pytest.mark.parametrize(("spec", "words", "numbers"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken(spec: ModelSpec, words: dict[str, Any], numbers: tuple[str, ...]) -> None:
    text = judge(CAPACITY, spec, **H100 | words)
    assert text is not None
    assert all(number in text for number in numbers), text


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in KEPT], ids=[case[0] for case in KEPT])
def test_kept(spec: ModelSpec, words: dict[str, Any]) -> None:
    assert judge(CAPACITY, spec, **H100 | words) is None


def test_the_budget_is_met_to_the_byte() -> None:
    asked, answer = said(model(), tp=8)
    report = memory_report(asked, answer)
    assert report is not None
    assert verdict(CAPACITY, replace(asked, budget_bytes=report.high_bytes), answer) is None
    text = verdict(CAPACITY, replace(asked, budget_bytes=report.high_bytes - 1), answer)
    assert text is not None
    assert f"{report.high_bytes / GIB:.1f} GiB ({report.allocated_bytes / GIB:.1f} allocated)" in text


def test_borderline_is_between_the_low_and_the_high_estimate() -> None:
    asked, answer = said(model(), tp=8)
    report = memory_report(asked, answer)
    assert report is not None
    assert report.low_bytes < report.peak_bytes < report.high_bytes
    for budget, word, allowed in (
        (report.high_bytes, "fits", True),
        (report.high_bytes - 1, "borderline", True),
        (report.low_bytes, "borderline", True),
        (report.low_bytes - 1, "does not fit", False),
    ):
        lenient = replace(asked, budget_bytes=budget, allow_borderline=True)
        found = memory_report(lenient, answer)
        assert found is not None
        assert found.verdict == word
        assert CAPACITY.holds(lenient, answer) is allowed
        assert CAPACITY.holds(replace(lenient, allow_borderline=False), answer) is (word == "fits")


def test_it_speaks_of_the_fullest_stage() -> None:
    """The first of four ranks holds four micro-batches in flight, the last one the logits of a huge vocabulary."""
    asked, answer = said(model(), pp=4, num_microbatches=8, budget_bytes=GIB)
    text = verdict(CAPACITY, asked, answer)
    assert text is not None
    assert text.startswith("stage 0 ")
    asked, answer = said(model(vocab_size=2_000_000), pp=4, num_microbatches=8, budget_bytes=GIB)
    text = verdict(CAPACITY, asked, answer)
    assert text is not None
    assert text.startswith("stage 3 ")
