"""Logits and loss on the stage that computes them, at the two moments that can be the stage's peak.

Bytes per logit of the local vocabulary slice, by implementation (``cross_entropy_fusion_impl``)::

                                     forward   kept   its backward
    not fused                         2 + 4      4       4 + 2      bf16 logits, fp32 exponentials; bf16 gradient
    native                            2 + 4 + 4  4       4 + 4 + 2  one fp32 copy more: 3.4-4.0 B a logit on golden runs
    te, Transformer Engine < 2.20     2          2       2          in place
    te, Transformer Engine >= 2.20    2 + 4      4       4 + 2      an fp32 gradient since PR #3193

Then the output projection's backward: 2 B a logit of gradient, its input (gathered once more with sequence parallelism)
and the input's gradient, one weight gradient. An MTP layer keeps a loss of its own at the same time. Source:
NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/tensor_parallel/cross_entropy.py``, ``fusions/fused_cross_entropy.py``;
``transformer_engine/pytorch/cross_entropy.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.memory.activations import stage_input_bytes, tokens
from constraints.memory.parameters import embedding_parameters, local_vocabulary
from constraints.problem import Problem
from constraints.rule import Degrees

__all__ = ["loss_backward_bytes", "loss_forward_bytes"]


class PerLogit(NamedTuple):
    """Bytes per logit: at the forward peak, kept until the backward pass, and at its own backward peak."""

    forward: int
    kept: int
    backward: int


IN_PLACE, WITH_COPY, NATIVE = PerLogit(2, 2, 2), PerLogit(6, 4, 6), PerLogit(10, 4, 10)
COPY_SINCE = (2, 20)


def _per_logit(p: Problem) -> PerLogit:
    if not p.settings.cross_entropy_loss_fusion:
        return WITH_COPY
    if p.settings.cross_entropy_fusion_impl == "native":
        return NATIVE
    return IN_PLACE if p.transformer_engine < COPY_SINCE else WITH_COPY


@once
def _logits(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    return a.mul(tokens(a, p, x), local_vocabulary(a, p, x))


@once
def loss_forward_bytes(a: Arithmetic, p: Problem, x: Degrees, heads: int) -> Quantity:
    """Bytes of the losses of ``heads`` output projections when the last of them is computed."""
    if heads == 0:
        return 0
    cost = _per_logit(p)
    return _logits(a, p, x) * (cost.kept * (heads - 1) + cost.forward)


@once
def loss_backward_bytes(a: Arithmetic, p: Problem, x: Degrees, heads: int) -> Quantity:
    """Bytes of the losses of ``heads`` output projections when the first of them runs backward."""
    if heads == 0:
        return 0
    cost, logits, h = _per_logit(p), _logits(a, p, x), p.model.hidden_size
    inputs = tokens(a, p, x) * (2 * h)
    projection = logits * 2 + inputs + a.mul(inputs, x.sequence_parallel) + embedding_parameters(a, p, x) * 2
    return (
        logits * (cost.kept * (heads - 1)) + a.maximum(logits * cost.backward, projection) + stage_input_bytes(a, p, x)
    )
