"""Whether any partition of the layers can keep every rank of a pipeline within a bound: a counting argument.

Of each rank it is known how much of a quantity its layers add, and so how many it can take; if all ranks together can take
fewer layers than there are, no partition will do. What a rank keeps alive is counted as in :mod:`solver.placement`, in whole
numbers: the checker of certificates does not look at the solver's model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from constraints.arithmetic import ceil_div
from constraints.partition.kinds import Runs, ends_with, fewest_in_windows, runs_of, starts_with
from constraints.partition.parts import behind
from constraints.partition.rank import Rank
from constraints.partition.rooms import have_room, most_that
from constraints.pipeline.schedule import STEADY_GROUPS
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Forms", "Pipelines"]

Held = list[tuple[LayerKind, int, int]]
"""(kind, layers, live layers) on a rank."""
Way = Callable[[int], Held | None]
"""What a rank with so many layers of the body holds; ``None`` if it cannot hold them in that way."""
Formulas = Callable[[Any], Iterable[int]]
"""The least that quantities of a rank come to; each grows by the same with every layer and with every activation alive."""


@dataclass(frozen=True)
class Pipelines:
    """Pipelines of ``pp`` ranks, alike but for how many chunks a rank has: what is said of them is true of each.

    ``group`` micro-batches at a time, at least ``microbatches`` in a step.
    """

    pp: int
    chunks: tuple[int, ...]
    group: int
    microbatches: int

    @property
    def plain(self) -> bool:
        """True if none is interleaved."""
        return self.chunks == (1,)

    def each(self) -> Iterator[Pipelines]:
        """They one by one, those first that are likeliest to have room."""
        return (replace(self, chunks=(chunks,)) for chunks in sorted(self.chunks, reverse=True))

    def alive(self, rank: int, layers: int) -> int:
        """Layer activations that rank ``rank`` with ``layers`` layers keeps alive at least."""
        enough = max(STEADY_GROUPS * self.group, 2 * self.pp + self.group)  # more micro-batches change nothing
        return _fewest_alive(self.pp, self.chunks, self.group, min(self.microbatches, enough), rank, layers)

    def in_first_run(self, rank: int, prefix: int, layers: int) -> tuple[int, int]:
        """Micro-batches alive in chunks of a rank that may hold the ``prefix`` first of all ``layers``: at least, at most."""
        found = [self._in_first_run(chunks, rank, prefix, layers) for chunks in self.chunks]
        return min(fewest for fewest, _ in found), max(most for _, most in found)

    def _in_first_run(self, chunks: int, rank: int, prefix: int, layers: int) -> tuple[int, int]:
        """At least as many as the mean of an endless run or as when the first backward pass begins, at most that mean.

        Chunks behind the first hold some of the run only if layers are few: a rank with ``n`` layers has ``n // chunks`` in
        each.
        """
        if chunks == 1:
            return min(behind(self.pp, rank) + 1, self.microbatches), behind(self.pp, rank) + 1
        wave = 2 * behind(self.pp, rank) + 1
        row, begun = 0, max(self.group, wave)
        if layers <= self.pp * (chunks - 1) + (prefix - 1) * chunks:
            row = min(prefix, chunks) - 1 if layers > self.pp * (chunks - 1) else chunks - 1
            begun = min(self.group, wave) if row == chunks - 1 else self.group
        life = [wave + 2 * (chunks - 1 - i) * self.group for i in (row, 0)]
        return min(life[0] // chunks, begun, self.microbatches), -(-life[1] // chunks)


@lru_cache(maxsize=1 << 16)
def _fewest_alive(pp: int, chunks: tuple[int, ...], group: int, m: int, rank: int, layers: int) -> int:
    return min(_alive(pp, each, group, m, rank, layers) for each in chunks)


def _alive(pp: int, chunks: int, group: int, m: int, rank: int, layers: int) -> int:
    after = behind(pp, rank)
    if chunks == 1:
        return layers * min(after + 1, m)
    length, longer = divmod(layers, chunks)
    most = 2 * after + (chunks - 1) * group + 1
    live = length * min(most, m * chunks)
    if m >= STEADY_GROUPS * group:
        live += (longer * (2 * after + 1) + group * longer * (longer - 1)) // chunks
    if m >= group:
        # of the warm-up, what the next group has begun, and what the last chunk lacks of the first
        begun = max(0, min(2 * after + 1 - group, (m - group) * chunks))
        missing = max(0, group - 2 * after - 1)
        live = max(live, layers * group + length * begun - (length + 1) * missing)
    return live


class Forms:
    """The quantities of ranks as linear forms in layers and activations alive, by what else a rank holds.

    ``alive`` says whether they grow with activations; ``idle`` whether a rank may be without a layer. Formulas see ``chunks``
    chunks a rank. Where uniform recompute goes in groups, of ``group`` layers at most, activations alive are their inputs.
    """

    def __init__(
        self, model: ModelSpec, chunks: int, formulas: Formulas, *, alive: bool, idle: bool, group: int = 1
    ) -> None:
        self.model, self.chunks, self.formulas = model, chunks, formulas
        self.alive, self.idle, self.group = alive, idle, group
        self.runs = runs_of(model)
        self.kinds = sorted(set(model.layer_kinds)) if self.runs is None else [self.runs.common]
        self.body = self.runs.body if self.runs is not None else model.num_layers
        self._empty: dict[tuple[str, int], tuple[Rank, list[int]]] = {}
        self._more: dict[tuple[str, LayerKind, str], list[int]] = {}

    def may_keep_within(self, pipelines: Pipelines, bound: int) -> bool:
        """False if no partition of the layers, on none of ``pipelines``, keeps every quantity of every rank within
        ``bound``."""
        if not self._may_keep_within(pipelines, bound):
            return False
        return len(pipelines.chunks) == 1 or any(self._may_keep_within(alone, bound) for alone in pipelines.each())

    def _may_keep_within(self, pipelines: Pipelines, bound: int) -> bool:
        return have_room(pipelines.pp, self.body, lambda rank: self._most(pipelines, rank, bound))

    def _most(self, pipelines: Pipelines, rank: int, bound: int) -> int | None:
        """The most layers of the body that the rank can take; ``None`` if it must hold one and is then beyond the bound."""
        most = 0
        for way in self._ways(pipelines, rank):
            takes = partial(self._takes, pipelines, rank, bound, way, most)
            if most < self.body and takes(1):  # mostly another way takes no more than the first
                most += most_that(takes, self.body - most)
        return None if self._holds_some(pipelines, rank) and not most else most

    def _takes(self, pipelines: Pipelines, rank: int, bound: int, way: Way, layers: int, more: int) -> bool:
        """True if the rank that holds ``layers`` and ``more`` of the body in that way is within the bound."""
        held = way(layers + more)
        if held is None:
            return False
        longest = 0
        if self.group > 1:
            longest = ceil_div(sum(count for _, count, _ in held), max(pipelines.chunks))
            inputs = ceil_div(sum(alive for _, _, alive in held), self.group)
            held = [(kind, count, inputs * (kind == held[0][0])) for kind, count, _ in held]
        return self._within(_where(pipelines.pp, rank), held, bound, longest)

    def _holds_some(self, pipelines: Pipelines, rank: int) -> bool:
        """True if a layer of the body is on the rank for certain; else it may hold other kinds than the form's."""
        early = self.runs is not None and self.runs.prefix > 0
        may_be_early = early and (rank < pipelines.pp - 1 or not pipelines.plain)
        return not (self.idle or may_be_early)

    def _within(self, where: str, held: Held, bound: int, longest: int) -> bool:
        """True if every quantity of the rank that holds so much is within ``bound``; of groups, in a chunk of ``longest``
        layers."""
        totals = self._with_none(where, longest)[1]
        for kind, layers, _ in held:
            totals = self._grown(totals, layers, where, kind, "layers")
        if not self.alive or max(totals) > bound:  # what is alive comes on top
            return max(totals) <= bound
        for kind, _, alive in held:
            totals = self._grown(totals, alive, where, kind, "live")
        return max(totals) <= bound

    def _grown(self, totals: list[int], count: int, where: str, kind: LayerKind, counted: str) -> list[int]:
        """``totals`` with ``count`` more of ``kind``, as it is ``counted``."""
        if not count:
            return totals
        return [total + count * each for total, each in zip(totals, self._added(where, kind, counted), strict=True)]

    def _with_none(self, where: str, longest: int = 0) -> tuple[Rank, list[int]]:
        """A rank that holds no layer of the decoder, and its quantities, those of groups in ``longest`` layers among them."""
        if (where, longest) not in self._empty:
            first, last = where in ("first", "alone"), where in ("last", "alone")
            mtp = self.model.mtp_layers if last else 0
            kinds = tuple(self.kinds) if self.runs is not None and not self.idle else ()
            boundaries = {"alone": 0, "between": 2 * self.chunks}.get(where, 2 * self.chunks - 1)
            tail = tuple((kind, mtp) for kind in self.model.mtp_kinds) if mtp else ()
            empty = Rank(tail, tail, kinds, (), boundaries, embedding=first, loss=last, mtp=mtp, longest=longest)
            self._empty[where, longest] = empty, list(self.formulas(empty))
        return self._empty[where, longest]

    def _added(self, where: str, kind: LayerKind, counted: str) -> list[int]:
        """What one of ``kind`` adds to each quantity: of the "layers", or of the "live" ones."""
        key = where, kind, counted
        if key not in self._more:
            empty, base = self._with_none(where)
            changes: dict[str, Any] = {counted: _plus(empty.layers, kind)}
            grown = self.formulas(replace(empty, **changes))
            self._more[key] = [value - start for value, start in zip(grown, base, strict=True)]
        return self._more[key]

    def _ways(self, pipelines: Pipelines, rank: int) -> Iterator[Way]:
        """What the rank holds at least: one of these, by how many layers of the body it has."""
        runs = self.runs
        if runs is None:
            yield partial(self._of_each_kind, pipelines, rank)
        elif runs.prefix and pipelines.pp > 1 and not pipelines.plain:
            alive = pipelines.in_first_run(rank, runs.prefix, self.model.num_layers)
            for early in range(runs.prefix + 1):
                yield partial(_with_early, pipelines, rank, runs, early, alive)
        else:
            yield partial(_of_body, pipelines, rank, runs)

    def _of_each_kind(self, pipelines: Pipelines, rank: int, layers: int) -> Held:
        counts = [(kind, self._fewest(pipelines, kind, rank, layers)) for kind in self.kinds]
        return [(kind, count, pipelines.alive(rank, count)) for kind, count in counts]

    def _fewest(self, pipelines: Pipelines, kind: LayerKind, rank: int, layers: int) -> int:
        return min(self._fewest_on(chunks, pipelines.pp, kind, rank, layers) for chunks in pipelines.chunks)

    def _fewest_on(self, chunks: int, pp: int, kind: LayerKind, rank: int, layers: int) -> int:
        if chunks == 1 and rank == 0:
            return starts_with(self.model, kind, layers)
        if chunks == 1 and rank == pp - 1:
            return ends_with(self.model, kind, layers)
        length, longer = divmod(layers, chunks)
        windows = ((length, chunks - longer), (length + 1, longer))
        return sum(fewest_in_windows(self.model, kind, size) * times for size, times in windows if times)


