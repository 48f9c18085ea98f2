"""The best partition of the layers for given degrees, exactly: a dynamic programme over the ranks of the pipeline.

Ranks are filled one after the other, and all that later ones need to know is how many layers are left. The largest measure
of a rank is made as small as can be, measure by measure; among what is then left the most even split is taken, and of
equally even ones the one that Megatron says most simply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heapreplace
from operator import add

from constraints.layout import Layout, PipelineSplit
from constraints.partition.measures import Ranks
from constraints.partition.options import (
    Left,
    Option,
    Options,
    Run,
    holds_at_least,
    lefts_of,
    starts_of,
    takes_any_order,
)
from constraints.partition.rooms import most_that
from constraints.pipeline.assignment import Assignment, Chunk, from_sizes, segment_sizes, simplest_split, sizes_of_split
from constraints.pipeline.placement import place
from constraints.problem import Problem
from constraints.stages import LayerOnEveryRank
from models_catalog.schema import ModelSpec

__all__ = ["Partition", "best_partition", "considered", "may_idle"]

MEASURES_OF = {
    "step-time": ("step-time",),
    "communication": ("communication", "step-time"),
    "data-parallel": ("step-time",),
    "memory": ("memory", "step-time"),
    "pareto": ("step-time", "memory"),
}
"""By objective: what the slowest or fullest rank is judged by, first things first."""

NOTHING = Left(0, 0)
BEYOND = 1 << 62
"""More than any rank counts: what it would with more layers than it may hold."""
PLENTY = 2
"""A rank that has room for so many times the mean is taken to have room for all layers."""
WIDER = (1, 4, 16, 64, 256)
"""64ths of what a rank counts at least, by which more is allowed in turn."""


@dataclass(frozen=True)
class Partition:
    """Layers of each chunk, and the form that says so."""

    assignment: Assignment
    split: PipelineSplit


def may_idle(problem: Problem, pp: int) -> bool:
    """True if a pipeline rank may be without a layer: where that is relaxed, or ranks are more than layers."""
    return LayerOnEveryRank.id in problem.relaxed or pp > problem.model.num_layers


def best_partition(
    problem: Problem,
    layout: Layout,
    objective: str | None = None,
    *,
    fitting: bool = True,
    most_held: int | None = None,
) -> Partition | None:
    """The best partition for the degrees of ``layout`` (its split is not looked at), or ``None`` if none fits.

    ``objective`` is the problem's own unless given. Without ``fitting`` memory is not asked about; ``most_held`` bounds
    it beside (100 times bytes, estimated high).
    """
    ranks = Ranks(problem, layout, fitting=fitting, most_held=most_held)
    names = MEASURES_OF[objective or problem.objective]
    model, pp, vpp = problem.model, layout.pp, layout.chunks_per_rank
    least = 0 if may_idle(problem, pp) else 1
    if model.is_hybrid or segment_sizes(model) is not None or pp == 1 or not takes_any_order(model, vpp):
        return _regular(ranks, names, least)
    return _Search(ranks, names, least).best()


def _regular_splits(model: ModelSpec, pp: int, vpp: int) -> Iterator[PipelineSplit]:
    """The splits that Megatron has a short form for, simplest first."""
    yield PipelineSplit()
    if not model.is_hybrid:
        yield PipelineSplit(account_for_embedding=True, account_for_loss=True)
        yield PipelineSplit(account_for_loss=True)
        yield PipelineSplit(account_for_embedding=True)
    if vpp == 1 and pp > 1 and segment_sizes(model) is None:
        counts = range(1, model.num_layers)
        yield from (PipelineSplit(first=first) for first in counts)
        yield from (PipelineSplit(last=last) for last in counts)
        for middle in range(1, model.num_layers // max(1, pp - 2) + 1) if pp > 2 else ():
            ends = model.num_layers - middle * (pp - 2)
            yield from (PipelineSplit(first=first, last=ends - first) for first in range(1, ends))


def _assignments(
    model: ModelSpec, pp: int, vpp: int, least: int, unevenness: int | None = None, *, even_first: bool = False
) -> Iterator[tuple[Assignment, PipelineSplit]]:
    """Those splits as they come out, where every rank holds ``least`` layers or more; as uneven as said, if it is."""
    splits: Iterable[tuple[tuple[int, ...], PipelineSplit]] = _coming_out(model, pp, vpp)
    for sizes, split in sorted(splits, key=lambda made: _unevenness(made[0])) if even_first else splits:
        if unevenness in (None, _unevenness(sizes)) and _each_holds(sizes, pp, least):
            yield from_sizes(model, pp, sizes), split


def _coming_out(model: ModelSpec, pp: int, vpp: int) -> Iterator[tuple[tuple[int, ...], PipelineSplit]]:
    if (segments := segment_sizes(model)) is not None:
        if len(segments) == pp and vpp == 1:
            yield segments, PipelineSplit()
        return
    seen = set()
    for split in _regular_splits(model, pp, vpp):
        sizes = sizes_of_split(model.num_layers, pp, vpp, split)
        if sizes is not None and len(sizes) == pp * vpp and min(sizes) >= 0 and sizes not in seen:
            seen.add(sizes)
            yield sizes, split


def _regular(ranks: Ranks, names: tuple[str, ...], least: int) -> Partition | None:
    """The best of the splits with a short form and the usual one.

    Even ones are looked at first: of the others a rank that holds more mostly counts more than they, or does not fit.
    """
    model, x = ranks.model, ranks.layout
    best: tuple[tuple[int, ...], Partition] | None = None
    for assignment, split in considered(model, x.pp, x.chunks_per_rank, least):
        parts = sorted(enumerate(assignment.of_ranks()), key=lambda part: -sum(chunk.layers for chunk in part[1]))
        if best is not None and any(ranks.measure(names[0], rank, chunks) > best[0][0] for rank, chunks in parts):
            continue
        if not all(ranks.fits(rank, chunks) for rank, chunks in parts):
            continue
        measures = tuple(max(ranks.measure(name, rank, chunks) for rank, chunks in parts) for name in names)
        key = (*measures, _unevenness(assignment.sizes))
        if best is None or key < best[0]:
            best = key, Partition(assignment, split)
    return None if best is None else best[1]


def considered(model: ModelSpec, pp: int, vpp: int, least: int) -> tuple[tuple[Assignment, PipelineSplit], ...]:
    """The splits of which one is taken where layers are not dealt freely: those with a short form, even ones first, and the
    usual one."""
    found = list(_assignments(model, pp, vpp, least, even_first=True))
    usual = place(model, pp, vpp) if not model.is_hybrid else None
    if usual is not None and _each_holds(usual[0].sizes, pp, least) and usual[0] not in [made for made, _ in found]:
        found.append(usual)
    return tuple(found)


def _each_holds(sizes: tuple[int, ...], pp: int, least: int) -> bool:
    """Whether every rank has ``least`` layers in its chunks."""
    return all(sum(sizes[rank::pp]) >= least for rank in range(pp))


def _unevenness(sizes: Iterable[int]) -> int:
    """Of all splits of the same layers the most even has least."""
    return sum(size**2 for size in sizes)


class _Search:
    """Rank after rank; ``limits`` are the measures that are settled, each with the most that a rank may reach."""

    def __init__(self, ranks: Ranks, names: tuple[str, ...], least: int) -> None:
        self.ranks, self.names, self.least = ranks, names, least
        self.model, self.pp, self.vpp = ranks.model, ranks.layout.pp, ranks.layout.chunks_per_rank
        self.limits: dict[str, int] = {}
        self.rooms: list[int] | None = None
        self.most = [self.model.num_layers] * self.pp
        self.options = Options(self.model, self.pp, self.vpp)
        self.starts = starts_of(self.model, self.pp, self.vpp)
        self.lefts = lefts_of(self.model, self.pp, self.vpp)
        self.lightest: dict[tuple[str, int, int], int] = {}

    def best(self) -> Partition | None:
        for name in self.names:
            found = self._smallest(name)
            if found is None:
                return None
            self._limit(name, found)
        tables = self._tables(lambda rank, option: option.unevenness, add)
        assignment = self._simplest(tables[-1][NOTHING]) or self._backwards(tables)
        return Partition(assignment, simplest_split(self.model, assignment))

    # -- what ranks may take at most

    def _limit(self, name: str, most: int | None) -> None:
        """From now on no rank exceeds ``most`` by the measure ``name`` (``None``: as much as it likes)."""
        self.limits.pop(name, None)
        if most is not None:
            self.limits[name] = most
        self.most = [self._most(rank) for rank in range(self.pp)]

    def _most(self, rank: int) -> int:
        """The most layers that the rank may take under ``limits`` and, where that has been looked at, memory."""
        most = self.model.num_layers if self.rooms is None else self.rooms[rank]
        mean = -(-self.model.num_layers // self.pp)
        return most_that(partial(self._within, rank), most, near=mean) if self.limits else most

    def _within(self, rank: int, layers: int) -> bool:
        return all(self._lightest(name, rank, layers) <= most for name, most in self.limits.items())

    def _room(self, rank: int) -> int:
        """The most layers with which the rank may fit, whatever is left of the first run: with more it holds more."""
        plenty = min(PLENTY * -(-self.model.num_layers // self.pp), self.model.num_layers)
        if self._takes(rank, plenty):
            return self.model.num_layers  # how much room there is is no matter
        return most_that(partial(self._takes, rank), plenty)

    def _takes(self, rank: int, layers: int) -> bool:
        return any(self.ranks.fits(rank, option.chunks) for option in self._anywhere(rank, layers))

    def _lightest(self, name: str, rank: int, layers: int) -> int:
        """The least that the rank counts with ``layers`` layers or more: at the ends longer chunks beside a short one may
        take less time than fewer layers in chunks that are alike."""
        key = name, self.ranks.alike(name, rank), layers
        if key not in self.lightest:
            more = self.vpp if rank in (0, self.pp - 1) else 1
            options = (option for n in range(layers, layers + more) for option in self._anywhere(rank, n))
            self.lightest[key] = min((self._measured(name, rank, option) for option in options), default=BEYOND)
        return self.lightest[key]

    def _measured(self, name: str, rank: int, option: Option) -> int:
        return self.ranks.measure(name, rank, option.chunks)

    def _anywhere(self, rank: int, layers: int) -> Iterator[Option]:
        """What the rank may take as ``layers`` layers, or the fewest above, whatever earlier ranks have left."""
        layers = holds_at_least(self.pp, self.vpp, rank, layers)
        for left in self.lefts if rank else self.starts:
            if left.layers >= layers:
                yield from self.options.of(rank, left, layers)

    # -- how little will do

    def _smallest(self, name: str) -> int | None:
        """The smallest value under which all ranks can keep the measure ``name``; ``None`` if they do not fit at all.

        What ranks come to if layers are dealt one by one is mostly it. Else more and more is allowed, until it can be done:
        what is then found is the smallest. Memory is asked about only where it is short.
        """
        for limit in self._limits(name):
            self._limit(name, limit)
            found = self._tables(partial(self._measured, name), max)[-1].get(NOTHING)
            if found is not None:
                return found
        return None

    def _limits(self, name: str) -> Iterator[int | None]:
        if self.rooms is None:
            yield self._dealt(name)
            self.rooms = [self._room(rank) for rank in range(self.pp)]
        least = self._dealt(name)
        if least is None:
            return
        yield least
        for parts in WIDER:
            yield least + least * parts // 64
        yield None

    def _dealt(self, name: str) -> int | None:
        """What the fullest rank counts when chunk by chunk goes to the rank that then counts least, the first run to the
        first rank; ``None`` if there is no room for all."""
        self._limit(name, None)
        if sum(self.most) < self.model.num_layers or min(self.most) < self.least:
            return None

        def with_layers(rank: int, layers: int) -> tuple[int, int, int]:
            usual, held = self.lefts[0 if rank else -1], holds_at_least(self.pp, self.vpp, rank, layers)
            counted = (self._measured(name, rank, option) for option in self.options.of(rank, usual, held))
            return min(counted, default=BEYOND), rank, held

        begun = [with_layers(rank, self.least) for rank in range(self.pp)]
        worst, missing = max(begun)[0], self.model.num_layers - sum(layers for _, _, layers in begun)
        waiting = [with_layers(rank, layers + 1) for _, rank, layers in begun if self.most[rank] > layers]
        held = {rank: layers for _, rank, layers in begun}
        heapify(waiting)
        while missing > 0 and waiting:
            counted, rank, layers = waiting[0]
            worst, missing, held[rank] = max(worst, counted), missing - layers + held[rank], layers
            if layers < self.most[rank]:
                heapreplace(waiting, with_layers(rank, layers + 1))
            else:
                heappop(waiting)
        return worst

    # -- rank by rank

    def _tables(self, price: Callable[[int, Option], int], total: Callable[[int, int], int]) -> list[dict[Left, int]]:
        """For each rank what can be left after it, and the least ``total`` of what the options on the way ``price`` at."""
        tables = [dict.fromkeys(self.starts, 0)]
        for rank in range(self.pp):
            table: dict[Left, int] = {}
            prices: dict[tuple[tuple[int, ...], int], dict[Run, int]] = {}
            for left, before in tables[-1].items():
                for layers in self._sizes(rank, left):
                    key = self.options.start(left), layers
                    if key not in prices:
                        prices[key] = _cheapest(self._admitted(rank, left, layers), partial(price, rank))
                    for run, priced in prices[key].items():
                        reached, after = total(before, priced), left.without(layers, run)
                        if after not in table or reached < table[after]:
                            table[after] = reached
            tables.append(table)
        return tables

    def _sizes(self, rank: int, left: Left) -> range:
        """How many layers the rank may take so that the others can take the rest."""
        others = self.pp - 1 - rank
        low = max(self.least, left.layers - sum(self.most[rank + 1 :]))
        high = min(self.most[rank], left.layers - others * self.least)
        return range(low, high + 1)

    def _admitted(self, rank: int, left: Left, layers: int) -> list[Option]:
        return [option for option in self.options.of(rank, left, layers) if self._admits(rank, option.chunks)]

    def _admits(self, rank: int, chunks: tuple[Chunk, ...]) -> bool:
        within = all(self.ranks.measure(name, rank, chunks) <= most for name, most in self.limits.items())
        return within and self.ranks.fits(rank, chunks)

    def _simplest(self, unevenness: int) -> Assignment | None:
        """The split with the shortest form that is as good and as even as any."""
        for assignment, _ in _assignments(self.model, self.pp, self.vpp, self.least, unevenness):
            if all(self._admits(rank, chunks) for rank, chunks in enumerate(assignment.of_ranks())):
                return assignment
        return None

    def _backwards(self, tables: list[dict[Left, int]]) -> Assignment:
        """The most even split, of which late ranks hold the longer part."""
        left, sizes = NOTHING, [(0,) * self.vpp] * self.pp
        for rank in reversed(range(self.pp)):
            ways = (
                (option, before)
                for before, reached in tables[rank].items()
                if (layers := before.layers - left.layers) in self._sizes(rank, before)
                for option in self._admitted(rank, before, layers)
                if before.without(layers, option.run) == left and reached + option.unevenness == tables[rank + 1][left]
            )
            option, left = max(ways, key=lambda way: (way[1].layers, way[1].early))
            sizes[rank] = tuple(chunk.layers for chunk in option.chunks)
        return from_sizes(
            self.model, self.pp, tuple(sizes[i % self.pp][i // self.pp] for i in range(self.pp * self.vpp))
        )


def _cheapest(options: Iterable[Option], price: Callable[[Option], int]) -> dict[Run, int]:
    """The least that the options come to, by how many layers of the first run they take."""
    least: dict[Run, int] = {}
    for option in options:
        least[option.run] = min(price(option), least.get(option.run, price(option)))
    return least
