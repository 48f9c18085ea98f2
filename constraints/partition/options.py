"""What one rank may take of the layers that are left, as the chunks that it then builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from constraints.partition.kinds import runs_of
from constraints.pipeline.assignment import Chunk
from models_catalog.schema import ModelSpec

__all__ = [
    "Left",
    "Option",
    "Options",
    "Run",
    "holds_at_least",
    "lefts_of",
    "options_of",
    "starts_of",
    "takes_any_order",
]

Run = tuple[int, int, int]
"""Layers of the first run in the chunk where it may end, and in those before; spare ones that make a chunk longer."""


class Left(NamedTuple):
    """What earlier ranks have left: ``layers`` in all, ``early`` of the model's first run among them.

    The first run ends in the chunks that are their ranks' number ``row``: ``early`` are those left for these chunks,
    ``before`` those left for chunks before them, which hold nothing else. Mostly the first chunks hold the whole run.
    ``spare`` is 1 while a rank between the ends may still have a chunk that is longer than its others.
    """

    layers: int
    early: int
    before: int = 0
    row: int = 0
    spare: int = 0

    def without(self, layers: int, run: Run) -> Left:
        """What is left after a rank that takes ``layers``, ``run`` among them."""
        left = self.layers - layers
        early, before = self.early - run[0], self.before - run[1]
        row = self.row if left or early or before else 0
        return Left(left, early, before, row, self.spare - run[2] if left else 0)


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
    spare = int(vpp > 1 and pp > 2)
    starts = [Left(model.num_layers, prefix, spare=spare)]
    if vpp > 1 and prefix and model.num_layers <= (prefix - 1) * vpp + pp * (vpp - 1):
        ends = ((row, early) for row in range(1, vpp) for early in range(1, prefix + 1))
        starts += [Left(model.num_layers, early, prefix - early, row, spare) for row, early in ends]
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


def options_of(model: ModelSpec, pp: int, vpp: int, rank: int, left: Left, layers: int) -> Iterator[Option]:
    """The ways in which rank ``rank`` takes ``layers`` more, its chunks alike (:class:`constraints.chunks.EvenChunks`)."""
    if vpp == 1:
        start = model.num_layers - left.layers
        yield Option((_chunk(model, pp, rank, 1, 0, start, layers),), (min(left.early, layers), 0, 0))
        return
    runs = runs_of(model)
    assert runs is not None, "layers that differ from chunk to chunk are not dealt rank by rank"
    for sizes, spare in _patterns(pp, vpp, rank, layers, left.spare):
        before, early = sum(sizes[: left.row]), min(left.early, sizes[left.row])
        if before > left.before or (spare and before + early):
            continue
        starts = [0] * left.row + [runs.prefix - early] + [runs.prefix] * (vpp - 1 - left.row)
        chunks = tuple(
            _chunk(model, pp, rank, vpp, i, start, size)
            for i, (start, size) in enumerate(zip(starts, sizes, strict=True))
        )
        yield Option(chunks, (early, before, spare))


def _patterns(pp: int, vpp: int, rank: int, layers: int, spare: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """(lengths of a rank's chunks, spare layers among them, of which there are ``spare``)."""
    if rank == pp - 1:
        for length in range(-(-layers // vpp), layers // (vpp - 1) + 1):
            yield (*(length,) * (vpp - 1), layers - length * (vpp - 1)), 0
    elif rank == 0:
        for more in (0, 1, -1):
            length, rest = divmod(layers - more, vpp)
            if not rest and length + min(more, 0) >= 0:
                yield (length + more, *(length,) * (vpp - 1)), 0
    else:
        length, rest = divmod(layers, vpp)
        if rest <= spare:
            yield (*(length,) * (vpp - 1), length + rest), rest


def holds_at_least(pp: int, vpp: int, rank: int, layers: int) -> int:
    """The fewest layers, ``layers`` or more, that the rank may hold in chunks that are alike, one spare one apart.

    >>> [holds_at_least(4, 3, rank, 5) for rank in range(4)], holds_at_least(4, 1, 1, 5)
    ([5, 6, 6, 5], 5)
    """
    while vpp > 1 and not any(_patterns(pp, vpp, rank, layers, 1)):
        layers += 1
    return layers


class Options:
    """The options of all ranks of one pipeline, each list made once for all that is alike to it."""

    def __init__(self, model: ModelSpec, pp: int, vpp: int) -> None:
        self.model, self.pp, self.vpp = model, pp, vpp
        self._by_run = vpp > 1 or runs_of(model) is not None
        self._made: dict[tuple[int, tuple[int, ...], int], tuple[Option, ...]] = {}

    def start(self, left: Left) -> tuple[int, ...]:
        """Of what is left, as much as decides of which kinds the next layers are."""
        return left[1:] if self._by_run else (left.layers,)

    def of(self, rank: int, left: Left, layers: int) -> tuple[Option, ...]:
        """The ways in which ``rank`` takes ``layers`` more layers."""
        key = rank, self.start(left), layers
        if key not in self._made:
            self._made[key] = tuple(options_of(self.model, self.pp, self.vpp, rank, left, layers))
        return self._made[key]


def _chunk(model: ModelSpec, pp: int, rank: int, vpp: int, index: int, start: int, layers: int) -> Chunk:
    """A chunk that starts at a layer of the kind that it would start at; the ends hold what only they hold."""
    first, last = rank == index == 0, rank == pp - 1 and index == vpp - 1
    return Chunk(start, start + layers, first, model.mtp_layers if last else 0, last)
