"""How many micro-batches' activations each chunk of an interleaved pipeline rank holds at once.

Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/pipeline_parallel/schedules.py::get_pp_rank_microbatches`` (warm-up
counts) and ``get_schedule_table`` (the order in which chunks take micro-batches). Without interleaving 1F1B simply
holds ``min(pp - rank, microbatches)`` of everything.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["STEADY_GROUPS", "chunks_alive", "in_flight"]

STEADY_GROUPS = 2
"""Groups of micro-batches from which on a rank's fullest states are taken to be those of an endless run."""


def chunks_alive(pp: int, vpp: int, group: int, microbatches: int, rank: int) -> int:
    """Chunk activations alive at the fullest moment: the warm-up forwards and one more, if the step has so many.

    >>> chunks_alive(4, 2, 4, 16, 0), chunks_alive(4, 2, 4, 4, 0), chunks_alive(4, 8, 4, 16, 3)
    (11, 8, 29)
    """
    return min(_warm_up(pp, vpp, group, rank) + 1, microbatches * vpp)


def _warm_up(pp: int, vpp: int, group: int, rank: int) -> int:
    """Forward steps of a rank before its first backward step."""
    return 2 * (pp - rank - 1) + (vpp - 1) * group


@lru_cache(maxsize=65536)
def in_flight(pp: int, vpp: int, group: int, microbatches: int, rank: int) -> frozenset[tuple[int, ...]]:
    """The states at the fullest moments: each says, chunk by chunk, how many micro-batches are alive.

    A replay of the schedule table, ``group`` micro-batches per chunk in turn: every state adds up to
    :func:`chunks_alive`, but chunks of different content make them weigh differently.

    >>> sorted(in_flight(2, 2, 2, 2, 0))
    [(2, 2)]
    """
    if microbatches >= STEADY_GROUPS * group:
        microbatches = (STEADY_GROUPS + 1) * group  # one group more shows a whole period
    total = microbatches * vpp
    warm_up = _warm_up(pp, vpp, group, rank)
    if warm_up >= total:
        return frozenset({(microbatches,) * vpp})
    forward = _chunk_order(vpp, group, microbatches)
    alive = [0] * vpp
    for chunk in forward[:warm_up]:
        alive[chunk] += 1
    states = set()
    for step in range(total - warm_up):
        alive[forward[warm_up + step]] += 1
        states.add(tuple(alive))
        alive[vpp - 1 - forward[step]] -= 1  # backward takes the chunks in reverse order
    return frozenset(states)


@lru_cache(maxsize=1024)
def _chunk_order(vpp: int, group: int, microbatches: int) -> tuple[int, ...]:
    """The chunk of each forward step: ``group`` micro-batches through chunk 0, the same through chunk 1, and so on."""
    order: list[int] = []
    for first in range(0, microbatches, group):
        size = min(group, microbatches - first)
        for chunk in range(vpp):
            order += [chunk] * size
    return tuple(order)
