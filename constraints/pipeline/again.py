"""Layers that block recompute computes again: the first ``N`` of each chunk, so many of each kind as a rank builds or holds.

Uniform recompute computes every layer again, and is no matter of counts. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/recompute.py::checkpointed_forward``, for decoder and hybrid blocks alike, a block being the layers of one
virtual stage. Its exception, layers in low precision whose input has no gradient, does not arise: Megatron Bridge gives
frozen blocks an input that has one (``megatron/bridge/peft/recompute.py::maybe_enable_recompute_inputs_grad``). MTP layers
are left alone (``megatron/core/transformer/multi_token_prediction.py::MultiTokenPredictionLayer._checkpointed_forward``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

from constraints.arithmetic import Arithmetic, Quantity
from constraints.partition.kinds import Runs, runs_of
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["CountsAtLeast", "alive_again", "evenly_again", "kinds_meant", "layers_again", "layers_again_in_all"]

Counts = tuple[tuple[LayerKind, Quantity], ...]
CountsAtLeast = tuple[tuple[LayerKind | None, Quantity], ...]
"""Of kinds that are known, and of some kind or other (``None``)."""


def kinds_meant(model: ModelSpec, kind: LayerKind | None) -> list[LayerKind]:
    """The kinds that a layer computed again may be of: its own, or any of the model's."""
    return [kind] if kind is not None else sorted(set(model.layer_kinds))


def layers_again(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> CountsAtLeast:
    """Layers of ``stage`` that are computed again; the solver may not know of which kind some of them are."""
    first = x.recompute_layers
    if isinstance(first, int) or not isinstance(stage, Stage):
        return stage.again(p.model, first) if _some(first) else ()
    return tuple((kind, a.lookup(_again(stage, kind), p, first)) for kind, _ in stage.layers)


def alive_again(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Counts:
    """The same, interleaved times the micro-batches in flight: layers of which the input is kept only."""
    first = x.recompute_layers
    if isinstance(first, int) or not isinstance(stage, Stage):
        return stage.again_live(p.model, first) if _some(first) else ()
    return tuple((kind, a.lookup(_again_live(stage, kind), p, first)) for kind, _ in stage.layers)


def layers_again_in_all(a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity) -> Counts:
    """Layers of the whole model that are computed again on ``pp`` ranks of ``chunks`` chunks as even as they come.

    What a rank waits for the others is the same then wherever the layers go. On uneven chunks, some of which have fewer
    layers than are computed again, it is a little too much.
    """
    first, runs = x.recompute_layers, runs_of(p.model)
    if not _some(first):
        return ()
    in_all = a.mul(x.pp, chunks)
    if runs is None:
        assert isinstance(first, int), "the count is no decision where layers of different kinds alternate"
        return evenly_again(p.model, in_all, first)
    return _again_of_runs(a, runs, a.minimum(a.mul(in_all, first), p.model.num_layers), first)


def _again_of_runs(a: Arithmetic, runs: Runs, total: Quantity, first: Quantity) -> Counts:
    """``total`` layers by kind, the first run being in the first chunk as far as there are others."""
    if not runs.prefix:
        return ((runs.common, total),)
    early = a.minimum(runs.prefix, a.maximum(first, total - runs.body))
    return ((runs.early, early), (runs.common, total - early))


def _some(first: Quantity) -> bool:
    return not isinstance(first, int) or first > 0


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


@lru_cache(maxsize=4096)
def _again(stage: Stage, kind: LayerKind) -> Callable[[Problem, int], int]:
    return lambda p, first: dict(stage.again(p.model, first)).get(kind, 0)


@lru_cache(maxsize=4096)
def _again_live(stage: Stage, kind: LayerKind) -> Callable[[Problem, int], int]:
    return lambda p, first: dict(stage.again_live(p.model, first)).get(kind, 0)
