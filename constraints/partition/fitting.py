"""Whether the layers fit somewhere on given degrees: the usual place is looked at first, the best partition only if need be."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.partition.measures import Ranks
from constraints.partition.search import Partition, best_partition, may_idle
from constraints.pipeline.placement import place
from constraints.problem import Problem

__all__ = ["some_partition"]


def some_partition(problem: Problem, layout: Layout, *, fitting: bool = True) -> Partition | None:
    """A partition for the degrees of ``layout`` that fits, not always the best; ``None`` if none does.

    Without ``fitting`` memory is not asked about.
    """
    usual = place(problem.model, layout.pp, layout.chunks_per_rank)
    if usual is not None:
        assignment, split = usual
        least = 0 if may_idle(problem, layout.pp) else 1
        ranks = Ranks(problem, layout, fitting=fitting)
        parts = enumerate(assignment.of_ranks())
        if all(sum(chunk.layers for chunk in part) >= least and ranks.fits(rank, part) for rank, part in parts):
            return Partition(assignment, split)
    return best_partition(problem, layout, fitting=fitting)
