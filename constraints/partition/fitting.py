"""Whether the layers fit anywhere on given degrees: the usual place is looked at first, all partitions only if need be."""

from __future__ import annotations

from functools import partial

from constraints.layout import Layout
from constraints.partition.kinds import Runs, runs_of
from constraints.partition.measures import Ranks
from constraints.partition.options import Left, holds_at_least, options_of
from constraints.partition.rooms import have_room, most_that
from constraints.partition.search import Partition, best_partition, may_idle
from constraints.pipeline.placement import place
from constraints.problem import Problem

__all__ = ["some_partition"]


def some_partition(problem: Problem, layout: Layout, *, fitting: bool = True) -> Partition | None:
    """A partition for the degrees of ``layout`` that fits, not always the best; ``None`` if none does.

    Without ``fitting`` memory is not asked about.
    """
    ranks, runs = Ranks(problem, layout, fitting=fitting), runs_of(problem.model)
    least = 0 if may_idle(problem, layout.pp) else 1
    usual = place(problem.model, layout.pp, layout.chunks_per_rank)
    if usual is not None:
        assignment, split = usual
        parts = enumerate(assignment.of_ranks())
        if all(sum(chunk.layers for chunk in part) >= least and ranks.fits(rank, part) for rank, part in parts):
            return Partition(assignment, split)
    if runs is not None and not have_room(layout.pp, runs.body, partial(_most_of_body, ranks, runs, least)):
        return None
    return best_partition(problem, layout, fitting=fitting)


def _most_of_body(ranks: Ranks, runs: Runs, least: int, rank: int) -> int | None:
    """The most layers of the second run with which the rank fits, none of the first run beside them; ``None`` if it must
    hold some and does not fit."""
    vpp, pp = ranks.layout.chunks_per_rank, ranks.pp

    def fits(layers: int) -> bool:
        layers = holds_at_least(pp, vpp, rank, layers)
        if layers > runs.body:
            return False
        options = options_of(ranks.model, pp, vpp, rank, Left(runs.body, 0, spare=1), layers)
        return any(ranks.fits(rank, option.chunks) for option in options)

    most = most_that(fits, runs.body, near=-(-runs.body // pp))
    holds_some = least and (not runs.prefix or rank == pp - 1)
    return None if holds_some and not most else most
