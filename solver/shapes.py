"""Pipeline shapes: how many ranks and chunks, where the layers go, and what the fullest stages then hold.

The in-flight counts of a stage depend on nothing else once ``pp``, ``vpp`` and (where it is small) the number of
micro-batches are fixed, so a shape knows its stages as constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constraints.interleaving import schedule_takes
from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import Assignment, assignment_of, from_sizes
from constraints.pipeline.placement import place
from constraints.pipeline.profile import Stage, candidate_stages, fullest_candidates, slowest_candidates
from constraints.pipeline.schedule import STEADY_GROUPS
from constraints.problem import Problem

__all__ = ["Shape", "shapes_of"]


@dataclass(frozen=True)
class Shape:
    """``pp`` ranks of ``vpp`` chunks (``None``: no interleaving), for ``least`` to ``most`` (``None``: any) micro-batches.

    ``fullest`` and ``slowest`` are the stages among which the fullest and the slowest are, whatever the degrees.
    """

    pp: int
    vpp: int | None
    least: int
    most: int | None
    assignment: Assignment
    split: PipelineSplit
    fullest: tuple[Stage, ...]
    slowest: tuple[Stage, ...]


def shapes_of(
    problem: Problem,
    pp: int,
    vpp: int | None,
    microbatches: Iterable[int],
    *,
    illegal_too: bool = False,
    unplaced_too: bool = False,
) -> list[Shape]:
    """The shapes with ``pp`` and ``vpp`` for the micro-batch counts that can occur.

    Interleaved, counts below two groups hold less and get a shape each; from there on one shape serves all. Counts that
    the schedule does not take are left out unless ``illegal_too``, and shapes on which a hybrid model's layers do not come
    out unless ``unplaced_too``: a rule may then be blamed for them. What is not placed has no stages.
    """
    placed = place(problem.model, pp, vpp or 1)
    if placed is None:
        return [_unplaced(problem, pp, vpp)] if unplaced_too else []
    assignment, split = placed
    if assignment_of(problem.model, pp, vpp or 1, split) is None:
        return [Shape(pp, vpp, 1, None, assignment, split, (), ())] if unplaced_too else []
    group = problem.settings.microbatch_group_size_per_vp_stage or pp
    steady = STEADY_GROUPS * group if vpp and pp > 1 else 1
    small = sorted({n for n in microbatches if n < steady and (illegal_too or schedule_takes(pp, group, n))})
    shapes = []
    for least, most in [(count, count) for count in small] + [(steady, None)]:
        stages = candidate_stages(problem.model, assignment, vpp if pp > 1 else None, group, least)
        fullest, slowest = fullest_candidates(stages), slowest_candidates(stages)
        shapes.append(Shape(pp, vpp, least, most, assignment, split, fullest, slowest))
    return shapes


def _unplaced(problem: Problem, pp: int, vpp: int | None) -> Shape:
    """A hybrid model on stages that no form of its split comes out on: as an even split, which its rules refuse."""
    empty = from_sizes(problem.model, pp, (0,) * (pp * (vpp or 1)))
    return Shape(pp, vpp, 1, None, empty, PipelineSplit(), (), ())
