"""What Transformer Engine gathers over tensor ranks in low precision: what each rank has cast of its shard.

With sequence parallelism a block has five collectives a micro-batch. Two scatter sums and stay in 16 bits. Three gather: the
block's input forward, again for its weight gradient, and the gradient of its output, and these are cast first. Scaled by
tensor, each is a byte an element, and turned where it was gathered if it must be. Formats with a scale for each block are
cast along rows and along columns apart: a gradient is needed both ways and gathered twice. User buffers change when that
happens, not how much. Without sequence parallelism sums are reduced in 16 bits.

Source: NVIDIA/TransformerEngine@d0067d0 ``pytorch/distributed.py`` (``gather_along_first_dim``, ``_all_gather_fp8``,
``_all_gather_mxfp8``, ``_all_gather_nvfp4``), ``pytorch/module/base.py`` (``grad_output_preprocess``),
``pytorch/module/layernorm_linear.py`` and ``linear.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from constraints.problem import Problem
from constraints.timing.rates import kind_of

__all__ = ["PARTS", "Gathered", "gathered"]

PARTS = 32
"""Sizes are counted in 32nds of a byte: MX scales are one byte for 32 elements, NVFP4's one for 16."""


@dataclass(frozen=True)
class Gathered:
    """``parts`` of a byte for each element gathered, scales included, and how often a gradient is gathered."""

    parts: int
    of_gradient: int


_FORMATS = {"fp8": Gathered(PARTS, 1), "fp8_block": Gathered(PARTS + 1, 2), "fp4": Gathered(PARTS // 2 + 2, 2)}


def gathered(p: Problem) -> Gathered | None:
    """The format, ``None`` where products run in 16 bits."""
    return _FORMATS.get(kind_of(p.gpu, p.precision))
