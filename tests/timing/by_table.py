"""A pipeline schedule played through step by step, to the last micro-batch: each rank's steps are written out in Megatron's
order, and what a step waits for is looked up by what it is."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["played_to_the_end"]

Step = tuple[bool, int, int]
"""Forward or backward, micro-batch, chunk counted over all ranks."""


def played_to_the_end(
    forward: Sequence[int],
    backward: Sequence[int],
    pp: int,
    microbatches: int,
    *,
    group: int | None = None,
    hop: int = 0,
) -> int:
    """Time until the last backward step is done, as :func:`constraints.timing.replay.replayed` says it."""
    chunks = len(forward)
    orders = [_order(pp, chunks // pp, rank, microbatches, group or pp) for rank in range(pp)]
    done: dict[Step, int] = {}
    free, place = [0] * pp, [0] * pp
    moved = True
    while moved:
        moved = False
        for rank in range(pp):
            while place[rank] < len(orders[rank]):
                step = orders[rank][place[rank]]
                ready = _ready(step, chunks, done, hop)
                if ready is None:
                    break
                is_forward, _, chunk = step
                free[rank] = max(free[rank], ready) + (forward if is_forward else backward)[chunk]
                done[step] = free[rank]
                place[rank] += 1
                moved = True
    assert all(at == len(order) for at, order in zip(place, orders, strict=True)), "the schedule is stuck"
    return max(free)


def _ready(step: Step, chunks: int, done: dict[Step, int], hop: int) -> int | None:
    """When what ``step`` needs is there; ``None`` if it has not been computed yet."""
    is_forward, microbatch, chunk = step
    if is_forward:
        if chunk == 0:
            return 0
        before = done.get((True, microbatch, chunk - 1))
        return None if before is None else before + hop
    own = done.get((True, microbatch, chunk))
    if chunk == chunks - 1:
        return own
    after = done.get((False, microbatch, chunk + 1))
    return None if own is None or after is None else max(own, after + hop)


def _order(pp: int, vpp: int, rank: int, microbatches: int, group: int) -> list[Step]:
    """The steps of one rank, in the order in which it runs them."""
    table = _table(vpp, microbatches, group)
    total = len(table)
    warm_up = pp - rank - 1 if vpp == 1 else 2 * (pp - rank - 1) + (vpp - 1) * group
    warm_up = min(warm_up, total)
    ahead = [(True, microbatch, chunk * pp + rank) for microbatch, chunk in table]
    back = [(False, microbatch, (vpp - 1 - chunk) * pp + rank) for microbatch, chunk in table]
    steps = ahead[:warm_up]
    for i in range(total - warm_up):
        steps += [ahead[warm_up + i], back[i]]
    return steps + back[total - warm_up :]


def _table(vpp: int, microbatches: int, group: int) -> list[tuple[int, int]]:
    """(micro-batch, virtual stage) of each forward step: ``group`` micro-batches through one chunk, then the next."""
    table: list[tuple[int, int]] = []
    for first in range(0, microbatches, group):
        batch = range(first, min(first + group, microbatches))
        table += [(microbatch, chunk) for chunk in range(vpp) for microbatch in batch]
    return table