def _of_body(pipelines: Pipelines, rank: int, runs: Runs, layers: int) -> Held:
    held = [(runs.common, layers, pipelines.alive(rank, layers))]
    if rank == 0 and runs.prefix and layers:  # all of the first run is on this rank if any of the body is
        held.append((runs.early, runs.prefix, runs.prefix * min(pipelines.pp, pipelines.microbatches)))
    return held


def _with_early(
    pipelines: Pipelines, rank: int, runs: Runs, early: int, alive: tuple[int, int], layers: int
) -> Held | None:
    """With ``early`` layers of the first run beside, which keep ``alive`` micro-batches at least and at most; ``None`` if the
    first rank must have more of them.

    Where its first chunk holds some, the others may hold more of the body than would be even.
    """
    if rank == 0 and early < min(runs.prefix, (layers + early) // max(pipelines.chunks)):
        return None
    fewest, most = alive
    later = max(0, pipelines.alive(rank, layers + early) - early * most)
    return [(runs.early, early, early * fewest), (runs.common, layers, later)]


def _where(pp: int, rank: int) -> str:
    if pp == 1:
        return "alone"
    return "first" if rank == 0 else "last" if rank == pp - 1 else "between"


def _plus(counts: tuple[tuple[LayerKind, int], ...], kind: LayerKind) -> tuple[tuple[LayerKind, int], ...]:
    """``counts`` with one layer more of ``kind``."""
    more = dict(counts)
    more[kind] = more.get(kind, 0) + 1
    return tuple(sorted(more.items()))
