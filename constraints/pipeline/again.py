"""Layers that block recompute computes again: the first ``N`` of each chunk, so many of each kind as a rank builds or holds.

Uniform recompute computes every layer again, and is no matter of counts. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/recompute.py::checkpointed_forward``, for decoder and hybrid blocks alike, a block being the layers of one
virtual stage. Its exception, layers in low precision whose input has no gradient, does not arise: Megatron Bridge gives
frozen blocks an input that has one (``megatron/bridge/peft/recompute.py::maybe_enable_recompute_inputs_grad``). MTP layers
are left alone (``megatron/core/transformer/multi_token_prediction.py::MultiTokenPredictionLayer._checkpointed_forward``).
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import pairwise

from constraints.arithmetic import Arithmetic, Quantity
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["evenly_again", "layers_again", "layers_again_in_all"]

Counts = tuple[tuple[LayerKind, Quantity], ...]


def layers_again(p: Problem, x: Degrees, stage: Stage) -> Counts:
    """Layers of ``stage`` that are computed again."""
    first = x.recompute_layers
    return stage.again(p.model, first) if first else ()


def layers_again_in_all(a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity) -> Counts:
    """The same of the whole model on ``pp`` ranks of ``chunks`` chunks, taken to be as long as each other or one longer.

    What a rank waits for the others is the same then wherever the layers go. On uneven chunks, some of which have fewer
    layers than are computed again, it is a little too much.
    """
    first = x.recompute_layers
    return evenly_again(p.model, a.mul(x.pp, chunks), first) if first else ()


@lru_cache(maxsize=4096)
def evenly_again(model: ModelSpec, chunks: int, first: int) -> Counts:
    """The first ``first`` layers of each of ``chunks`` even chunks, by kind.

    >>> from models_catalog.loader import load_model
    >>> [count for _, count in evenly_again(load_model("deepseek-v3"), 16, 2)]  # of the three dense layers one is third
    [2, 30]
    """
    counts: Counter[LayerKind] = Counter()
    ends = [model.num_layers * i // chunks for i in range(chunks + 1)]
    for start, stop in pairwise(ends):
        counts.update(model.layer_kinds[start : min(stop, start + first)])
    return tuple(sorted(counts.items()))
