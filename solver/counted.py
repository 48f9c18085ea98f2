"""Recompute by count in the solver's model, the count being a decision.

Block: layers that a rank computes again, at least, and those alive as inputs, at most. The first ``N`` layers of each chunk
are computed again (:mod:`constraints.pipeline.again`); the chunks of a rank are as long as each other or one layer longer,
but for the very last one, which may be shorter. Groups of uniform recompute: inputs alive, at least, and the longest chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from constraints.partition.kinds import Runs
from models_catalog.schema import LayerKind

if TYPE_CHECKING:
    from solver.placement import Placement

__all__ = ["Blocks", "Groups"]

Quantity = Any
Again = dict[LayerKind | None, Quantity]
"""Layers computed again by kind; ``None``: of some kind or other."""
Live = dict[LayerKind, Quantity]


class Blocks:
    """What the ranks of ``placement`` compute again where the count of layers is a decision; nothing where it is not."""

    def __init__(self, placement: Placement) -> None:
        self.placement, self.model = placement, placement.model
        self.a, self.x, self.count = placement.a, placement.x, placement.x.recompute_layers

    @property
    def decided(self) -> bool:
        """True if the count is a decision: only where all layers are alike but for a first run."""
        return not isinstance(self.count, int)

    @property
    def runs(self) -> Runs:
        runs = self.placement.runs
        assert runs is not None, "layers that alternate are recomputed without counting"
        return runs

    def on_first(self, live: Live, fewest: Quantity) -> tuple[Again, Live]:
        """Of the first rank, whose first run, in its first chunk or filling several, has ``fewest`` micro-batches alive at
        least."""
        if not self.decided:
            return {}, {}
        runs, early = self.runs, self.placement.early
        again = self._first_of_each(self.placement.first, self.x.vpp)
        if not runs.prefix:
            return {runs.common: again}, {runs.common: self._inputs(live[runs.common], lambda pp: 0)}
        at_least, at_most = self._first_of_each(early, 1), self._first_of_each(early, self.x.vpp)
        beside = self.a.mul(self.count, self.placement.alive.chunks(lambda pp: 0)) - self.a.mul(at_least, fewest)
        inputs = {
            runs.early: self.a.mul(at_most, fewest),
            runs.common: self.a.minimum(beside, live[runs.common]),
        }
        common = self.a.maximum(0, again - at_most)
        return {runs.early: at_least, runs.common: common, None: at_most - at_least}, inputs

    def on(self, layers: Quantity, live: Quantity, chunks: Quantity, rank: Callable[[int], int]) -> tuple[Again, Live]:
        """Of a rank that has ``layers`` of the common kind, ``live`` of them alive, in so many chunks that are not short."""
        if not self.decided:
            return {}, {}
        return self._some_early(self._first_of_each(layers, chunks)), {self.runs.common: self._inputs(live, rank)}

    def on_last(self, live: Live) -> tuple[Again, Live]:
        """Of the last rank, whose last chunk has one micro-batch alive at most; ``live`` grows by what its others must."""
        if not self.decided:
            return {}, {}
        a, kind, layers = self.a, self.runs.common, self.placement.last
        tail = self._tail()
        others = self.model.by_shape(lambda shape: shape.chunks - 1)
        again = a.minimum(a.mul(self.count, others), layers - tail) + a.minimum(self.count, tail)
        alive = self.placement.alive.chunks(lambda pp: pp - 1)
        whole = a.mul(a.maximum(0, self._shortest_but(tail) - self.count), a.maximum(0, alive - 1))
        live[kind] = a.maximum(live[kind], whole)
        return self._some_early(again), {kind: a.minimum(a.mul(self.count, alive), live[kind] - whole)}

    def full_chunks(self) -> Quantity:
        """Chunks of a rank that are not short, whichever rank it is."""
        return self.model.by_shape(lambda shape: max(1, shape.chunks - 1))

    def _tail(self) -> Quantity:
        """Layers of the very last chunk: no more than one longer than the others of its rank; all without interleaving."""
        layers, cp = self.placement.last, self.model.cp
        tail = self.a.variable(range(self.placement.spec.num_layers + 1), "layers[last chunk]")
        cp.add((layers - tail).expression() >= 0)
        cp.add((layers - tail).expression() == 0).only_enforce_if(self.model.interleaved.negated())
        cp.add((self._shortest_but(tail) + 1 - tail).expression() >= 0).only_enforce_if(self.model.interleaved)
        return tail

    def _shortest_but(self, tail: Quantity) -> Quantity:
        """Layers in the shortest chunk of the last rank but its last."""
        return self.a.floor_div(self.placement.last - tail, self.full_chunks())

    def _some_early(self, again: Quantity) -> Again:
        """``again`` on a rank behind the first: layers of the first run that the first rank has not may be among them."""
        if not self.runs.prefix:
            return {self.runs.common: again}
        some = self.a.minimum(again, self.runs.prefix - self.placement.early)
        return {self.runs.common: again - some, None: some}

    def _first_of_each(self, layers: Quantity, chunks: Quantity) -> Quantity:
        """Of ``layers`` in ``chunks`` chunks, the first of each chunk."""
        return self.a.minimum(self.a.mul(self.count, chunks), layers)

    def _inputs(self, live: Quantity, rank: Callable[[int], int]) -> Quantity:
        """The most of ``live`` layer activations that the first layers of chunks can be."""
        return self.a.minimum(self.a.mul(self.count, self.placement.alive.chunks(rank)), live)


class Groups:
    """What the ranks of ``placement`` keep and rebuild where the size of groups is a decision; nothing where it is not."""

    def __init__(self, placement: Placement) -> None:
        self.a, self.x, self.runs = placement.a, placement.x, placement.runs

    @property
    def decided(self) -> bool:
        """True if the size is a decision: only where all layers are alike but for a first run."""
        return not isinstance(self.x.recompute_group, int)

    def inputs(self, live: Live) -> Live:
        """A group keeps one input, whatever its layers are; the last of a chunk may be smaller."""
        assert self.runs is not None, "layers that alternate are recomputed without counting"
        return {self.runs.common: self.a.ceil_div(sum(live.values()), self.x.recompute_group)}

    def longest(self, layers: Quantity) -> Quantity:
        """The longest chunk of a rank with so many ``layers``: the mean at least."""
        return self.a.ceil_div(layers, self.x.vpp)
