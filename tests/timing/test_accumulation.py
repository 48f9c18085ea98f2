"""Weight gradients added to the main gradients: bytes by hand, and the share of them that shows as it was measured."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import Layout, Settings
from constraints.timing.calibration import shipped
from constraints.timing.compute import embedding_ns, experts_ns
from constraints.timing.rates import rates_of
from constraints.timing.work import gemm
from tests.timing.builders import calibrated, problem

SHOWN = {512: (1.05, 0.77), 1024: (0.89, 0.41), 2048: (0.70, 0.47), 4096: (0.58, 0.47), 8192: (0.50, 0.31)}
"""By tokens, for fp32 and for bf16 main gradients: what a product takes longer that adds to them than one that writes bf16,
of the time of the bytes in between at 0.78 of HBM's rate. H100, cuBLASLt of CUDA 13; medians over bf16 and fp8 operands of
6144 x 4096 to 16384 x 16384 weights, and groups of 8 to 32 experts of 1536 x 2048 to 4096 x 7168."""

ALL_SHARDED = {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"}

BYTES: list[tuple[dict[str, Any], str, float, int]] = [
    ({}, "pretrain", 0.5 * 6, 12),
    ({"grad_reduce_in_fp32": False}, "pretrain", 0.5 * 2, 8),
    ({"gradient_accumulation_fusion": False}, "pretrain", 10, 12),
    ({"gradient_accumulation_fusion": False, "grad_reduce_in_fp32": False}, "pretrain", 6, 8),
    (ALL_SHARDED, "pretrain", 0, 4),
    ({}, "lora", 0, 0),
]
"""Switches and task; bytes of a GEMM weight, half of what hides shown, and of an element of the embedding's table."""


@pytest.mark.parametrize(("switches", "task", "weight", "table"), BYTES)
def test_a_weight_costs_its_bytes_in_each_micro_batch(
    switches: dict[str, Any], task: str, weight: float, table: int
) -> None:
    known = calibrated(exposed__accumulation=0.5, small_k=0.0)
    p = problem("llama-3-70b", "h100", 8, settings=Settings(**switches), task=task, calibration=known)
    byte_ps = 1e12 / (3.35e12 * 0.78)
    assert gemm(rates_of(p), 28672, 8192, trained=task != "lora").fixed == pytest.approx(
        28672 * 8192 * weight * byte_ps
    )
    rows = 4096 * 12 * 8192 * byte_ps / 1000
    of_table = 128256 * 8192 * table * byte_ps / 1000
    assert embedding_ns(Remembering(), p, Layout()) == pytest.approx(rows + of_table, rel=1e-3)


@pytest.mark.parametrize("ep", [1, 4])
def test_so_does_each_local_expert(ep: int) -> None:
    def time(shown: float) -> int:
        p = problem("qwen3-30b-a3b", "h100", 8, calibration=calibrated(exposed__accumulation=shown))
        return int(experts_ns(Remembering(), p, Layout(ep=ep)))

    weights = 128 // ep * 3 * 2048 * 768
    assert time(0.5) - time(0.0) == pytest.approx(weights * 0.5 * 6 * 1e9 / (3.35e12 * 0.78), rel=1e-3)


def test_the_share_that_shows_is_the_measured_one() -> None:
    """In the mean of both widths; a product of 512 tokens is too short to hide anything, and is charged too little."""
    shown = shipped()["exposed.accumulation"]
    assert shown == pytest.approx(mean(one for tokens, both in SHOWN.items() if tokens > 512 for one in both), abs=0.06)
    assert all(abs(mean(both) - shown) < 0.2 for tokens, both in SHOWN.items() if tokens > 512)
    assert shown < min(SHOWN[512])
