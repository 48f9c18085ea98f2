"""What one rank may take of the layers that are left, as the chunks that it then builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from constraints.partition.kinds import runs_of
from constraints.pipeline.assignment import Chunk
from models_catalog.schema import ModelSpec

__all__ = ["Left", "Option", "Options", "lefts_of", "options_of", "start_of", "takes_any_order"]


class Left(NamedTuple):
    """What earlier ranks have left: ``layers`` in all, ``early`` of the model's first run among them."""

    layers: int
    early: int


class Option(NamedTuple):
    """The chunks of a rank, and how many layers of the model's first run are in them."""

    chunks: tuple[Chunk, ...]
    early: int

    @property
    def unevenness(self) -> int:
        """Sum of the squares of the chunks' lengths: of all splits of the same layers the most even has least."""
        return sum(chunk.layers**2 for chunk in self.chunks)


def start_of(model: ModelSpec) -> Left:
    """All layers."""
    runs = runs_of(model)
    return Left(model.num_layers, runs.prefix if runs else 0)


def lefts_of(model: ModelSpec, vpp: int) -> list[Left]:
    """What may be left before a rank, as far as it decides of which kinds the layers are that it takes."""
    start, runs = start_of(model), runs_of(model)
    if vpp > 1:
        return [start._replace(early=early) for early in range(start.early + 1)]
    starts = range(runs.prefix + 1 if runs is not None else model.num_layers)
    return [Left(model.num_layers - taken, max(0, start.early - taken)) for taken in starts]


def takes_any_order(model: ModelSpec, vpp: int) -> bool:
    """True if ranks can be filled one after the other: without virtual stages, or where layers are alike but for a first
    run that the first chunks hold."""
    return vpp == 1 or runs_of(model) is not None


def options_of(model: ModelSpec, pp: int, vpp: int, rank: int, left: Left, layers: int) -> Iterator[Option]:
    """The ways in which rank ``rank`` takes ``layers`` more, its chunks as long as each other or one longer.

    The longer ones come last: later chunks are alive for a shorter time. On the last rank they come first if that fits, as
    the last chunk computes the loss beside. Where the first run does not end in the rank's first chunk, that one may be
    longer.
    """
    if vpp == 1:
        start = model.num_layers - left.layers
        yield Option((_chunk(model, pp, rank, 1, 0, start, layers),), min(left.early, layers))
        return
    runs = runs_of(model)
    assert runs is not None, "layers that differ from chunk to chunk are not dealt rank by rank"
    length, longer = divmod(layers, vpp)
    patterns = [(length,) * (vpp - longer) + (length + 1,) * longer]
    if longer and rank == pp - 1:
        patterns.insert(0, (length + 1,) * longer + (length,) * (vpp - longer))
    if longer and left.early > length:
        patterns.append((length + 1,) + (length,) * (vpp - longer) + (length + 1,) * (longer - 1))
    for sizes in patterns:
        early = min(left.early, sizes[0])
        chunks = tuple(
            _chunk(model, pp, rank, vpp, i, runs.prefix - early if i == 0 else runs.prefix, size)
            for i, size in enumerate(sizes)
        )
        yield Option(chunks, early)


class Options:
    """The options of all ranks of one pipeline, each list made once for all that is alike to it."""

    def __init__(self, model: ModelSpec, pp: int, vpp: int) -> None:
        self.model, self.pp, self.vpp = model, pp, vpp
        self._by_run = vpp > 1 or runs_of(model) is not None
        self._made: dict[tuple[int, int, int], tuple[Option, ...]] = {}

    def start(self, left: Left) -> int:
        """Of what is left, as much as decides of which kinds the next layers are."""
        return left.early if self._by_run else left.layers

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
