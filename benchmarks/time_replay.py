"""A step whose micro-batches are played through in Megatron's order, chunk by chunk, instead of the closed form.

The closed form knows what each rank does in all. Where the chunks of one rank differ in length, ranks also wait for each
other from chunk to chunk, of which it knows nothing.
"""

from __future__ import annotations

from constraints.arithmetic import Remembering
from constraints.layout import Layout
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.pipeline.profile import stages_of
from constraints.problem import Problem
from constraints.timing.communication import transfer
from constraints.timing.replay import replayed
from constraints.timing.step import part_ns, stage_parts, step_time

__all__ = ["replayed_ns"]

FORWARD_PART = 3
"""One third of a chunk's time is its forward pass."""


def replayed_ns(problem: Problem, layout: Layout) -> int:
    """Nanoseconds of the step; gradients, the optimizer and what is fixed count as in :func:`step_time`.

    Raises ``ValueError`` if the layers are not placed.
    """
    closed = step_time(problem, layout)
    if layout.pp == 1:
        return closed.step_ns
    chunks = _chunk_ns(problem, layout)
    forward = [time // FORWARD_PART for time in chunks]
    backward = [time - first for time, first in zip(chunks, forward, strict=True)]
    played = replayed(
        forward,
        backward,
        layout.pp,
        layout.num_microbatches,
        group=layout.microbatch_group,
        hop=transfer(Remembering(), problem, layout),
    )
    return played + closed.exposed_ns["dp"] + closed.optimizer_ns + closed.fixed_ns


def _chunk_ns(problem: Problem, layout: Layout) -> list[int]:
    """One micro-batch, forward and backward, through each chunk: as a stage of its own."""
    assignment = assignment_of(problem.model, layout.pp, layout.chunks_per_rank, layout.split)
    if assignment is None:
        raise ValueError("the layers of this layout are not placed")
    alone = Assignment(len(assignment.chunks), assignment.chunks)
    a, times = Remembering(), {}
    for stage in stages_of(problem.model, alone, None, 1, layout.num_microbatches):
        parts = stage_parts(a, problem, layout, stage).items()
        times[stage.rank] = sum(part_ns(a, problem, layout, part) * count for part, count in parts)
    return [times[chunk] for chunk in range(len(assignment.chunks))]
