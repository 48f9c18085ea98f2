"""The order of a model's layer kinds, as far as a partition of the layers depends on it."""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Runs", "ends_with", "fewest_beside", "fewest_in_windows", "runs_of", "starts_with"]


class Runs(NamedTuple):
    """``prefix`` layers of the kind ``early``, then ``body`` layers of the kind ``common``."""

    early: LayerKind
    prefix: int
    common: LayerKind
    body: int


@lru_cache(maxsize=256)
def runs_of(model: ModelSpec) -> Runs | None:
    """The layers of a model in at most two runs, such as a few dense ones before those with experts; else ``None``.

    >>> from models_catalog.loader import load_model
    >>> runs = runs_of(load_model("deepseek-v3"))
    >>> runs.prefix, runs.body
    (3, 58)
    """
    runs = [(kind, len(list(run))) for kind, run in groupby(model.layer_kinds)]
    if len(runs) == 1:
        return Runs(runs[0][0], 0, *runs[0])
    return Runs(*runs[0], *runs[1]) if len(runs) == 2 and runs[0][1] <= runs[1][1] else None


@lru_cache(maxsize=4096)
def fewest_in_windows(model: ModelSpec, kind: LayerKind, length: int) -> int:
    """The fewest layers of ``kind`` among ``length`` consecutive ones, anywhere in the model."""
    kinds = model.layer_kinds
    if length > len(kinds):
        return kinds.count(kind)
    return min(kinds[i : i + length].count(kind) for i in range(len(kinds) - length + 1))


@lru_cache(maxsize=4096)
def fewest_beside(model: ModelSpec, kind: LayerKind, other: LayerKind, count: int) -> int:
    """The fewest layers of ``other`` among consecutive ones of which ``count`` are of ``kind``; all if those are too few."""
    places = [i for i, here in enumerate(model.layer_kinds) if here == kind]
    if count > len(places):
        return model.layer_kinds.count(other)
    spans = zip(places, places[count - 1 :], strict=False) if count else ()
    return min((model.layer_kinds[first:last].count(other) for first, last in spans), default=0)


def starts_with(model: ModelSpec, kind: LayerKind, length: int) -> int:
    """Layers of ``kind`` among the first ``length``."""
    return model.layer_kinds[:length].count(kind)


def ends_with(model: ModelSpec, kind: LayerKind, length: int) -> int:
    """Layers of ``kind`` among the last ``length``."""
    return model.layer_kinds[len(model.layer_kinds) - length :].count(kind)
