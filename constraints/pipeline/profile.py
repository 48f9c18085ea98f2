"""What one pipeline rank builds and holds, as counts: all that the byte and time formulas need to know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import ge, mul

from constraints.layout import NO_RECOMPUTE, Recompute
from constraints.pipeline.assignment import Assignment, Chunk, kinds_of
from constraints.pipeline.schedule import chunks_alive, in_flight
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Stage", "begun_stages", "fullest_candidates", "rank_stages", "slowest_candidates", "stages_of"]

LayerCounts = tuple[tuple[LayerKind, int], ...]
Counts = Mapping[object, int]


@dataclass(frozen=True)
class Stage:
    """Pipeline rank ``rank``: its chunks, and for each chunk how many micro-batches are alive in one of its fullest states.

    ``layers`` counts the layers it stores by kind (an MTP layer is one of the last kind), ``live`` the layer
    activations it holds: layers times micro-batches in flight. Without interleaving that many are alive only if the
    step has so many micro-batches; :attr:`most_copies` is the count to cap. ``boundaries`` counts the chunk boundaries
    it sends or receives over.
    """

    rank: int
    chunks: tuple[Chunk, ...]
    copies: tuple[int, ...]
    layers: LayerCounts
    live: LayerCounts
    embedding: bool
    loss: bool
    mtp: int
    boundaries: int
    interleaved: bool

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The kinds of layer that it holds."""
        return tuple(kind for kind, _ in self.layers)

    @property
    def most_copies(self) -> int | None:
        """Micro-batches that 1F1B keeps alive in a long step; ``None`` if interleaved (``live`` is then exact)."""
        return None if self.interleaved else self.copies[0]

    @property
    def heads(self) -> int:
        """Output projections with a loss that it computes: the main one and one for each MTP layer beside it."""
        return (1 if self.loss else 0) + self.mtp

    @property
    def mtp_live(self) -> int:
        """MTP layers, interleaved times the micro-batches that their chunk has in flight."""
        pairs = zip(self.chunks, self.copies, strict=True)
        return sum(chunk.mtp * (copies if self.interleaved else 1) for chunk, copies in pairs)

    @property
    def holds_embedding_copy(self) -> bool:
        """True if it stores a word embedding: the first rank, and a rank whose MTP layers are away from it."""
        return self.embedding or self.mtp > 0

    @property
    def is_interleaved_end(self) -> bool:
        """True of the first and the last rank, whose chunks may differ from each other."""
        return self.interleaved and len(self.chunks) > 1 and (self.embedding or self.loss)

    def of_chunk(self, model: ModelSpec, chunk: Chunk) -> Stage:
        """The part of it that is ``chunk``."""
        layers = _counts(kinds_of(model, chunk))
        ends = chunk.embedding, chunk.loss, chunk.mtp
        return Stage(self.rank, (chunk,), (1,), layers, layers, *ends, self.boundaries, self.interleaved)

    def again(self, model: ModelSpec, first: int) -> LayerCounts:
        """Layers that block recompute computes again: the ``first`` ones of each chunk; MTP layers are none of them."""
        return self._at_starts(model, first, (1,) * len(self.chunks))

    def again_live(self, model: ModelSpec, first: int) -> LayerCounts:
        """The same, interleaved times the micro-batches that their chunk has in flight: what keeps its input only."""
        return self._at_starts(model, first, self.copies if self.interleaved else (1,) * len(self.chunks))

    def _at_starts(self, model: ModelSpec, first: int, times: tuple[int, ...]) -> LayerCounts:
        counts: Counter[LayerKind] = Counter()
        for chunk, copies in zip(self.chunks, times, strict=True):
            for kind in model.layer_kinds[chunk.start : min(chunk.stop, chunk.start + first)]:
                counts[kind] += copies
        return _counts(counts)

    def groups_live(self, size: int) -> int:
        """Inputs that uniform recompute in groups of ``size`` layers keeps, interleaved times micro-batches in flight.

        A group does not go beyond its chunk; an MTP layer is one by itself.
        """
        pairs = zip(self.chunks, self.copies, strict=True)
        return sum((-(-c.layers // size) + c.mtp) * (n if self.interleaved else 1) for c, n in pairs)

    @cached_property
    def held(self) -> Counts:
        """The counts that its memory grows with, whatever the degrees are."""
        counts: dict[object, int] = {"embedding": self.embedding, "loss": self.loss, "mtp": self.mtp}
        counts |= {("layers", kind): n for kind, n in self.layers}
        return counts | {("live", kind): n for kind, n in self.live} | {"mtp live": self.mtp_live}

    @cached_property
    def worked(self) -> Counts:
        """The counts that its time grows with, whatever the degrees are."""
        counts: dict[object, int] = {"embedding": self.embedding, "loss": self.loss, "mtp": self.mtp}
        return counts | {("layers", kind): n for kind, n in self.layers} | {"boundaries": self.boundaries}


@lru_cache(maxsize=16384)
def stages_of(
    model: ModelSpec,
    assignment: Assignment,
    vpp: int | None,
    group: int,
    microbatches: int,
    ranks: tuple[int, ...] | None = None,
    recompute: Recompute = NO_RECOMPUTE,
) -> tuple[Stage, ...]:
    """Every stage of the pipeline (or those of ``ranks``) in order; a rank stands there once for each of its states of which
    one is the fullest.

    ``microbatches`` matters only when interleaved (``vpp`` not ``None``); else :attr:`Stage.most_copies` is to be
    capped; ``recompute`` only where what is kept depends on which chunks are alive
    (:attr:`~constraints.layout.Recompute.by_chunk`).
    """
    pp, wanted = assignment.pp, range(assignment.pp) if ranks is None else ranks
    return tuple(
        stage
        for rank in wanted
        for stage in rank_stages(model, pp, vpp, group, microbatches, rank, assignment.of_rank(rank), recompute)
    )


def rank_stages(
    model: ModelSpec,
    pp: int,
    vpp: int | None,
    group: int,
    microbatches: int,
    rank: int,
    chunks: tuple[Chunk, ...],
    recompute: Recompute = NO_RECOMPUTE,
) -> list[Stage]:
    """The stage of rank ``rank`` of ``pp`` that builds ``chunks``, once for each of the states of which one is its fullest:
    no other has at least as much of everything alive."""
    counts = {chunk: kinds_of(model, chunk) for chunk in {*chunks}}
    kinds = [counts[chunk] for chunk in chunks]
    weights = _weights(model, kinds, chunks, recompute)
    alike = all(len(set(weight)) == 1 for weight in weights)
    states = _states(alike, len(chunks), pp, vpp, group, microbatches, rank)
    return _in_states(pp, vpp, rank, chunks, kinds, _fullest(states, weights))


def _weights(
    model: ModelSpec, kinds: list[Counter[LayerKind]], chunks: tuple[Chunk, ...], recompute: Recompute
) -> list[tuple[int, ...]]:
    """By all that a micro-batch in flight keeps, how much each chunk keeps of it."""
    every = {*kinds[0]}.union(*kinds)
    mtp, group, first = tuple(chunk.mtp for chunk in chunks), recompute.group, recompute.first
    if group > 1:
        return [tuple(-(-chunk.layers // group) for chunk in chunks), mtp]
    apart = [kinds]
    if first:
        again = [Counter(model.layer_kinds[c.start : min(c.stop, c.start + first)]) for c in chunks]
        apart = [again, [counts - some for counts, some in zip(kinds, again, strict=True)]]
    return [*(tuple(counts[kind] for counts in part) for part in apart for kind in every), mtp]


def _fullest(states: Collection[tuple[int, ...]], weights: list[tuple[int, ...]]) -> Iterable[tuple[int, ...]]:
    """Those of ``states``, which all have as many chunks alive, in which most is alive."""
    if len(states) == 1:
        return states
    apart = [weight for weight in weights if len({*weight}) > 1]  # of others as much is alive in every state
    if len(apart) == 1:
        return [max(states, key=lambda copies: (sum(map(mul, apart[0], copies)), copies))]
    alive = {tuple(sum(map(mul, weight, copies)) for weight in apart): copies for copies in sorted(states)}
    most: list[tuple[int, ...]] = []
    for held in sorted(alive, reverse=True):  # none is covered by one that comes after it
        if not any(all(map(ge, other, held)) for other in most):
            most.append(held)
    return sorted(alive[held] for held in most)


def begun_stages(model: ModelSpec, assignment: Assignment, vpp: int, group: int) -> tuple[Stage, ...]:
    """The interleaved stages when their first backward pass begins: they hold as much in every step, however long."""
    stages = []
    for rank in range(assignment.pp):
        chunks = assignment.of_rank(rank)
        left, copies = chunks_alive(assignment.pp, vpp, group, group, rank), []
        for _ in chunks:
            copies.append(min(group, left))
            left -= copies[-1]
        kinds = [kinds_of(model, chunk) for chunk in chunks]
        stages += _in_states(assignment.pp, vpp, rank, chunks, kinds, [tuple(copies)])
    return tuple(stages)


def _in_states(
    pp: int,
    vpp: int | None,
    rank: int,
    chunks: tuple[Chunk, ...],
    kinds: list[Counter[LayerKind]],
    states: Iterable[tuple[int, ...]],
) -> list[Stage]:
    last = pp * len(chunks) - 1
    layers = _counts(_times(kinds, (1,) * len(kinds)))
    boundaries = 0 if pp == 1 else sum((i > 0) + (i < last) for i in range(rank, last + 1, pp))
    return [
        Stage(
            rank=rank,
            chunks=chunks,
            copies=copies,
            layers=layers,
            live=_counts(_times(kinds, copies)),
            embedding=any(chunk.embedding for chunk in chunks),
            loss=any(chunk.loss for chunk in chunks),
            mtp=sum(chunk.mtp for chunk in chunks),
            boundaries=boundaries,
            interleaved=vpp is not None,
        )
        for copies in states
    ]


def _states(
    alike: bool, chunks: int, pp: int, vpp: int | None, group: int, microbatches: int, rank: int
) -> Collection[tuple[int, ...]]:
    """The fullest states of one rank, as micro-batches per chunk."""
    if vpp is None:
        return [(pp - rank,) * chunks]  # several chunks only where vpp is set without a pipeline
    if alike:  # chunks weigh the same: any split of the total will do
        alive = chunks_alive(pp, vpp, group, microbatches, rank)
        return [tuple(alive // vpp + (chunk < alive % vpp) for chunk in range(vpp))]
    return in_flight(pp, vpp, group, microbatches, rank)


def fullest_candidates(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages of which one is the fullest: no other holds at least as much of everything.

    Without interleaving it needs no micro-batch count: of two stages, the one with as many layers and as many layers
    times copies holds at least as much under any cap on the copies.
    """
    return _undominated(stages, lambda stage: stage.held)


def slowest_candidates(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages of which one is the slowest: no other has at least as much of everything to do."""
    return _undominated(stages, lambda stage: stage.worked)


def _undominated(stages: Iterable[Stage], counts: Callable[[Stage], Counts]) -> tuple[Stage, ...]:
    kept: list[Stage] = []
    for stage in stages:
        if any(_covers(counts(other), counts(stage)) for other in kept):
            continue
        kept = [other for other in kept if not _covers(counts(stage), counts(other))] + [stage]
    return tuple(kept)


def _covers(more: Counts, less: Counts) -> bool:
    return all(more.get(key, 0) >= n for key, n in less.items())


def _counts(counter: Counter[LayerKind]) -> LayerCounts:
    return tuple(sorted((kind, n) for kind, n in counter.items() if n))


def _times(kinds: list[Counter[LayerKind]], copies: tuple[int, ...]) -> Counter[LayerKind]:
    total: Counter[LayerKind] = Counter()
    for counter, n in zip(kinds, copies, strict=True):
        for kind, layers in counter.items():
            total[kind] += layers * n
    return total
