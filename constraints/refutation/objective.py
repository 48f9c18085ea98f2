"""What layouts are ranked by, and a bound on it for a whole box of them: the objectives as a certificate knows them.

Written apart from the solver's objectives: a certificate is checked by other code than what found the layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, Remembering
from constraints.layout import Layout
from constraints.memory.budget import layout_stages
from constraints.memory.overhead import high_bytes
from constraints.memory.stage import allocated_bytes, peaks
from constraints.partition.search import best_partition
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.refutation.bounds import BoxBuilder, of_all_groups, point_at_the_end
from constraints.refutation.partial import Box, Space, in_groups
from constraints.refutation.ranges import Unbounded, high
from constraints.timing.communication import communication_ns, transfer
from constraints.timing.pipeline import PARTS, hops
from constraints.timing.step import stage_step

__all__ = ["OBJECTIVES", "better_at_the_end", "no_less_than", "value_of"]

ROUNDED = 1024
"""What rounding may have added to the time of a rank, in its own units: less than one for each layer."""
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
    hop = transfer(a, problem, layout)
    between = hops(a, hop, layout.num_microbatches, layout.pp, layout.chunks_per_rank)
    value = max(_of_stage(a, problem, layout, stage, between) for stage in stages)
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
    if not _bounded(BoxBuilder(space, box), value):
        return False
    # groups take as long as layers one by one, with which they are then no better
    return space.problem.objective != "memory" or of_all_groups(space, box, lambda builder: _bounded(builder, value))


def _bounded(builder: BoxBuilder, value: int) -> bool:
    """True if counting shows that nothing in the builder's box counts as less than ``value``."""
    problem, box = builder.space.problem, builder.box
    batch = high(builder.x.global_batch_size) if problem.global_batch_size is None else 1
    below = _most_below(problem, value, batch)
    by_memory = problem.objective == "memory"
    for vpp in box["vpp"]:
        formulas = _formulas(builder, vpp)
        forms = builder.forms(vpp, formulas, alive=by_memory)
        if forms.may_keep_within(builder.pipelines((vpp,)), below + (0 if by_memory else ROUNDED)):
            return False
    return True


def _formulas(builder: BoxBuilder, vpp: int) -> Callable[[Any], list[Quantity]]:
    """What is measured of a rank, as quantities of which the largest counts."""
    a, p, x = builder.arithmetic, builder.space.problem, builder.x
    (pp,) = builder.box["pp"]
    if p.objective == "step-time":
        between = hops(a, transfer(a, p, x), x.num_microbatches, pp, vpp)
        return lambda rank: list(stage_step(a, p, x, rank, vpp, between))
    if p.objective == "communication":
        return lambda rank: [communication_ns(a, p, x, rank)]
    return lambda rank: [high_bytes(a, p, x, peak) for peak in peaks(a, p, x, rank)]


def _most_below(problem: Problem, value: int, batch: int) -> int:
    """The most that a rank can count, before it is compared, without counting as ``value`` or more."""
    if problem.objective == "memory":
        return value - 1
    nanoseconds = value * batch - 1
    return nanoseconds * PARTS if problem.objective == "step-time" else nanoseconds


def _of_stage(a: Arithmetic, p: Problem, x: Layout, stage: Stage, hops_64: int) -> int:
    """As one stage has it; step times in 64ths of a nanosecond."""
    if p.objective == "step-time":
        return int(max(stage_step(a, p, x, stage, x.chunks_per_rank, hops_64)))
    if p.objective == "communication":
        return int(communication_ns(a, p, x, stage))
    return int(high_bytes(a, p, x, allocated_bytes(a, p, x, stage)))


def _compared(problem: Problem, value: int, batch: int) -> int:
    if problem.objective == "memory":
        return value
    if problem.objective == "step-time":
        value = -(-value // PARTS)
    return value if problem.global_batch_size is not None else value // batch


def better_at_the_end(space: Space, box: Box, value: int) -> bool:
    """Whether the layout with every decision at its largest, nothing interleaved, counts as less after all, or the same in
    groups of some size."""
    point = point_at_the_end(space, box)
    if point is None:
        return False
    layout = space.layout(point)
    if _better(space.problem, layout, value):
        return True
    if not space.problem.weighs_counts:
        return False  # groups are left aside
    sizes = space.group_sizes_at(point)
    if not sizes or (space.problem.objective != "memory" and not _better(space.problem, layout, value, fitting=False)):
        return False
    return any(_better(space.problem, in_groups(layout, size), value) for size in sizes)


def _better(problem: Problem, layout: Layout, value: int, *, fitting: bool = True) -> bool:
    """Whether the best partition for the degrees of ``layout`` counts as less."""
    best = best_partition(problem, layout, fitting=fitting)
    return best is not None and value_of(problem, replace(layout, split=best.split)) < value
