"""Weight gradients added to the main gradients in every micro-batch: bytes through HBM that no product needs.

With ``gradient_accumulation_fusion`` the product itself reads and writes the buffer (``main_grad``, 4 or 2 bytes an
element) instead of writing a bf16 gradient. What then shows was measured on an H100 (cuBLASLt, bf16 and fp8, single
products and grouped ones; ``tests/timing/test_accumulation.py``): ``exposed.accumulation`` of the bytes beyond the two,
more where a product is shorter than they are, which is not modelled. Without fusion, and for the embedding's table always,
Megatron's hook adds the gradient in a pass of its own. Megatron FSDP reduces each micro-batch's gradients and adds to a
shard: next to nothing.

Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/tensor_parallel/layers.py`` and
``distributed/distributed_data_parallel.py`` (``_make_backward_post_hook``); NVIDIA/TransformerEngine@d0067d0
``pytorch/module/linear.py`` (``accumulate_wgrad_into_param_main_grad``).
"""

from __future__ import annotations

from dataclasses import dataclass

from constraints.memory.optimizer import gradient_bytes, trains_all
from constraints.problem import Problem

__all__ = ["Added", "added_bytes", "sharded", "table_bytes"]

PLAIN_BYTES = 2
"""A gradient in bf16, as a product writes it that adds to nothing."""


@dataclass(frozen=True)
class Added:
    """Bytes for each weight and micro-batch: ``beside`` the product, some of which hide, and ``apart``, none of which do."""

    beside: int = 0
    apart: int = 0


def added_bytes(p: Problem) -> Added:
    """What a GEMM weight costs."""
    if sharded(p) or not trains_all(p):
        return Added()
    buffer = 2 * gradient_bytes(p)
    if p.settings.gradient_accumulation_fusion:
        return Added(beside=buffer - PLAIN_BYTES)
    return Added(apart=PLAIN_BYTES + buffer)


def table_bytes(p: Problem) -> int:
    """What an element of an embedding's table costs: its dense gradient zeroed, read, and added; rows scattered are apart."""
    if not trains_all(p):
        return 0
    return 2 * PLAIN_BYTES + (0 if sharded(p) else 2 * gradient_bytes(p))


def sharded(p: Problem) -> bool:
    """True where parameters themselves are sharded and gathered in every micro-batch."""
    s = p.settings
    fsdp = s.use_megatron_fsdp or s.use_megatron_fsdp_v2 or s.use_torch_fsdp2
    return fsdp and s.data_parallel_sharding_strategy in (None, "optim_grads_params")
