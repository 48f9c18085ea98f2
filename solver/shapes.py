"""Pipeline shapes: how many ranks and chunks, where the layers go, and what the fullest stages then hold.

The in-flight counts of a stage depend on nothing else once ``pp``, ``vpp`` and (where it is small) the number of
micro-batches are fixed, so a shape knows its stages as constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constraints.interleaving import schedule_takes
from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import Assignment, assignment_of, sizes_of_split
from constraints.pipeline.placement import place
from constraints.pipeline.profile import Stage, candidate_stages, fullest_candidates, slowest_candidates
from constraints.pipeline.schedule import STEADY_GROUPS
from constraints.problem import Problem

__all__ = ["Shape", "shapes_of", "virtual_stages"]


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
    the schedule does not take are left out unless ``illegal_too``, and shapes on which a pattern's pipes do not come out
    unless ``unplaced_too``: a rule may then be blamed for them. What is not placed has no stages.
    """
    placed = place(problem.model, pp, vpp or 1)
    if placed is None:
        return []
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


def virtual_stages(problem: Problem, pp: int, candidates: Iterable[int]) -> list[int]:
    """The ``vpp`` among ``candidates`` that are considered on ``pp`` ranks; 1 (no interleaving) is always one.

    Every chunk gets a layer. Where chunks of one length exist (embedding and loss counted as layers or not), only those
    are considered; where none exist, uneven ones are. What the user pins is considered in any case, on one rank too.
    """
    layers, pinned = problem.model.num_layers, problem.pinned("vpp")
    fitting = [vpp for vpp in candidates if vpp > 1 and pp * vpp <= layers]
    if pinned:
        return [1, *fitting]
    if pp == 1 or problem.model.is_hybrid:
        return [1]
    even = [vpp for vpp in fitting if _comes_out_even(layers, pp, vpp)]
    return [1, *(even or fitting)]


def _comes_out_even(layers: int, pp: int, vpp: int) -> bool:
    return any(
        sizes_of_split(layers, pp, vpp, PipelineSplit(account_for_embedding=e, account_for_loss=loss)) is not None
        for e in (False, True)
        for loss in (False, True)
    )
