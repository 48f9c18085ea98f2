"""Bytes that a parameter costs while training: itself, its gradient, its share of the optimizer.

Adam with Megatron's distributed optimizer: bf16 parameter 2 B, fp32 gradient 4 B (Bridge ``bf16_mixed`` reduces in
fp32), and 12 B (fp32 master, two fp32 moments) split over the parameter's own data-parallel group: ``dp * cp`` ranks
for dense parameters, ``edp`` ranks for routed experts. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/optimizer/distrib_optimizer.py``, ``megatron/core/distributed/param_and_grad_buffer.py``.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.problem import Problem
from constraints.rule import Degrees

__all__ = ["GRADIENT_BYTES", "OPTIMIZER_BYTES", "dense_shards", "expert_shards", "parameter_bytes", "training_bytes"]

GRADIENT_BYTES = 4
OPTIMIZER_BYTES = 12

_WEIGHT_COPIES = {"bf16": 0, "fp16": 0, "nvfp4": 1}
"""Extra bytes per parameter for quantized copies kept while micro-batches reuse them; fp8 keeps a weight and a transpose."""


def parameter_bytes(p: Problem) -> int:
    """Bytes of one stored parameter: bf16, plus the cached low-precision copies that fp8 and fp4 training keep."""
    return 2 + _WEIGHT_COPIES.get(p.precision, 2)


def trains_all(p: Problem) -> bool:
    """False for LoRA, whose base weights are frozen: they have no gradient and no optimizer state."""
    return p.task != "lora"


@once
def dense_shards(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Ranks over which the optimizer state of a dense parameter is split."""
    return a.mul(x.dp, x.cp) if p.settings.use_distributed_optimizer else 1


@once
def expert_shards(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Ranks over which the optimizer state of a routed expert is split."""
    return x.edp if p.settings.use_distributed_optimizer else 1


def training_bytes(a: Arithmetic, p: Problem, elements: Quantity, shards: Quantity) -> dict[str, Quantity]:
    """Bytes by component for ``elements`` local parameters whose optimizer state is split over ``shards`` ranks.

    >>> from constraints.arithmetic import Integers  # 1000 elements over 4 ranks: 2000 + 4000 + 3000
    """
    out = {"parameters": elements * parameter_bytes(p)}
    if trains_all(p):
        out["gradients"] = elements * GRADIENT_BYTES
        out["optimizer"] = a.ceil_div(elements * OPTIMIZER_BYTES, shards)
    return out
