"""Chunks of a rank that are alike (:class:`constraints.chunks.EvenChunks`), in the solver's model: how many layers a rank may
hold with virtual stages, and what the ends, whose chunks may differ, wait for (:mod:`constraints.timing.crossing`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from constraints.partition.parts import Part
from constraints.partition.rank import Rank
from constraints.timing.crossing import usual_length
from models_catalog.schema import LayerKind

if TYPE_CHECKING:
    from solver.placement import Placement

__all__ = ["Alike"]

Quantity = Any


class Alike:
    """What is asked of the ranks of ``placement``, whose layers are alike but for a first run."""

    def __init__(self, placement: Placement) -> None:
        self.placement, self.model, self.a = placement, placement.model, placement.a

    @property
    def asked(self) -> bool:
        """True if some pipeline is interleaved, and rules are not under literals that may let it go."""
        return not self.model.explain and any(shape.dealt and shape.chunks > 1 for shape, _ in self.model.shapes)

    def spare(self, made: list[tuple[Part, Any, Any]], shapes: list[tuple[Any, Any]]) -> Any:
        """A layer that makes a chunk of one of the ranks between the ends longer than its others: the slowest has as many
        then as one of the parts, without layers of the first run, and one more."""
        cp, spare, longer = self.model.cp, self.a.variable((0, 1), "spare layer"), []
        none = cp.new_bool_var("no spare layer")
        cp.add(spare.expression() == 0).only_enforce_if(none)
        for condition in (self.model.interleaved, self.model.at_least("pp", 3)):
            cp.add_implication(condition.negated(), none)
        for part, count, early in made:
            there = [literal for shape, literal in shapes if part.size(shape.pp)]
            if there:
                literal = cp.new_bool_var("below the slowest")
                cp.add((self.placement.most - count).expression() >= 1).only_enforce_if(literal)
                cp.add_implication(literal, self.model.any_of(there, part.name))
                if not isinstance(early, int) and all(part.size(shape.pp) <= 1 for shape, _ in shapes):
                    cp.add(early.expression() == 0).only_enforce_if(literal)
                longer.append(literal)
        cp.add_bool_or([none, *longer])
        return spare

    def part(self, part: Part, shapes: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """The most layers of the body that a rank of ``part`` holds, and those of the first run beside them."""
        length = self.placement.count(f"chunk[{part.name}]")
        count = self.a.mul(length, self.model.x.vpp)
        self.model.cp.add(count.expression() <= self.placement.spec.num_layers)
        prefix = self.placement.runs.prefix if self.placement.runs is not None else 0
        some = [
            literal for shape, literal in shapes if not self.placement.works or _may_be_early(part, shape.pp, prefix)
        ]
        if not some or not prefix:
            return count, 0
        early = self.a.variable(range(prefix + 1), f"early layers[{part.name}]")
        self.model.cp.add(early.expression() == 0).only_enforce_if(self.model.any_of(some, "early").negated())
        self.model.cp.add((count - early).expression() >= 0)
        return count - early, early

    def ends(self) -> list[Rank]:
        """The ends, whose chunks are alike but for the very first and the very last, beside chunks of the usual length."""
        cp, runs, when = self.model.cp, self.placement.runs, (self.placement.free, self.model.interleaved)
        assert runs is not None
        usual = self.model.by_shape(lambda shape: usual_length(self.placement.spec.num_layers, shape.pp, shape.chunks))
        in_all = self.a.mul(self.model.x.vpp, usual)
        others, ends = self.model.x.vpp - 1, []
        for end, name in ((self.placement.first, "first"), (self.placement.last, "last")):
            length = self.placement.count(f"chunk[{name}]")
            more = end - self.a.mul(length, self.model.x.vpp)
            cp.add(length.expression() == 0).only_enforce_if(self.model.interleaved.negated())
            cp.add(more.expression() <= (name == "first")).only_enforce_if(when)
            ends.append((length, more))
        (on_first, more), (on_last, fewer) = ends
        cp.add(more.expression() >= -1).only_enforce_if(when)
        if runs.prefix:
            in_chunk = self.a.minimum(runs.prefix, on_first + more)
            cp.add((self.placement.early - in_chunk).expression() >= 0).only_enforce_if(when)
            for shape, literal in self.model.shapes:
                if self.placement.works and shape.pp > runs.prefix:  # the first run ends in the first chunks
                    cp.add((self.placement.early - in_chunk).expression() <= 0).only_enforce_if([literal, *when])
        unsure = [literal for shape, literal in self.model.shapes if self.placement.may_be_early_on_last(shape)]
        sure = [literal.negated() for literal in unsure]
        cp.add((fewer + on_last).expression() >= 0).only_enforce_if([*when, *sure])
        longer = self.a.mul(self.a.maximum(0, on_first - usual), others)
        shorter = self.a.mul(self.a.maximum(0, usual - on_last), others)
        first, last = (
            next(rank for rank in self.placement.ranks if getattr(rank, name)) for name in ("embedding", "loss")
        )
        alike = ((runs.common, in_all),)
        return [
            replace(first, conditions=when, usual=alike, together=((runs.common, in_all + longer),)),
            replace(last, conditions=when, usual=alike, together=_plus(last.layers, runs.common, shorter)),
        ]


def _may_be_early(part: Part, pp: int, prefix: int) -> bool:
    """True if a rank of ``part`` may hold some of the ``prefix`` first layers: each rank before it but the first has one of
    them at least, and where ranks are no more they go round."""
    size = part.size(pp)
    return size > 0 and prefix > 0 and (pp <= prefix or part.latest(pp) - size < prefix)


def _plus(counts: Iterable[tuple[LayerKind, Quantity]], kind: LayerKind, more: Quantity) -> tuple[Any, ...]:
    """``counts`` with so many more of ``kind``."""
    total = dict(counts)
    total[kind] = total.get(kind, 0) + more
    return tuple(total.items())
