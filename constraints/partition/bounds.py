"""Whether any partition of the layers can keep every rank of a pipeline within a bound: a counting argument.

Of each rank it is known how much of a quantity its layers add, and so how many it can take; if all ranks together can take
fewer layers than there are, no partition will do. What a rank keeps alive is counted as in :mod:`solver.placement`, in whole
numbers: the checker of certificates does not look at the solver's model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.partition.kinds import ends_with, fewest_in_windows, runs_of, starts_with
from constraints.partition.parts import behind, fine_parts
from constraints.partition.rank import Rank
from constraints.pipeline.schedule import STEADY_GROUPS
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Forms", "Pipeline"]

Counts = dict[LayerKind, int]
Formulas = Callable[[Any], Iterable[int]]
"""The least that quantities of a rank come to; each grows by the same with every layer and with every activation alive."""


@dataclass(frozen=True)
class Pipeline:
    """``pp`` ranks of ``chunks`` chunks, ``group`` micro-batches at a time, at least ``microbatches`` in a step."""

    model: ModelSpec
    pp: int
    chunks: int
    group: int
    microbatches: int

    def alive(self, rank: int, layers: int) -> int:
        """Layer activations that rank ``rank`` with ``layers`` layers keeps alive at least."""
        after, m = behind(self.pp, rank), self.microbatches
        if self.chunks == 1:
            return layers * min(after + 1, m)
        length, longer = divmod(layers, self.chunks)
        most = 2 * after + (self.chunks - 1) * self.group + 1
        live = length * min(most, m * self.chunks)
        if m >= STEADY_GROUPS * self.group:
            live += (longer * (2 * after + 1) + self.group * longer * (longer - 1)) // self.chunks
        if m >= self.group:
            # of the warm-up, what the next group has begun, and what the last chunk lacks of the first
            begun = max(0, min(2 * after + 1 - self.group, (m - self.group) * self.chunks))
            missing = max(0, self.group - 2 * after - 1)
            live = max(live, layers * self.group + length * begun - (length + 1) * missing)
        return live

    def in_first_run(self, rank: int, prefix: int) -> tuple[int, int]:
        """Micro-batches alive in the chunks of a rank that may hold ``prefix`` layers of a first run, at least and at most.

        At least as many as the mean of an endless run or as when the first backward pass begins, at most that mean. Chunks
        behind the first hold some of it only if layers are few: a rank with ``n`` layers has ``n // chunks`` in each.
        """
        wave, layers, m = 2 * behind(self.pp, rank) + 1, self.model.num_layers, self.microbatches
        row, begun = 0, max(self.group, wave)
        if layers <= self.pp * (self.chunks - 1) + (prefix - 1) * self.chunks:
            row = min(prefix, self.chunks) - 1 if layers > self.pp * (self.chunks - 1) else self.chunks - 1
            begun = min(self.group, wave) if row == self.chunks - 1 else self.group
        life = [wave + 2 * (self.chunks - 1 - i) * self.group for i in (row, 0)]
        return min(life[0] // self.chunks, begun, m), -(-life[1] // self.chunks)


class Forms:
    """The quantities of ranks as linear forms in layers and activations alive, by what else a rank holds.

    ``alive`` says whether they grow with activations; ``idle`` whether a rank may be without a layer. Formulas see ``chunks``
    chunks a rank.
    """

    def __init__(self, model: ModelSpec, chunks: int, formulas: Formulas, *, alive: bool, idle: bool) -> None:
        self.model, self.chunks, self.formulas = model, chunks, formulas
        self.alive, self.idle = alive, idle
        self.runs = runs_of(model)
        self.kinds = sorted(set(model.layer_kinds)) if self.runs is None else [self.runs.common]
        self.body = self.runs.body if self.runs is not None else model.num_layers
        self._made: dict[str, Any] = {}

    def may_keep_within(self, pipeline: Pipeline, bound: int) -> bool:
        """False if no partition of the layers keeps every quantity of every rank at most ``bound``."""
        room = 0
        for rank, ranks in _ranks(pipeline.pp):
            most = self._most(pipeline, rank, bound)
            if most is None:
                return False
            room += ranks * most
            if room >= self.body and rank != pipeline.pp - 1:
                break
        return room >= self.body

    def _most(self, pipeline: Pipeline, rank: int, bound: int) -> int | None:
        """The most layers of the body that the rank can take; ``None`` if it is beyond the bound with none."""
        early = self.runs is not None and self.runs.prefix > 0
        none_is_enough = self.idle or (early and (rank == 0 or pipeline.chunks > 1))
        low, high = 0 if none_is_enough else -1, self.body
        while low < high:
            middle = (low + high + 1) // 2
            if any(self._largest(pipeline, rank, *held) <= bound for held in self._counts(pipeline, rank, middle)):
                low = middle
            else:
                high = middle - 1
        return low if low >= 0 else None

    def _largest(self, pipeline: Pipeline, rank: int, counts: Counts, alive: Counts) -> int:
        """The largest quantity of the rank with such layers and live layers."""
        where = _where(pipeline.pp, rank)
        if where not in self._made:
            self._made[where] = self._form(where)
        base, layer, live = self._made[where]
        largest: int = max(
            start
            + sum(layer[kind][i] * n for kind, n in counts.items())
            + (sum(live[kind][i] * n for kind, n in alive.items()) if self.alive else 0)
            for i, start in enumerate(base)
        )
        return largest

    def _form(self, where: str) -> tuple[list[int], Mapping[LayerKind, list[int]], Mapping[LayerKind, list[int]]]:
        """The quantities with no layer, and what a layer and a live layer of each kind adds to each."""
        first, last = where in ("first", "alone"), where in ("last", "alone")
        mtp = self.model.mtp_layers if last else 0
        kinds = tuple(self.kinds) if self.runs is not None and not self.idle else ()
        boundaries = {"alone": 0, "between": 2 * self.chunks}.get(where, 2 * self.chunks - 1)
        tail = tuple((kind, mtp) for kind in self.model.mtp_kinds) if mtp else ()
        empty = Rank(tail, tail, kinds, (), boundaries, embedding=first, loss=last, mtp=mtp)
        base = list(self.formulas(empty))

        def added(**fields: Any) -> list[int]:
            return [value - start for value, start in zip(self.formulas(replace(empty, **fields)), base, strict=True)]

        every = self.kinds if self.runs is None and not first else sorted({*self.model.layer_kinds})
        layer = {kind: added(layers=_plus(tail, kind)) for kind in every}
        live = {kind: added(live=_plus(tail, kind)) for kind in every} if self.alive else {}
        return base, layer, live

    def _counts(self, pipeline: Pipeline, rank: int, layers: int) -> Iterator[tuple[Counts, Counts]]:
        """Layers and live layers of each kind on a rank with ``layers`` layers of the body, at least: one of these."""
        runs = self.runs
        if runs is not None and runs.prefix and pipeline.chunks > 1 and pipeline.pp > 1:
            yield from self._with_early(pipeline, rank, layers)
        else:
            yield self._least(pipeline, rank, layers)

    def _with_early(self, pipeline: Pipeline, rank: int, layers: int) -> Iterator[tuple[Counts, Counts]]:
        """The same for each number of layers of the first run that may be on the rank beside.

        Where its first chunk holds some, the others may hold more of the body than would be even.
        """
        assert self.runs is not None
        fewest, most = pipeline.in_first_run(rank, self.runs.prefix)
        for early in range(self.runs.prefix + 1):
            if rank == 0 and early < min(self.runs.prefix, (layers + early) // pipeline.chunks):
                continue
            later = max(0, pipeline.alive(rank, layers + early) - early * most)
            yield (
                {self.runs.early: early, self.runs.common: layers},
                {self.runs.early: early * fewest, self.runs.common: later},
            )

    def _least(self, pipeline: Pipeline, rank: int, layers: int) -> tuple[Counts, Counts]:
        runs = self.runs
        if runs is None:
            counts = {kind: self._fewest(pipeline, kind, rank, layers) for kind in self.kinds}
            return counts, {kind: pipeline.alive(rank, n) for kind, n in counts.items()}
        counts, alive = {runs.common: layers}, {runs.common: pipeline.alive(rank, layers)}
        if rank == 0 and runs.prefix and (pipeline.chunks == 1 or pipeline.pp == 1) and layers:
            # All layers of the first run are on this rank if any of the body is.
            early = min(pipeline.pp, pipeline.microbatches)
            counts[runs.early], alive[runs.early] = runs.prefix, runs.prefix * early
        return counts, alive

    def _fewest(self, pipeline: Pipeline, kind: LayerKind, rank: int, layers: int) -> int:
        pp, chunks = pipeline.pp, pipeline.chunks
        if chunks == 1 and rank == 0:
            return starts_with(self.model, kind, layers)
        if chunks == 1 and rank == pp - 1:
            return ends_with(self.model, kind, layers)
        length, longer = divmod(layers, chunks)
        windows = ((length, chunks - longer), (length + 1, longer))
        return sum(fewest_in_windows(self.model, kind, size) * times for size, times in windows if times)


def _ranks(pp: int) -> Iterable[tuple[int, int]]:
    """Ranks, each with how many it speaks for, those first that are likeliest to be beyond any bound."""
    yield pp - 1, 1
    if pp > 1:
        yield 0, 1
    for part in fine_parts(pp):
        yield part.latest(pp), part.size(pp)


def _where(pp: int, rank: int) -> str:
    if pp == 1:
        return "alone"
    return "first" if rank == 0 else "last" if rank == pp - 1 else "between"


def _plus(counts: tuple[tuple[LayerKind, int], ...], kind: LayerKind) -> tuple[tuple[LayerKind, int], ...]:
    """``counts`` with one layer more of ``kind``."""
    more = dict(counts)
    more[kind] = more.get(kind, 0) + 1
    return tuple(sorted(more.items()))
