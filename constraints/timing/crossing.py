"""What the ends of an interleaved pipeline wait for the ranks between, and these for them, chunk by chunk.

Ranks between the ends have chunks that take as long as each other. The first rank's first chunk may be short, and the last
rank's last one, which computes the loss, long: beside its short chunks an end waits for the others, beside its long ones they
wait for it. Were ranks to keep step chunk by chunk, all would take what the slowest takes of each. In replays of the order of
NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/pipeline_parallel/schedules.py`` (:mod:`constraints.timing.replay`) ends cost about
three quarters of the way from a pipeline without such waits to that one (``tests/timing/test_crossing.py``).
"""

from __future__ import annotations

from constraints.arithmetic import ceil_div

__all__ = ["IN_STEP", "OF", "usual_length"]

IN_STEP, OF = 3, 4
"""The share of the waits that shows: three of four parts."""
UNUSUAL = 2
"""Layers that may make a chunk longer than its rank's others: one of the first, one of another rank."""


def usual_length(layers: int, pp: int, chunks: int) -> int:
    """Layers that each chunk of some rank has at least, where chunks are alike (:class:`constraints.chunks.EvenChunks`).

    >>> [usual_length(61, 16, chunks) for chunks in (2, 3)], usual_length(80, 8, 5)
    ([2, 2], 2)
    """
    return ceil_div(max(0, layers - UNUSUAL), pp * chunks)
