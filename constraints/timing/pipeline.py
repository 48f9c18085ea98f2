"""The schedule in closed form: 1F1B and interleaved, even and uneven, and the hops between pipeline ranks.

With ``t_r`` the time of one micro-batch, forward and backward, on rank ``r`` (all its chunks), ``m`` micro-batches and
``v`` chunks a rank::

    T = max_r  m t_r + (sum_q t_q - t_r) / v

Exact for even stages; for uneven ones never below the true value at v = 1 and within -13 to +9 % at v > 1, against
replays of the order of NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/pipeline_parallel/schedules.py``
(:mod:`constraints.timing.replay`, ``tests/timing``). It is written as a sum over what the ranks are built of (layers by
kind, embedding, heads), so that a solver which knows what each rank holds sees nothing but sums.
"""

from __future__ import annotations

from collections.abc import Iterable

from constraints.arithmetic import Arithmetic, Quantity, ceil_div

__all__ = ["PARTS", "hops", "pipelined"]

PARTS = 64
"""Times of a whole step are reckoned in 64ths of a nanosecond, so that shares of one are whole numbers."""


def pipelined(parts: Iterable[tuple[Quantity, Quantity, int, int]], chunks: int, weight: int = PARTS) -> Quantity:
    """All micro-batches through the pipeline, in 64ths of a nanosecond, as a rank paces it that has ``here`` of the
    ``in_all`` of each part. A part is (nanoseconds of one micro-batch, of all of them, here, in all).

    >>> layers = (100, 16 * 100, 1, 4)  # four ranks of one layer each, 100 ns, 16 micro-batches
    >>> pipelined([layers], 1) // PARTS, pipelined([layers], 5) // PARTS
    (1900, 1660)
    """
    total: Quantity = 0
    for single, every, here, in_all in parts:
        total = total + every * (weight * here) + single * ceil_div(weight * (in_all - here), chunks)
    return total


def hops(a: Arithmetic, hop: Quantity, microbatches: Quantity, pp: int, chunks: int) -> Quantity:
    """64ths of a nanosecond that sends of ``hop`` nanoseconds put on the critical path, the sender not waiting.

    1F1B: ``2 (p-1) m/p + 2 (p-2)`` sends, growing with m; interleaved: ``2 (p v - 1)``, whatever m.

    >>> from constraints.arithmetic import Integers
    >>> [hops(Integers(), 1000, m, 4, v) // PARTS for m, v in ((8, 1), (16, 1), (16, 2))]
    [16000, 28000, 14000]
    """
    if pp == 1:
        return 0
    if chunks > 1:
        return hop * (PARTS * 2 * (pp * chunks - 1))
    return a.mul(microbatches, hop) * ceil_div(PARTS * 2 * (pp - 1), pp) + hop * (PARTS * 2 * (pp - 2))
