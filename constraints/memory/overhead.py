"""What the device holds besides PyTorch's allocations, and the margin of the estimate.

The interval is ``low = 0.95 * allocated + context`` to ``high = 1.05 * allocated + residual + context +
communicators``: the margin is stated, not hidden in the budget. Sources: CUDA context and libraries 0.5-0.8 GiB, NCCL
0.3-0.5 GiB per communicator in use, unexplained residual 0.2-1.0 GiB on MoE rows, reserved over allocated 1.04 (median
of 55 measured B200 stages, ``MooreThreads/SimuMax`` v1.2 and Megatron Bridge verification cards).
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.problem import GIB, Problem
from constraints.rule import Degrees

__all__ = ["ALWAYS_BYTES", "communicators", "device_bytes", "high_bytes", "low_bytes"]

ALWAYS_BYTES = GIB // 20
"""Allocated by any rank: cuBLAS and Transformer Engine workspaces, rotary cache, masks (0.05 GiB)."""

CONTEXT_BYTES = 8 * GIB // 10
COMMUNICATOR_BYTES = 4 * GIB // 10
RESIDUAL_BYTES = GIB // 2
MOE_RESIDUAL_BYTES = GIB
HIGH_PERCENT, LIKELY_PERCENT, LOW_PERCENT = 105, 104, 95


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


def high_bytes(a: Arithmetic, p: Problem, x: Degrees, allocated: Quantity) -> Quantity:
    """100 times the upper end of the interval, so that no rounding is lost: see :data:`HIGH_PERCENT`."""
    fixed = CONTEXT_BYTES + RESIDUAL_BYTES + (MOE_RESIDUAL_BYTES if p.model.is_moe else 0)
    return allocated * HIGH_PERCENT + communicators(a, p, x) * (100 * COMMUNICATOR_BYTES) + 100 * fixed


def low_bytes(allocated: int) -> int:
    """The lower end of the interval in bytes: nothing went wrong and no communicator took its share."""
    return allocated * LOW_PERCENT // 100 + CONTEXT_BYTES


def device_bytes(allocated: int, groups: int) -> int:
    """What the device most likely holds, in bytes: reserved memory, context and communicators."""
    return allocated * LIKELY_PERCENT // 100 + CONTEXT_BYTES + groups * COMMUNICATOR_BYTES
