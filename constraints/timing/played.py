"""The step that is reported: the closed form, or the schedule played through where that leaves something out.

The closed form knows what each rank does in all. Where the chunks of one rank differ in length, ranks also wait for each
other from chunk to chunk, of which it knows nothing.
"""

from __future__ import annotations

from dataclasses import replace

from constraints.arithmetic import Remembering
from constraints.chunks import EvenChunks
from constraints.interleaving import schedule_takes
from constraints.layout import NO_RECOMPUTE, Layout
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.pipeline.profile import stages_of
from constraints.problem import Problem
from constraints.timing.communication import transfer
from constraints.timing.replay import replayed
from constraints.timing.step import StepTime, stage_ns, step_time

__all__ = ["played_step", "reported_step"]

FORWARD_PART = 3
"""One third of a chunk's time, without what is computed again, is its forward pass."""


def reported_step(p: Problem, layout: Layout) -> StepTime:
    """The estimate for a layout whose layers are placed (``ValueError`` if they are not), as everything that is printed has
    it. The solver needs only :func:`~constraints.timing.step.step_time`: it keeps chunks alike."""
    return step_time(p, layout) if _alike(p, layout) else played_step(p, layout)


def _alike(p: Problem, layout: Layout) -> bool:
    return not layout.interleaved or EvenChunks().holds(p, layout)


def played_step(p: Problem, layout: Layout) -> StepTime:
    """The step with its micro-batches played through in Megatron's order: the bubble has all waits in it.

    Gradients, the optimizer and what is fixed are those of the closed form, and so is the rank whose work is shown. There is
    nothing to play without a pipeline, where the schedule does not take so many micro-batches, and where groups of
    micro-batches are so large that it would take too long (:data:`~constraints.timing.replay.MOST_STEPS`): the closed form is
    then all there is. Raises ``ValueError`` if the layers are not placed.
    """
    closed = step_time(p, layout)
    if layout.pp == 1 or (layout.interleaved and not _takes(layout)):
        return closed
    forward, backward = _passes_ns(p, layout)
    still, moved = (
        replayed(forward, backward, layout.pp, layout.num_microbatches, group=layout.microbatch_group, hop=hop)
        for hop in (0, transfer(Remembering(), p, layout))
    )
    if still is None or moved is None:
        return closed
    rest = closed.exposed_ns["dp"] + closed.optimizer_ns + closed.fixed_ns
    busy = closed.step_ns - closed.bubble_ns - closed.exposed_ns["pp"] - rest
    return replace(
        closed,
        step_ns=moved + rest,
        bubble_ns=still - busy,
        exposed_ns={**closed.exposed_ns, "pp": moved - still},
        played=True,
    )


def _takes(layout: Layout) -> bool:
    return schedule_takes(layout.pp, layout.microbatch_group, layout.num_microbatches)


def _passes_ns(p: Problem, layout: Layout) -> tuple[list[int], list[int]]:
    """One micro-batch forward, and backward, through each chunk."""
    both, without = _chunks_ns(p, layout), _chunks_ns(p, replace(layout, recompute=NO_RECOMPUTE))
    forward = [time // FORWARD_PART for time in without]
    backward = [time - first for time, first in zip(both, forward, strict=True)]
    return forward, backward


def _chunks_ns(p: Problem, layout: Layout) -> list[int]:
    """One micro-batch, forward and backward, through each chunk: as a stage of its own."""
    assignment = assignment_of(p.model, layout.pp, layout.chunks_per_rank, layout.split)
    assert assignment is not None, "the closed form has placed the layers"
    alone = Assignment(len(assignment.chunks), assignment.chunks)
    a = Remembering()
    return [stage_ns(a, p, layout, stage) for stage in stages_of(p.model, alone, None, 1, layout.num_microbatches)]
