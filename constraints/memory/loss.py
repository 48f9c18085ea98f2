"""Logits and loss on the stage that computes them.

Per logit of the local vocabulary slice: 6 B in the forward pass (bf16 logits, fp32 copy), of which 4 B stay until the
backward pass, where 2 B of gradient and 2 B of its copy join them; the output projection's backward adds its input
twice and one weight gradient. An MTP layer holds a loss of its own at the same time. Source: Transformer Engine since
PR #3193 (``transformer_engine/pytorch/cross_entropy.py``), the largest of the implementations in use.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.memory.activations import tokens
from constraints.memory.parameters import embedding_parameters, local_vocabulary
from constraints.problem import Problem
from constraints.rule import Degrees

__all__ = ["loss_bytes"]


@once
def loss_bytes(a: Arithmetic, p: Problem, x: Degrees, heads: int) -> Quantity:
    """Bytes at the peak of the loss of ``heads`` output projections (the main one and one per MTP layer)."""
    if heads == 0:
        return 0
    logits = a.mul(tokens(a, p, x), local_vocabulary(a, p, x))
    held = logits * (4 * (heads - 1))
    return held + logits * 8 + tokens(a, p, x) * (4 * p.model.hidden_size) + embedding_parameters(a, p, x) * 2
