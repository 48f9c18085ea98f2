"""What pipeline ranks keep alive, in the solver's model: layer and chunk activations, at least.

The counts follow the order of forward and backward steps (:mod:`constraints.pipeline.schedule`); :mod:`constraints.partition`
counts the same for layers that are placed.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, Any

from constraints.partition.parts import behind

if TYPE_CHECKING:
    from solver.model import Model
    from solver.placement import Placement
    from solver.shapes import Shape

__all__ = ["InFlight"]


class InFlight:
    """Activations alive on ranks of ``placement`` at their fullest moment; a rank is told by its number on ``pp`` ranks."""

    def __init__(self, placement: Placement) -> None:
        self.placement, self.model, self.a, self.x = placement, placement.model, placement.a, placement.x

    def layers(self, count: Any, rank: Callable[[int], int], name: str) -> Any:
        """Layer activations that a rank with ``count`` layers keeps alive at least.

        Its chunks are as long as each other or one layer longer. As many layers as the short ones have, all have alive.
        What the longer ones add is bounded twice. In an endless run, by the mean number of micro-batches alive in the
        chunks that live shortest: the last for ``2 (ranks behind) + 1`` of ``vpp`` forward steps a micro-batch, each before
        it for ``2 group`` steps more. And when the first backward pass begins, all chunks hold a group, the last what is
        left of the warm-up, or the first a part of the next group.
        """
        a, x, model = self.a, self.x, self.model
        length = a.floor_div(count, x.vpp)
        longer = count - a.mul(length, x.vpp)
        if not longer.terms:
            return a.mul(length, self.chunks(rank))
        group = model.by_shape(lambda s: model.group_of(s.pp))
        most = 2 * x.pp.high + (group if isinstance(group, int) else group.high)
        live = a.range(0, max(1, count.high * most), f"live[{name}]")
        even = a.mul(length, self.chunks(rank))
        interleaved = model.interleaved
        model.cp.add((live - even).expression() >= 0)
        after = model.by_shape(lambda s: 2 * behind(s.pp, rank(s.pp)) + 1)
        mean = a.mul(longer, after) + a.mul(group, a.mul(longer, longer - 1))
        more = a.mul(live - even, x.vpp) - mean
        model.cp.add(more.expression() >= 0).only_enforce_if([self.placement.steady, interleaved])
        missing = model.by_shape(lambda s: max(0, model.group_of(s.pp) - 2 * behind(s.pp, rank(s.pp)) - 1))
        begun = model.by_shape(lambda s: max(0, 2 * behind(s.pp, rank(s.pp)) + 1 - model.group_of(s.pp)))
        filled = live - a.mul(count, group) + a.mul(length + 1, missing)
        model.cp.add(filled.expression() >= 0).only_enforce_if([self.placement.begun, interleaved])
        model.cp.add((filled - a.mul(length, begun)).expression() >= 0).only_enforce_if(
            [self.placement.steady, interleaved]
        )
        return live

    def chunks(self, rank: Callable[[int], int]) -> Any:
        """Chunk activations alive on a rank at its fullest moment."""
        most = self.model.by_shape(lambda s: _warm(self.model, s, rank))
        return self.a.minimum(most, self.a.mul(self.x.num_microbatches, self.x.vpp))

    def in_first_run(self) -> tuple[Any, Any]:
        """Micro-batches alive in the chunks of the first rank that hold the model's first run, at least and at most.

        The mean of an endless run, rounded down and up; at least no more than when the first backward pass begins.
        """

        def mean(s: Shape, row: int) -> Fraction:
            return Fraction(2 * (s.pp - 1) + 2 * (s.chunks - 1 - row) * self.model.group_of(s.pp) + 1, s.chunks)

        def begun(s: Shape, row: int) -> int:
            group, wave = self.model.group_of(s.pp), 2 * s.pp - 1
            most: int = max(group, wave) if row == 0 else min(group, wave) if row == s.chunks - 1 else group
            return most

        def fewest(s: Shape) -> int:
            row = self._rows_of_first_run(s) - 1
            return min(int(mean(s, row)), begun(s, row)) if s.chunks > 1 else s.pp

        low = self.model.by_shape(fewest)
        high = self.model.by_shape(lambda s: ceil(mean(s, 0)) if s.chunks > 1 else s.pp)
        return self.a.minimum(low, self.x.num_microbatches), self.a.minimum(high, self.x.num_microbatches)

    def _rows_of_first_run(self, shape: Any) -> int:
        """How many of the chunks of a rank may hold layers of the model's first run: more than one only if layers are few.

        A rank with ``n`` layers has ``n // vpp`` in each chunk at least.
        """
        runs = self.placement.runs
        assert runs is not None
        layers, prefix, pp, chunks = self.placement.spec.num_layers, runs.prefix, shape.pp, shape.chunks
        if layers > pp * (chunks - 1) + (prefix - 1) * chunks:
            return 1
        return min(prefix, chunks) if layers > pp * (chunks - 1) else int(chunks)


def _warm(model: Model, shape: Shape, rank: Callable[[int], int]) -> int:
    """Forward steps before the first backward one, and one more."""
    after: int = behind(shape.pp, rank(shape.pp))
    between: int = (shape.chunks - 1) * model.group_of(shape.pp)
    return after + 1 if not between else 2 * after + between + 1
