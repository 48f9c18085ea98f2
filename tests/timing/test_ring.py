"""Attention in a ring's parts, against one measured on an H100 step by step as Transformer Engine runs it.

cuDNN 9 through PyTorch 2.11, bf16, heads of 128, the rank in the middle of the ring, no communication; cases that launches
held up are left out. Figures are times the share of the whole sequence's attention, forward and backward together.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Layout, Recompute, Settings
from constraints.problem import Problem
from constraints.timing.compute import attention_ns, layer_ns, ring_ns
from constraints.timing.rates import rates_of
from constraints.timing.ring import ring_work
from constraints.timing.work import core_attention
from tests.timing.builders import calibrated, problem

PARTS = {
    (64, 4096, 2): 1.206,
    (128, 4096, 2): 1.185,
    (128, 4096, 4): 1.541,
    (64, 8192, 2): 1.092,
    (128, 8192, 2): 1.055,
    (64, 8192, 4): 1.288,
    (128, 8192, 4): 1.235,
    (64, 16384, 4): 1.092,
    (128, 16384, 4): 1.020,
    (64, 16384, 8): 1.356,
    (128, 16384, 8): 1.254,
    (64, 32768, 4): 1.036,
    (64, 32768, 8): 1.115,
    (32, 65536, 8): 1.071,
}
"""By heads, tokens and ranks: partial results left apart."""

MERGED = {
    (64, 16384, 2): 1.175,
    (128, 16384, 2): 1.097,
    (64, 16384, 4): 1.264,
    (128, 16384, 4): 1.238,
    (64, 16384, 8): 1.667,
    (128, 16384, 8): 1.480,
    (32, 32768, 4): 1.112,
    (64, 32768, 4): 1.123,
    (32, 32768, 8): 1.287,
    (64, 32768, 8): 1.279,
    (32, 65536, 4): 1.056,
    (32, 65536, 8): 1.110,
}
"""The same with partial results put together."""

AS_MEASURED = {"attention__hopper": 0.7, "attention__short_sequence": 1300}
"""What the whole sequence reached on that machine: 656 TFLOP/s at 16384 tokens."""


def charged(heads: int, tokens: int, ranks: int, *, merging: bool) -> float:
    """Times the whole sequence's attention; queries, keys and values have as many heads."""
    known = calibrated(**AS_MEASURED | ({} if merging else {"hbm": 1e9}))
    p = multi_head(problem("llama-3-70b", "h100", 8, seq_length=tokens, calibration=known), heads)
    return float(1 + ring_work(p, 1, ranks).both / core_attention(rates_of(p), p, 1).both)


def multi_head(p: Problem, heads: int) -> Problem:
    model = replace(p.model, num_attention_heads=heads, num_query_groups=heads, kv_channels=128)
    return replace(p, model=model)


@pytest.mark.parametrize(("merging", "measured"), [(False, PARTS), (True, MERGED)])
def test_a_ring_takes_what_was_measured(merging: bool, measured: dict[tuple[int, int, int], float]) -> None:
    ratios = [charged(*case, merging=merging) / other for case, other in measured.items()]
    assert all(0.86 < ratio < 1.14 for ratio in ratios), ratios
    assert mean(ratios) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("kind", "rings"), [(None, True), ("p2p", True), ("a2a", False), ("all_gather", False)])
def test_only_a_ring_runs_attention_in_parts(kind: str | None, rings: bool) -> None:
    p = problem("llama-3-70b", "h100", 8, settings=Settings(cp_comm_type=kind))
    a, x = Remembering(), Layout(cp=4)
    assert (ring_ns(a, p, x) > 0) == rings
    assert ring_ns(Remembering(), p, Layout(cp=1)) == 0


def test_a_layer_computes_for_longer_in_a_ring() -> None:
    p = problem("llama-3-70b", "h100", 8)
    a, x = Remembering(), Layout(cp=4)
    there = layer_ns(a, p, x, p.model.layer_kinds[0])
    all_to_all = problem("llama-3-70b", "h100", 8, settings=Settings(cp_comm_type="a2a"))
    assert there - layer_ns(Remembering(), all_to_all, x, p.model.layer_kinds[0]) == ring_ns(a, p, x)
    assert ring_ns(a, p, x) > attention_ns(a, p, x) / 2  # parts of 1024 tokens


@pytest.mark.parametrize("recompute", [WHOLE_LAYERS, Recompute("selective", modules=("core_attn",))])
def test_attention_that_is_computed_again_runs_in_parts_again(recompute: Recompute) -> None:
    p, a, x = problem("llama-3-70b", "h100", 8), Remembering(), Layout(cp=4)
    forward = ring_work(p, 1, 4).forward * 1024 / 1000
    more = ring_ns(a, p, x, recompute) - ring_ns(a, p, x, NO_RECOMPUTE)
    assert more == pytest.approx(forward, rel=1e-3)
