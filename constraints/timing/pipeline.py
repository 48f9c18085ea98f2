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
from typing import NamedTuple

from constraints.arithmetic import Arithmetic, Quantity, ceil_div

__all__ = ["Passes", "hop_share", "hops_ns", "passes", "pipelined_ns"]

HOP_SCALE = 1000


class Passes(NamedTuple):
    """Nanoseconds of one part (a layer of some kind, a head): one micro-batch, all of them, and a chunk's share of one."""

    single: Quantity
    every: Quantity
    chunk: Quantity


def passes(a: Arithmetic, single: Quantity, microbatches: Quantity, chunks: Quantity) -> Passes:
    """The three times of a part that takes ``single`` nanoseconds for one micro-batch, forward and backward."""
    return Passes(single, a.mul(microbatches, single), a.ceil_div(single, chunks))


def pipelined_ns(parts: Iterable[tuple[Passes, int, int]]) -> Quantity:
    """All micro-batches through the pipeline, as a rank that has ``here`` of the ``in_all`` of each part paces it.

    >>> from constraints.arithmetic import Integers
    >>> layers = passes(Integers(), 100, 16, 1)  # four ranks of one layer each, 100 ns, 16 micro-batches
    >>> pipelined_ns([(layers, 1, 4)]), pipelined_ns([(passes(Integers(), 100, 16, 5), 1, 4)])
    (1900, 1660)
    """
    total: Quantity = 0
    for part, here, in_all in parts:
        total = total + part.every * here + part.chunk * (in_all - here)
    return total


def hop_share(pp: int, chunks: int) -> tuple[int, int]:
    """Sends on the critical path, the sender not waiting: (thousandths per micro-batch, in any case).

    1F1B: ``2 (p-1) m/p + 2 (p-2)``, growing with m; interleaved: ``2 (p v - 1)``, whatever m.

    >>> hop_share(4, 1), hop_share(4, 2), hop_share(8, 2)
    ((1500, 4), (0, 14), (0, 30))
    """
    if pp == 1:
        return 0, 0
    if chunks > 1:
        return 0, 2 * (pp * chunks - 1)
    return ceil_div(2 * (pp - 1) * HOP_SCALE, pp), 2 * (pp - 2)


def hops_ns(a: Arithmetic, hop: Quantity, microbatches: Quantity, pp: int, chunks: int) -> Quantity:
    """Nanoseconds of the hops on the critical path, ``hop`` each.

    >>> from constraints.arithmetic import Integers
    >>> [hops_ns(Integers(), 1000, m, 4, v) for m, v in ((8, 1), (16, 1), (16, 2))]
    [16000, 28000, 14000]
    """
    per_micro_batch, always = hop_share(pp, chunks)
    return a.ceil_div(a.mul(microbatches, hop), HOP_SCALE) * per_micro_batch + hop * always
