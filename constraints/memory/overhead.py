"""What the device holds besides PyTorch's allocations, and the margin of the estimate.

The interval runs from what nothing can go below to what has been seen to go wrong; the whole margin is in it, none is
hidden in the budget. Device memory is ``allocated * fragmentation + context + communicators + dispatcher + graphs``.
Sources: reserved over allocated on 55 measured B200 stages is 1.017 / 1.040 / 1.093 (least, median, most) without expandable
segments (MooreThreads/SimuMax v1.2), 1.024 / 1.040 / 1.21 on Megatron Bridge verification cards; CUDA context and libraries
0.5-0.8 GiB and NCCL 0.3-0.5 GiB per communicator in use (seen on clusters, not measured here); rows without a formula on
MoE stages 0.2-1.0 GiB (SimuMax v1.2 sees the same). One estimate in twenty is more than 8 % off
(``benchmarks/memory_accuracy``), hence the low end.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.dispatch import DEFAULT_BACKEND
from constraints.problem import GIB, Problem
from constraints.rule import Degrees

__all__ = ["LOW_PERCENT", "always_bytes", "communicators", "device_bytes", "high_bytes", "low_bytes", "margin_bytes"]

WORKSPACE_BYTES = GIB // 10
"""cuBLAS (32 MiB a stream) and Transformer Engine workspaces, rotary cache, masks: 0.1 GiB is what Megatron-LM's small golden
runs hold beyond the formulas."""

MOE_WORKSPACE_BYTES = 3 * GIB // 10
"""Grouped-GEMM workspaces, permutation buffers and what no formula explains on MoE stages."""

CONTEXT_BYTES = 8 * GIB // 10
COMMUNICATOR_BYTES = 4 * GIB // 10
GRAPH_BYTES = 6 * GIB
"""Static buffers of CUDA graphs around modules; full-iteration graphs keep about as much."""

DISPATCHER_BYTES = {"deepep": 2 * GIB, "hybridep": 2 * GIB, "ncclep": GIB}
HIGH_PERCENT, HIGH_PERCENT_SEGMENTED, LIKELY_PERCENT, LOW_PERCENT = 110, 105, 104, 92
RESIDUAL_BYTES, MOE_RESIDUAL_BYTES = GIB // 2, GIB


def always_bytes(p: Problem) -> int:
    """Allocated by any rank whatever the degrees."""
    return WORKSPACE_BYTES + (MOE_WORKSPACE_BYTES if p.model.is_moe else 0)


@once
def communicators(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Kinds of NCCL communicator in use: tensor, context, pipeline, data, and for MoE expert, expert-tensor, expert-data."""
    degrees = [x.tp, x.cp, x.pp, x.dp]
    if p.model.is_moe:
        degrees += [x.ep, x.etp, x.edp]
    # min(degree - 1, 1) is 1 where the group has more than one member
    count = 0
    for degree in degrees:
        count = count + a.minimum(degree - 1, 1)
    return count


def _buffers(p: Problem) -> dict[str, int]:
    """Bytes that PyTorch's allocator does not count, communicators aside, by what they are for."""
    settings = p.settings
    flex = settings.moe_token_dispatcher_type == "flex"
    backend = (settings.moe_flex_dispatcher_backend or DEFAULT_BACKEND) if flex else ""
    return {
        "context": CONTEXT_BYTES,
        "dispatcher": DISPATCHER_BYTES.get(backend, 0),
        "graphs": GRAPH_BYTES if settings.cuda_graph_impl != "none" else 0,
    }


def _unexplained(p: Problem) -> int:
    return MOE_RESIDUAL_BYTES if p.model.is_moe else RESIDUAL_BYTES


def _high_percent(p: Problem) -> int:
    return HIGH_PERCENT_SEGMENTED if p.expandable_segments else HIGH_PERCENT


def margin_bytes(p: Problem, allocated: int, groups: int) -> dict[str, int]:
    """What lies between ``allocated`` and the high estimate, by what it is for."""
    return {
        "fragmentation": allocated * (_high_percent(p) - 100) // 100,
        "communicators": groups * COMMUNICATOR_BYTES,
        **_buffers(p),
        "unexplained": _unexplained(p),
    }


def high_bytes(a: Arithmetic, p: Problem, x: Degrees, allocated: Quantity) -> Quantity:
    """100 times the upper end of the interval, so that no rounding is lost."""
    fixed = sum(_buffers(p).values()) + _unexplained(p)
    return allocated * _high_percent(p) + communicators(a, p, x) * (100 * COMMUNICATOR_BYTES) + 100 * fixed


def low_bytes(allocated: int) -> int:
    """The lower end of the interval in bytes: PyTorch's allocations alone, and those over-estimated."""
    return allocated * LOW_PERCENT // 100


def device_bytes(p: Problem, allocated: int, groups: int) -> int:
    """What the device most likely holds, in bytes: reserved memory, context, communicators, buffers."""
    return allocated * LIKELY_PERCENT // 100 + sum(_buffers(p).values()) + groups * COMMUNICATOR_BYTES
