"""The best few layouts that have been met, and where more of their kind may be found. Imports ortools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from typing import NamedTuple

from constraints.layout import Layout
from constraints.rule import Rule
from solver.completion import completed, placed, some_split
from solver.model import Model
from solver.objectives import OBJECTIVES, tie_break_place
from solver.placing import DEGREES, DISTINCT, differs

__all__ = ["Ranking"]

TRADED = ("tp", "pp", "cp", "ep", "micro_batch_size")
FACTORS = (2, 3, 4)
PROMISING = 1.02
"""A layout whose layers are not placed yet may be estimated so much worse than the last that is kept."""

Key = tuple[object, ...]


class Entry(NamedTuple):
    """A layout by what it costs; ties by the place that the tie-breaks give it."""

    cost: int
    place: int
    layout: Layout


class Ranking:
    """The ``count`` best distinct layouts of a model among those that were met."""

    def __init__(self, model: Model, rules: Iterable[Rule], count: int) -> None:
        self.model, self.problem, self.rules, self.count = model, model.problem, tuple(rules), count
        self.objective = OBJECTIVES[model.problem.objective]
        self._met: set[Key] = set()
        self._best: dict[Key, Entry] = {}
        self._explored: set[Key] = set()
        self._tried: set[Key] = set()

    @property
    def entries(self) -> list[Entry]:
        """The best, in order."""
        return sorted(self._best.values(), key=lambda entry: entry[:2])[: self.count]

    @property
    def layouts(self) -> tuple[Layout, ...]:
        return tuple(entry.layout for entry in self.entries)

    @property
    def last(self) -> tuple[int, int] | None:
        """Cost and place of the last that is kept; ``None`` while there is room for more."""
        entries = self.entries
        return entries[-1][:2] if len(entries) == self.count else None

    def judge(self, layout: Layout) -> None:
        """Place the layers of ``layout`` and keep it if it is good enough."""
        if _key(layout, DEGREES) in self._met:
            return
        self._meet(layout)
        whole = placed(self.problem, layout)
        if whole is not None and self._legal(whole):
            self.add(whole)

    def _legal(self, layout: Layout) -> bool:
        return all(rule.holds(self.problem, layout) for rule in self.rules)

    def add(self, layout: Layout) -> None:
        """Keep ``layout``, which is placed and legal, if it is good enough."""
        self._meet(layout)
        place = tie_break_place(self.model, layout)
        if place is None:
            return
        entry, key = Entry(self.objective.measure(self.problem, layout), place, layout), _key(layout, DISTINCT)
        self._best[key] = min(entry, self._best.get(key, entry), key=lambda entry: entry[:2])

    def _meet(self, layout: Layout) -> None:
        """Leave the degrees of ``layout`` out of the model: they need not be met again."""
        if (key := _key(layout, DEGREES)) not in self._met:
            self._met.add(key)
            self.model.cp.add_bool_or(differs(self.model, layout))

    def explore(self) -> None:
        """Try what is near to those that are kept, until nothing near is better.

        What placing the layers well is worth is taken to be the same near by.
        """
        while (
            entry := next((e for e in self.entries if self._base(e.layout) not in self._explored), None)
        ) is not None:
            self._explored.add(self._base(entry.layout))
            usual = self._estimated(entry.layout)
            worth = Fraction(entry.cost, usual.cost) if usual is not None and usual.cost > 0 else Fraction(1)
            promising = [found for base in self._near(entry.layout) for found in self._promising(base, worth)]
            for cost, _, layout in sorted(promising, key=lambda found: found[:2]):
                if self._may_be_kept(cost * worth) and self._legal(layout):
                    self.judge(layout)

    def _may_be_kept(self, cost: Fraction) -> bool:
        return self.last is None or cost <= self.last[0] * PROMISING

    def _near(self, layout: Layout) -> Iterator[Layout]:
        """``layout`` itself, and those with one decision larger or smaller, whatever they recompute, or one larger and
        another smaller."""
        yield from self._recomputing(layout)
        for factor in FACTORS:
            larger = {name: getattr(layout, name) * factor for name in TRADED}
            smaller = {name: getattr(layout, name) // factor for name in TRADED if getattr(layout, name) % factor == 0}
            for name, value in (*larger.items(), *smaller.items()):
                yield from self._recomputing(replace(layout, **{name: value}))
            for up, down in permutations(TRADED, 2):
                if down in smaller:
                    yield replace(layout, **{up: larger[up], down: smaller[down]})

    def _recomputing(self, layout: Layout) -> Iterator[Layout]:
        """``layout`` with what it recomputes, and with all else that it may."""
        yield layout
        options = self.model.x.recompute.options
        if (of := self.model.counted) is not None:
            every = self.problem.counted(layout.pp * layout.chunks_per_rank)
            options = tuple(option for option in every if option.method == of.method)
        for option in options:
            if option != layout.recompute:
                yield replace(layout, recompute=option)

    def _promising(self, layout: Layout, worth: Fraction) -> Iterator[Entry]:
        """``layout`` with all numbers of virtual stages, if with one near to its own it may be kept."""
        base = self._base(layout)
        if base in self._tried:
            return
        self._tried.add(base)
        chunks = sorted(
            {shape.vpp for shape, _ in self.model.shapes if shape.pp == layout.pp},
            key=lambda vpp: abs((vpp or 1) - layout.chunks_per_rank),
        )
        for i, vpp in enumerate(chunks):
            near = self._estimated(replace(layout, vpp=vpp))
            if near is not None:
                yield near
            if i == 0 and (near is None or not self._may_be_kept(near.cost * worth)):
                return

    def _estimated(self, layout: Layout) -> Entry | None:
        """``layout`` made whole, its layers placed as usual; ``None`` if that cannot be."""
        x = replace(layout, sequence_parallel=layout.tp > 1)
        whole = completed(self.problem, x, self.problem.global_batch_size)
        if isinstance(whole, str) or (place := tie_break_place(self.model, whole)) is None:
            return None
        split = some_split(self.problem, whole)
        if split is None:
            return None
        whole = replace(whole, split=split)
        return Entry(self.objective.measure(self.problem, whole), place, whole)

    @staticmethod
    def _base(layout: Layout) -> Key:
        """All that makes a layout distinct but its virtual stages."""
        return _key(layout, tuple(name for name in DISTINCT if name != "vpp"))


def _key(layout: Layout, decisions: tuple[str, ...]) -> Key:
    return (*(getattr(layout, name) or 1 for name in decisions), layout.recompute)
