"""Pipeline shapes: how many ranks and chunks, a split that says so, and, where there is but one, the stages it makes."""

from __future__ import annotations

from dataclasses import dataclass

from constraints.layout import PipelineSplit
from constraints.partition.kinds import runs_of
from constraints.partition.search import considered, may_idle
from constraints.pipeline.assignment import Assignment, assignment_of, segment_sizes
from constraints.pipeline.placement import place
from constraints.pipeline.profile import Stage, begun_stages, fullest_candidates, slowest_candidates, stages_of
from constraints.pipeline.schedule import STEADY_GROUPS
from constraints.problem import Problem

__all__ = ["Shape", "shapes_of"]


@dataclass(frozen=True)
class Shape:
    """``pp`` ranks of ``vpp`` chunks (``None``: no interleaving). ``split`` is one way in which the layers come out on them.

    Where the shape stands for no other, ``stages`` are those among which the fullest is, interleaved ones when the first
    backward pass begins and ``steady`` in a long step; ``slowest`` are those among which the slowest is. Where layers are
    ``dealt`` freely all are empty, and where they do not come out at all.
    """

    pp: int
    vpp: int | None
    split: PipelineSplit
    dealt: bool = False
    stages: tuple[Stage, ...] = ()
    steady: tuple[Stage, ...] = ()
    slowest: tuple[Stage, ...] = ()

    @property
    def chunks(self) -> int:
        """Chunks on each rank."""
        return self.vpp or 1


def shapes_of(problem: Problem, pp: int, vpp: int | None, *, illegal_too: bool = False) -> tuple[Shape, ...]:
    """The shapes with ``pp`` and ``vpp``: several where one of several splits is taken, none if the layers of a hybrid model
    do not come out.

    ``illegal_too``: as an even split then, which rules refuse, so that they can be blamed.
    """
    model = problem.model
    placed = place(model, pp, vpp or 1)
    if placed is None or assignment_of(model, pp, vpp or 1, placed[1]) is None:
        return (Shape(pp, vpp, placed[1] if placed else PipelineSplit()),) if illegal_too else ()
    assignment, split = placed
    if pp > 1 and segment_sizes(model) is None and (vpp is None or runs_of(model) is not None):
        return (Shape(pp, vpp, split, dealt=True),)
    if pp == 1 or vpp is None:
        stages = stages_of(model, assignment, None, 1, 1)
        return (Shape(pp, vpp, split, stages=fullest_candidates(stages), slowest=slowest_candidates(stages)),)
    splits = considered(model, pp, vpp, 0 if may_idle(problem, pp) else 1) or (placed,)
    return tuple(_interleaved(problem, pp, vpp, *chosen) for chosen in splits)


def _interleaved(problem: Problem, pp: int, vpp: int, assignment: Assignment, split: PipelineSplit) -> Shape:
    group = problem.settings.microbatch_group(pp)
    begun = begun_stages(problem.model, assignment, vpp, group)
    steady = stages_of(problem.model, assignment, vpp, group, STEADY_GROUPS * group)
    fullest = fullest_candidates(begun), fullest_candidates(steady)
    return Shape(pp, vpp, split, False, *fullest, slowest=slowest_candidates(begun))
