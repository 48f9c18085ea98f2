"""What tensor ranks gather in low precision: bytes an element of each collective of a block, and who casts what."""

from __future__ import annotations

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import WHOLE_LAYERS, Layout
from constraints.timing.communication import tensor_collectives
from constraints.timing.overlap import exposed_tensor_ns
from constraints.timing.rates import rates_of
from constraints.timing.work import gemm
from tests.timing.builders import calibrated, problem

PRECISIONS = [
    ("bf16", 5 * 2, 2),
    ("fp8_cs", 2 * 2 + 3, 1),  # a byte each
    ("fp8_ds", 2 * 2 + 3, 1),
    ("fp8_mx", 2 * 2 + 4 * 33 / 32, 33 / 32),  # the gradient by rows and by columns; a scale for 32 elements
    ("fp8_sc", 2 * 2 + 4 * 33 / 32, 33 / 32),
    ("nvfp4", 2 * 2 + 4 * 9 / 16, 9 / 16),  # half a byte, and a scale for 16
]
"""Bytes an element of the five collectives of a block, and of one gather forward."""


def seconds(precision: str, *, exposed: float | None = None, recompute: bool = False, sp: bool = True) -> float:
    """Of one layer's tensor collectives, with micro-batches so large that latency is nothing."""
    known = calibrated(**({} if exposed is None else {"exposed__tp": exposed}))
    p = problem("llama-3-70b", "b200", 8, precision=precision, calibration=known)
    x = Layout(tp=8, sequence_parallel=sp, micro_batch_size=1024)
    formula = tensor_collectives if exposed is None else exposed_tensor_ns
    return float(formula(Remembering(), p, x, p.model.layer_kinds[0], WHOLE_LAYERS if recompute else None))


@pytest.mark.parametrize(("precision", "bytes_", "gather"), PRECISIONS)
def test_three_of_a_block_s_five_collectives_carry_what_was_cast(precision: str, bytes_: float, gather: float) -> None:
    unit = seconds("bf16") / 20  # two blocks of ten bytes
    assert seconds(precision) / unit == pytest.approx(2 * bytes_, rel=2e-3)
    assert seconds(precision, exposed=0.5) / unit == pytest.approx(bytes_, rel=2e-3)
    again = seconds(precision, recompute=True) - seconds(precision)
    assert again / unit == pytest.approx(2 * (2 + gather), rel=2e-3)


@pytest.mark.parametrize("precision", [precision for precision, _, _ in PRECISIONS])
def test_without_sequence_parallelism_sums_are_in_16_bits(precision: str) -> None:
    assert seconds(precision, sp=False) == pytest.approx(seconds("bf16") * 4 / 5, rel=1e-3)


@pytest.mark.parametrize(
    ("gpu", "precision", "turned"), [("b200", "fp8_cs", 0), ("h100", "fp8_cs", 2), ("h100", "fp8_sc", 0)]
)
def test_each_rank_casts_its_shard_and_turns_what_it_gathered_where_it_must(
    gpu: str, precision: str, turned: int
) -> None:
    r = rates_of(problem("llama-3-70b", gpu, 8, precision=precision))
    whole, shared = gemm(r, 4096, 8192), gemm(r, 4096, 8192, input_shards=8)
    left_to_others = 7 / 8 * 8192 * (r.cast_bytes - turned) * r.hbm_ps
    assert whole.both - shared.both == pytest.approx(left_to_others)
    assert gemm(r, 8192, 4096, output_shards=8).both == pytest.approx(gemm(r, 8192, 4096).both - left_to_others)
