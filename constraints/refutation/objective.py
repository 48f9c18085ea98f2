"""What layouts are ranked by, and a bound on it for a whole box of them: the objectives as a certificate knows them.

Written apart from the solver's objectives: a certificate is checked by other code than what found the layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, Remembering
from constraints.layout import Layout
from constraints.memory.budget import layout_stages
from constraints.memory.overhead import high_bytes
from constraints.memory.stage import allocated_bytes
from constraints.pipeline.assignment import assignment_of
from constraints.pipeline.placement import place
from constraints.pipeline.profile import Stage, slowest_candidates, stages_of
from constraints.problem import Problem
from constraints.refutation.bounds import BoxBuilder
from constraints.refutation.partial import Box, Space
from constraints.refutation.ranges import Unbounded, high, low
from constraints.timing.communication import communication_ns
from constraints.timing.pipeline import PARTS
from constraints.timing.step import stage_step
from models_catalog.schema import ModelSpec

__all__ = ["OBJECTIVES", "no_less_than", "value_of"]

OBJECTIVES = ("step-time", "communication", "memory", "data-parallel")


def value_of(problem: Problem, layout: Layout) -> int:
    """What ``layout`` counts as, smaller being better: nanoseconds a step (or, where the batch is free, a sequence), 100 times
    the bytes of the fullest stage, or minus the replicas."""
    if problem.objective == "data-parallel":
        return -layout.dp
    stages = layout_stages(problem, layout)
    assert stages is not None, "a layout that keeps the rules places its layers"
    a = Remembering()
    value = max(_of_stage(a, problem, layout, stage, layout.pp, layout.chunks_per_rank) for stage in stages)
    return _compared(problem, value, layout.global_batch_size)


def no_less_than(space: Space, box: Box, value: int) -> bool:
    """True if no layout of ``box`` is shown to count as less than ``value``; false says nothing."""
    problem = space.problem
    if problem.objective == "data-parallel":
        return -box["dp"][-1] >= value
    if len(box["pp"]) != 1:
        return False
    (pp,) = box["pp"]
    try:
        return all(_least(space, space.narrowed(box, "vpp", vpp), pp, vpp) >= value for vpp in reversed(box["vpp"]))
    except Unbounded:
        return False


def _least(space: Space, box: Box, pp: int, vpp: int) -> int:
    """No layout of the box, with these pipeline ranks and virtual stages, counts as less."""
    problem, builder = space.problem, BoxBuilder(space, box)
    values = [
        low(_of_stage(builder.arithmetic, problem, builder.x, stage, pp, vpp))
        for stage in placed_stages(builder, pp, vpp)
    ]
    return _compared(problem, max(values, default=0), high(builder.x.global_batch_size))


def placed_stages(builder: BoxBuilder, pp: int, vpp: int) -> Iterable[Stage]:
    """Stages that every layout on these ranks has: where the layers go is a function of the model and the shape."""
    if builder.space.problem.objective == "memory":
        return builder.least_stages([vpp])
    return _working_stages(builder.space.problem.model, pp, vpp)


@lru_cache(maxsize=1024)
def _working_stages(model: ModelSpec, pp: int, vpp: int) -> tuple[Stage, ...]:
    """Those that may be the slowest: what a stage has to do does not depend on the micro-batches in flight."""
    placed = place(model, pp, vpp)
    if placed is None or assignment_of(model, pp, vpp, placed[1]) is None:
        return ()
    return slowest_candidates(stages_of(model, placed[0], vpp if vpp > 1 and pp > 1 else None, pp, 2 * pp))


def _of_stage(a: Arithmetic, p: Problem, x: Any, stage: Stage, pp: int, chunks: int) -> Quantity:
    """In 64ths of a nanosecond where it is step time."""
    if p.objective == "step-time":
        return a.maximum(*stage_step(a, p, x, stage, pp, chunks))
    if p.objective == "communication":
        return communication_ns(a, p, x, stage)
    return high_bytes(a, p, x, allocated_bytes(a, p, x, stage))


def _compared(problem: Problem, value: int, batch: int) -> int:
    if problem.objective == "memory":
        return value
    if problem.objective == "step-time":
        value = -(-value // PARTS)
    return value if problem.global_batch_size is not None else value // batch
