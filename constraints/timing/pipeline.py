"""The schedule in closed form: 1F1B and interleaved, even and uneven, and the hops between pipeline ranks.

With ``t_r`` the time of one micro-batch, forward and backward, on rank ``r`` (all its chunks), ``m`` micro-batches and
``v`` chunks a rank::

    T = max_r  m t_r + (sum_q t_q - t_r) / v

Exact for even stages, and never below the true value at v = 1; at v > 1 right within 2 % where the chunks of each rank are
alike, and 25 % too short where all ranks have a chunk of one layer and one of two, against replays of the order of
NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/pipeline_parallel/schedules.py`` (:mod:`constraints.timing.replay`,
``tests/timing``). So :class:`constraints.chunks.EvenChunks`; what the ends wait for is :mod:`constraints.timing.crossing`,
and a split whose chunks are not alike is played through (:mod:`constraints.timing.played`).
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, ceil_div

__all__ = ["PARTS", "hop_weights", "hops", "pipelined"]

PARTS = 64
"""Times of a whole step are reckoned in 64ths of a nanosecond, so that shares of one are whole numbers."""


def pipelined(a: Arithmetic, every: Quantity, elsewhere: Quantity, chunks: Quantity, weight: int = PARTS) -> Quantity:
    """All micro-batches through the pipeline, in 64ths of a nanosecond, as one rank paces it.

    ``every`` is the time of all micro-batches on the rank, ``elsewhere`` that of one micro-batch on all other ranks.

    >>> from constraints.arithmetic import Integers
    >>> a = Integers()  # four ranks of 100 ns, 16 micro-batches
    >>> pipelined(a, 1600, 300, 1) // PARTS, pipelined(a, 1600, 300, 5) // PARTS
    (1900, 1660)
    """
    return every * weight + a.ceil_div(elsewhere * weight, chunks)


def hops(a: Arithmetic, hop: Quantity, microbatches: Quantity, pp: int, chunks: int) -> Quantity:
    """64ths of a nanosecond that sends of ``hop`` nanoseconds put on the critical path, the sender not waiting.

    1F1B: ``2 (p-1) m/p + 2 (p-2)`` sends, growing with m; interleaved: ``2 (p v - 1)``, whatever m.

    >>> from constraints.arithmetic import Integers
    >>> [hops(Integers(), 1000, m, 4, v) // PARTS for m, v in ((8, 1), (16, 1), (16, 2))]
    [16000, 28000, 14000]
    """
    if pp == 1:
        return 0
    once, growing = hop_weights(pp, chunks)
    return hop * once + a.mul(microbatches, hop) * growing


def hop_weights(pp: int, chunks: int) -> tuple[int, int]:
    """64ths of a hop on the critical path of a pipeline of several ranks: once, and for each micro-batch."""
    if chunks > 1:
        return PARTS * 2 * (pp * chunks - 1), 0
    return PARTS * 2 * (pp - 2), ceil_div(PARTS * 2 * (pp - 1), pp)
