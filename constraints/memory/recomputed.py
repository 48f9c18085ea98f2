"""What full recompute keeps and rebuilds where that depends on the chunks of a rank, and not on its layers alone.

Uniform recompute keeps the input of each group of ``N`` layers of a chunk, ``ceil(layers / N)`` of them, and rebuilds a
whole group when its backward pass begins. Block recompute keeps the inputs of the first ``N`` layers of a chunk and all of
the others; it rebuilds one layer at a time, when those others are gone. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/recompute.py::checkpointed_forward``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Recompute
from constraints.memory.activations import backward_bytes, kept_bytes, stage_input_bytes
from constraints.pipeline.again import kinds_meant
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind

__all__ = ["beyond_shares", "inputs_of_groups", "rebuilt_bytes"]

Kinds = tuple[LayerKind, ...]


def beyond_shares(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """What the inputs of groups come to beyond each layer's share of one, for every micro-batch alive."""
    if not _known(x, stage) or x.recompute.group == 1:
        return 0
    counts = stage.live if stage.interleaved else stage.layers
    shares: Quantity = 0
    for kind, count in counts:
        shares = shares + kept_bytes(a, p, x, kind, x.recompute) * count
    return stage_input_bytes(a, p, x) * stage.groups_live(x.recompute.group) - shares


def inputs_of_groups(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """The inputs that groups of layers keep whose size is a decision."""
    if isinstance(stage, Stage):
        inputs = a.lookup(_groups_live(stage), p, x.recompute_group)
    else:
        inputs = sum(count for _, count in stage.live)
    return a.mul(stage_input_bytes(a, p, x), inputs)


def _rebuilt_at_least(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Of a group whose size is a decision, in the longest chunk, whichever layers it has."""
    kinds = kinds_meant(p.model, None)
    kept = a.minimum(*(kept_bytes(a, p, x, kind, NO_RECOMPUTE) for kind in kinds))
    widest = a.minimum(*(backward_bytes(a, p, x, kind, NO_RECOMPUTE) for kind in kinds))
    longest = max(chunk.layers for chunk in stage.chunks) if isinstance(stage, Stage) else stage.longest
    return a.mul(kept, a.minimum(x.recompute_group, longest)) + widest


@lru_cache(maxsize=4096)
def _groups_live(stage: Stage) -> Callable[[Problem, int], int]:
    return lambda p, group: stage.groups_live(group)


def rebuilt_bytes(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Bytes alive for a moment in the backward pass of what was rebuilt, less what its chunk has freed by then."""
    if not isinstance(x.recompute_group, int):
        return _rebuilt_at_least(a, p, x, stage)
    if not _known(x, stage) or not x.recompute.by_chunk:
        return 0
    chunks = {(p.model.layer_kinds[c.start : c.stop], p.model.mtp_kinds * c.mtp) for c in stage.chunks}
    return a.maximum(0, *(_rebuilt(a, p, x, layers, mtp) for layers, mtp in chunks))


def _known(x: Degrees, stage: Stage) -> bool:
    """True if it is settled what is recomputed and which layers the chunks hold."""
    return isinstance(x.recompute, Recompute) and isinstance(stage, Stage)


@once
def _rebuilt(a: Arithmetic, p: Problem, x: Degrees, layers: Kinds, mtp: Kinds) -> Quantity:
    """Of one chunk."""
    option = x.recompute
    if option.first:
        freed = _kept(a, p, x, layers[option.first :] + mtp)
        return a.maximum(0, *(backward_bytes(a, p, x, kind, WHOLE_LAYERS) for kind in layers[: option.first])) - freed
    return a.maximum(0, *(_group(a, p, x, group) for group in _groups(layers, option.group)))


def _groups(layers: Kinds, size: int) -> Iterator[Kinds]:
    for start in range(0, len(layers), size):
        yield layers[start : start + size]


def _group(a: Arithmetic, p: Problem, x: Degrees, group: Kinds) -> Quantity:
    """All layers of a group, and the widest of their backward passes."""
    widest = a.maximum(*(backward_bytes(a, p, x, kind, NO_RECOMPUTE) for kind in group))
    return _kept(a, p, x, group) + widest


def _kept(a: Arithmetic, p: Problem, x: Degrees, layers: Kinds) -> Quantity:
    total: Quantity = 0
    for kind in layers:
        total = total + kept_bytes(a, p, x, kind, NO_RECOMPUTE)
    return total
