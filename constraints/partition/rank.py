"""One rank of a pipeline whose counts are quantities: expressions to the solver, least numbers to the checker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from constraints.arithmetic import Quantity
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Rank"]


@dataclass(frozen=True)
class Rank:
    """What a :class:`~constraints.pipeline.profile.Stage` is to the formulas, its counts being expressions.

    ``live`` counts layers times micro-batches, interleaved or not. ``kinds`` are the kinds that it holds for certain
    under ``conditions``. ``twice`` are the layers that block recompute computes again, at least, and ``twice_live`` those
    of which it keeps the input only, at most. Where the size of groups of uniform recompute is a decision, ``live`` counts
    the inputs of groups, at least, and ``longest`` the layers of some chunk. For an end of an interleaved pipeline ``usual``
    are the layers of a rank with chunks of the usual length, and ``together`` those of the slowest of each chunk.
    """

    layers: tuple[tuple[LayerKind, Quantity], ...]
    live: tuple[tuple[LayerKind, Quantity], ...]
    kinds: tuple[LayerKind, ...]
    conditions: tuple[Any, ...]
    boundaries: Quantity
    embedding: bool = False
    loss: bool = False
    mtp: int = 0
    copies: tuple[Quantity, ...] = (0,)
    interleaved: bool = True
    most_copies: None = None
    twice: tuple[tuple[LayerKind | None, Quantity], ...] = ()
    twice_live: tuple[tuple[LayerKind, Quantity], ...] = ()
    longest: Quantity = 0
    usual: tuple[tuple[LayerKind, Quantity], ...] = ()
    together: tuple[tuple[LayerKind, Quantity], ...] = ()

    def again(self, _model: ModelSpec, _first: Quantity) -> tuple[tuple[LayerKind | None, Quantity], ...]:
        """Layers that block recompute computes again."""
        return self.twice

    def again_live(self, _model: ModelSpec, _first: Quantity) -> tuple[tuple[LayerKind, Quantity], ...]:
        """The same, times micro-batches."""
        return self.twice_live

    @property
    def heads(self) -> int:
        """Output projections with a loss."""
        return int(self.loss) + self.mtp

    @property
    def mtp_live(self) -> int:
        """MTP layers times micro-batches: the last chunk of a pipeline has one in flight at least."""
        return self.mtp

    @property
    def holds_embedding_copy(self) -> bool:
        """True if it stores a word embedding."""
        return self.embedding or self.mtp > 0
