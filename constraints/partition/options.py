"""What one rank may take of the layers that are left, as the chunks that it then builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from constraints.partition.kinds import runs_of
from constraints.pipeline.assignment import Chunk
from models_catalog.schema import ModelSpec

__all__ = ["Left", "Option", "Options", "Run", "lefts_of", "options_of", "starts_of", "takes_any_order"]

Run = tuple[int, int]
"""Layers of the first run in the chunk where it may end, and in those before."""


class Left(NamedTuple):
    """What earlier ranks have left: ``layers`` in all, ``early`` of the model's first run among them.

    The first run ends in the chunks that are their ranks' number ``row``: ``early`` are those left for these chunks,
    ``before`` those left for chunks before them, which hold nothing else. Mostly the first chunks hold the whole run.
    """

    layers: int
    early: int
    before: int = 0
    row: int = 0

    def without(self, layers: int, run: Run) -> Left:
        """What is left after a rank that takes ``layers``, ``run`` of the first run among them."""
        left = self.layers - layers
        early, before = self.early - run[0], self.before - run[1]
        return Left(left, early, before, self.row if left or early or before else 0)


class Option(NamedTuple):
    """The chunks of a rank, and how many layers of the model's first run are in them: see :class:`Left`."""

    chunks: tuple[Chunk, ...]
    run: Run

    @property
    def unevenness(self) -> int:
        """Sum of the squares of the chunks' lengths: of all splits of the same layers the most even has least."""
        return sum(chunk.layers**2 for chunk in self.chunks)


def starts_of(model: ModelSpec, pp: int, vpp: int) -> list[Left]:
    """All layers, once for each place in which the first run may end, its first place first.

    A rank with ``n`` layers has ``n // vpp`` of them in each chunk at least: unless ``pp`` ranks can hold all layers with
    fewer than the run's in their first chunks, the run ends there.
    """
    runs = runs_of(model)
    prefix = runs.prefix if runs else 0
    starts = [Left(model.num_layers, prefix)]
    if vpp > 1 and prefix and model.num_layers <= (prefix - 1) * vpp + pp * (vpp - 1):
        ends = ((row, early) for row in range(1, vpp) for early in range(1, prefix + 1))
        starts += [Left(model.num_layers, early, prefix - early, row) for row, early in ends]
    return starts


def lefts_of(model: ModelSpec, pp: int, vpp: int) -> list[Left]:
    """What may be left before a rank, as far as it decides of which kinds the layers are that it takes."""
    start, *others = starts_of(model, pp, vpp)
    runs = runs_of(model)
    if vpp > 1:
        lefts = [
            other._replace(early=early, before=before)
            for other in others
            for early in range(other.early + 1)
            for before in range(other.before + 1)
        ]
        return [start._replace(early=0), *lefts, *(start._replace(early=n) for n in range(1, start.early + 1))]
    taken = range(runs.prefix + 1 if runs is not None else model.num_layers)
    return [Left(model.num_layers - n, max(0, start.early - n)) for n in taken]


def takes_any_order(model: ModelSpec, vpp: int) -> bool:
    """True if ranks can be filled one after the other: without virtual stages, or where layers are alike but for a first
    run."""
    return vpp == 1 or runs_of(model) is not None


def options_of(
    model: ModelSpec, pp: int, vpp: int, rank: int, left: Left, layers: int, *, by_chunk: bool = False
) -> Iterator[Option]:
    """The ways in which rank ``rank`` takes ``layers`` more, its chunks as long as each other or one longer.

    The longer ones come last: at any moment a chunk has as many micro-batches alive as each later one, or more, as forward
    steps take the chunks in order and backward steps in reverse; so a layer moved to a later chunk never adds to what is
    alive, whatever else the chunks hold. On the last rank longer ones come first if that fits, as the last chunk computes the
    loss beside. A longer chunk that is all of the first run leaves less of it to others: that is told apart, chunks before
    ``left.row`` by how many are longer; only there is it of use that the very last chunk may hold fewer, and with
    ``by_chunk``: where what is recomputed depends on how long each chunk is.
    """
    if vpp == 1:
        start = model.num_layers - left.layers
        yield Option((_chunk(model, pp, rank, 1, 0, start, layers),), (min(left.early, layers), 0))
        return
    runs = runs_of(model)
    assert runs is not None, "layers that differ from chunk to chunk are not dealt rank by rank"
    length, longer = divmod(layers, vpp)
    if rank == pp - 1:
        patterns = _on_last(length, longer, vpp, left, by_chunk=by_chunk)
    else:
        patterns = _patterns(length, longer, vpp, left)
    for sizes in patterns:
        before, early = sum(sizes[: left.row]), min(left.early, sizes[left.row])
        if before > left.before:
            continue
        starts = [0] * left.row + [runs.prefix - early] + [runs.prefix] * (vpp - 1 - left.row)
        chunks = tuple(
            _chunk(model, pp, rank, vpp, i, start, size)
            for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
        )
        yield Option(chunks, (early, before))


def _patterns(length: int, longer: int, vpp: int, left: Left) -> Iterator[tuple[int, ...]]:
    """Chunk lengths of which ``longer`` are ``length + 1``."""
    for in_front in range(min(left.row, longer) + 1):
        front = (length,) * (left.row - in_front) + (length + 1,) * in_front
        rest, behind = longer - in_front, vpp - left.row
        if rest <= behind:
            yield front + (length,) * (behind - rest) + (length + 1,) * rest
        if 0 < rest < behind and left.early > length:
            yield (*front, length + 1) + (length,) * (behind - rest) + (length + 1,) * (rest - 1)


def _on_last(length: int, longer: int, vpp: int, left: Left, *, by_chunk: bool) -> Iterator[tuple[int, ...]]:
    """The same on the last rank."""
    if longer and not left.row:
        yield (length + 1,) * longer + (length,) * (vpp - longer)
    yield from _patterns(length, longer, vpp, left)
    if left.row < vpp - 1 and (by_chunk or left.early > length or left.before > length * left.row):
        for least in range(length):
            others = divmod(length * vpp + longer - least, vpp - 1)
            yield from ((*sizes, least) for sizes in _patterns(*others, vpp - 1, left))


class Options:
    """The options of all ranks of one pipeline, each list made once for all that is alike to it."""

    def __init__(self, model: ModelSpec, pp: int, vpp: int, *, by_chunk: bool = False) -> None:
        self.model, self.pp, self.vpp, self.by_chunk = model, pp, vpp, by_chunk
        self._by_run = vpp > 1 or runs_of(model) is not None
        self._made: dict[tuple[int, tuple[int, ...], int], tuple[Option, ...]] = {}

    def start(self, left: Left) -> tuple[int, ...]:
        """Of what is left, as much as decides of which kinds the next layers are."""
        return left[1:] if self._by_run else (left.layers,)

    def of(self, rank: int, left: Left, layers: int) -> tuple[Option, ...]:
        """The ways in which ``rank`` takes ``layers`` more layers."""
        key = rank, self.start(left), layers
        if key not in self._made:
            self._made[key] = tuple(
                options_of(self.model, self.pp, self.vpp, rank, left, layers, by_chunk=self.by_chunk)
            )
        return self._made[key]


def _chunk(model: ModelSpec, pp: int, rank: int, vpp: int, index: int, start: int, layers: int) -> Chunk:
    """A chunk that starts at a layer of the kind that it would start at; the ends hold what only they hold."""
    first, last = rank == index == 0, rank == pp - 1 and index == vpp - 1
    return Chunk(start, start + layers, first, model.mtp_layers if last else 0, last)
