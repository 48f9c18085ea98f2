"""What is asked of a rank: that it fits, and how much it counts by an objective. One look at a rank serves all of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from constraints.arithmetic import Remembering
from constraints.layout import Layout
from constraints.memory.budget import capacity_bound, capacity_quantities
from constraints.memory.overhead import high_bytes
from constraints.memory.stage import allocated_bytes
from constraints.pipeline.assignment import Chunk
from constraints.pipeline.profile import Stage, rank_stages
from constraints.problem import Problem
from constraints.timing.communication import communication_ns, transfer
from constraints.timing.pipeline import hops
from constraints.timing.step import stage_step

__all__ = ["MEASURES", "Ranks"]

Measure = Callable[["Ranks", Stage], int]


class Ranks:
    """The ranks of a pipeline with the degrees of ``layout``, each whatever it may build.

    ``most_held``, 100 times bytes estimated high, is a bound beside the capacity of the GPU.
    """

    def __init__(self, problem: Problem, layout: Layout, *, fitting: bool = True, most_held: int | None = None) -> None:
        self.problem, self.layout = problem, layout
        self.model, self.pp = problem.model, layout.pp
        self.vpp = layout.vpp if layout.pp > 1 else None
        self.arithmetic = Remembering()
        self.fitting, self.most_held = fitting, most_held
        self._stages: dict[Any, list[Stage]] = {}
        self._found: dict[Any, Any] = {}
        self._asked: dict[tuple[str, int, tuple[Chunk, ...]], Any] = {}

    @cached_property
    def hops_64(self) -> int:
        """What transfers put on the critical path, in 64ths of a nanosecond."""
        x, a = self.layout, self.arithmetic
        hop = transfer(a, self.problem, x)
        total: int = hops(a, hop, x.num_microbatches, x.pp, x.chunks_per_rank)
        return total

    def stages(self, rank: int, chunks: tuple[Chunk, ...]) -> list[Stage]:
        """The rank as it would be with ``chunks``, in those of its states that may be the fullest."""
        x = self.layout
        key = (rank, tuple((self.model.layer_kinds[c.start : c.stop], c.embedding, c.mtp, c.loss) for c in chunks))
        if key not in self._stages:
            group, count = x.microbatch_group, x.num_microbatches
            self._stages[key] = rank_stages(self.model, x.pp, self.vpp, group, count, rank, chunks, x.recompute)
        return self._stages[key]

    def fits(self, rank: int, chunks: tuple[Chunk, ...]) -> bool:
        """Whether the rank with ``chunks`` keeps within the memory."""
        key = "fits", rank, chunks
        if key not in self._asked:
            self._asked[key] = all(self._fits(stage) for stage in self.stages(rank, chunks))
        fits: bool = self._asked[key]
        return fits

    def _fits(self, stage: Stage) -> bool:
        key = ("fits", stage.copies, self._content(stage))
        if key not in self._found:
            self._found[key] = self._keeps_within(stage)
        fits: bool = self._found[key]
        return fits

    def _keeps_within(self, stage: Stage) -> bool:
        a, p, x = self.arithmetic, self.problem, self.layout
        bound = capacity_bound(p)
        if self.fitting and any(quantity > bound for quantity in capacity_quantities(a, p, x, stage)):
            return False
        return self.most_held is None or held(self, stage) <= self.most_held

    def alike(self, name: str, rank: int) -> int:
        """A rank that counts the same with the same chunks: any between the ends, unless it is the state that counts."""
        return rank if MEASURES[name][1] or rank == self.pp - 1 else min(rank, 1)

    def measure(self, name: str, rank: int, chunks: tuple[Chunk, ...]) -> int:
        """How much the rank with ``chunks`` counts by the measure ``name`` of :data:`MEASURES`."""
        key = name, self.alike(name, rank), chunks
        if key not in self._asked:
            self._asked[key] = self._worst(*key)
        counted: int = self._asked[key]
        return counted

    def _worst(self, name: str, rank: int, chunks: tuple[Chunk, ...]) -> int:
        measure, by_state = MEASURES[name]
        worst = 0
        for stage in self.stages(rank, chunks)[: None if by_state else 1]:
            key = (name, stage.copies if by_state else (), self._content(stage))
            if key not in self._found:
                self._found[key] = measure(self, stage)
            worst = max(worst, self._found[key])
        return worst

    def _content(self, stage: Stage) -> Any:
        """All that a measure of the stage depends on beside its copies."""
        kinds = self.model.layer_kinds
        apart = self.layout.recompute.by_chunk or stage.is_interleaved_end
        chunks = [kinds[chunk.start : chunk.stop] for chunk in stage.chunks] if apart else ()
        counts = stage.layers, stage.live, stage.embedding, stage.loss, stage.mtp, stage.mtp_live, stage.boundaries
        return (*counts, *chunks)


def paced(ranks: Ranks, stage: Stage) -> int:
    """The step as the rank paces it, in 64ths of a nanosecond."""
    x = ranks.layout
    step: int = max(stage_step(ranks.arithmetic, ranks.problem, x, stage, x.chunks_per_rank, ranks.hops_64))
    return step


def held(ranks: Ranks, stage: Stage) -> int:
    """100 times the high estimate of what the rank holds, in bytes."""
    a, p, x = ranks.arithmetic, ranks.problem, ranks.layout
    total: int = high_bytes(a, p, x, allocated_bytes(a, p, x, stage))
    return total


def communicated(ranks: Ranks, stage: Stage) -> int:
    """Nanoseconds in collectives and transfers."""
    total: int = communication_ns(ranks.arithmetic, ranks.problem, ranks.layout, stage)
    return total


MEASURES: dict[str, tuple[Measure, bool]] = {
    "step-time": (paced, False),
    "communication": (communicated, False),
    "memory": (held, True),
}
"""By name: the measure of a rank, and whether it depends on which of its fullest states it is in."""
