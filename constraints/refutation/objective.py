"""What layouts are ranked by, and a bound on it for a whole box of them: the objectives as a certificate knows them.

Written apart from the solver's objectives: a certificate is checked by other code than what found the layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
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
from constraints.refutation.bounds import BoxBuilder, point_at_the_end
from constraints.refutation.partial import Box, Space
from constraints.refutation.ranges import Unbounded, high, low
from constraints.timing.communication import communication_ns
from constraints.timing.pipeline import PARTS
from constraints.timing.step import stage_step
from models_catalog.schema import ModelSpec

__all__ = ["OBJECTIVES", "better_at_the_end", "no_less_than", "value_of"]

OBJECTIVES = ("step-time", "communication", "memory", "data-parallel")


def value_of(problem: Problem, layout: Layout) -> int:
    """What a placed layout counts as, smaller being better.

    Nanoseconds a step (or, where the batch is free, a sequence), 100 times the bytes of the fullest stage, or minus the
    replicas.
    """
    if problem.objective == "data-parallel":
        return -layout.dp
    stages = layout_stages(problem, layout)
    if stages is None:
        raise ValueError("the layers of this layout are not placed")
    a = Remembering()
    value = max(_of_stage(a, problem, layout, stage, layout.pp, layout.chunks_per_rank) for stage in stages)
    return _compared(problem, value, layout.global_batch_size)


def no_less_than(space: Space, box: Box, value: int) -> bool:
    """True if no layout of ``box`` counts as less than ``value``; false says nothing."""
    if space.problem.objective == "data-parallel":
        return -box["dp"][-1] >= value
    if len(box["pp"]) != 1:
        return False
    if all(len(values) == 1 for values in box.values()):
        return not better_at_the_end(space, box, value)
    plain = {**box, "vpp": tuple(v for v in box["vpp"] if v == 1)}
    interleaved = {**box, "vpp": tuple(v for v in reversed(box["vpp"]) if v > 1)}  # most chunks first: the least bubble
    try:
        return all(_all_no_less_than(space, part, value) for part in (interleaved, plain) if part["vpp"])
    except Unbounded:
        return False


def _all_no_less_than(space: Space, box: Box, value: int) -> bool:
    """The same for a box that is interleaved throughout, or not at all."""
    problem, builder = space.problem, BoxBuilder(space, box)
    (pp,) = box["pp"]
    batch = high(builder.x.global_batch_size)

    def least(stage: Stage, vpp: int) -> int:
        quantity = _of_stage(builder.arithmetic, problem, builder.x, stage, pp, vpp)
        return _compared(problem, low(quantity), batch)

    return all(any(least(stage, vpp) >= value for stage in _stages(builder, pp, vpp)) for vpp in box["vpp"])


def _stages(builder: BoxBuilder, pp: int, vpp: int) -> Iterable[Stage]:
    """Stages that every layout of the box has with these ranks and chunks: where the layers go follows from them."""
    if builder.space.problem.objective == "memory":
        return builder.least_stages([vpp])
    return _working_stages(builder.space.problem.model, pp, vpp)


@lru_cache(maxsize=1024)
def _working_stages(model: ModelSpec, pp: int, vpp: int) -> tuple[Stage, ...]:
    """Stages that may be the slowest, the last first: the micro-batches in flight are nothing to their time."""
    placed = place(model, pp, vpp)
    if placed is None or assignment_of(model, pp, vpp, placed[1]) is None:
        return ()
    stages = stages_of(model, placed[0], vpp if vpp > 1 and pp > 1 else None, pp, 2 * pp)
    return tuple(reversed(slowest_candidates(stages)))


def _of_stage(a: Arithmetic, p: Problem, x: Any, stage: Stage, pp: int, chunks: int) -> Quantity:
    """As one stage has it; step times in 64ths of a nanosecond."""
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


def better_at_the_end(space: Space, box: Box, value: int) -> bool:
    """Whether the layout with every decision at its largest, nothing interleaved, counts as less after all."""
    point = point_at_the_end(space, box)
    if point is None:
        return False
    try:
        return value_of(space.problem, space.layout(point)) < value
    except ValueError:  # its layers are not placed: no layout at all
        return False
