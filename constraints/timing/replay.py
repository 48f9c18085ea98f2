"""The pipeline schedule played through in Megatron's order, chunk by chunk.

Every rank runs its forward and backward steps one after another in the order of NVIDIA/Megatron-LM@d98e8a6
``megatron/core/pipeline_parallel/schedules.py`` (``forward_backward_pipelining_without_interleaving``,
``forward_backward_pipelining_with_interleaving``, ``get_schedule_table``); a step begins when the rank is free and what it
needs has arrived.

A turn is ``group`` micro-batches through every chunk. Once all that later steps wait for lies as it lay some turns before,
only later, so will everything after it: the turns that repeat are not played, and the time is the same to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["MOST_STEPS", "replayed"]

MOST_STEPS = 1 << 18
"""Steps that are played: some tenths of a second. Ranks whose times differ by next to nothing may repeat themselves later;
turns left out then are taken to last as long as those of the second half of what was played."""


def replayed(
    forward: Sequence[int],
    backward: Sequence[int],
    pp: int,
    microbatches: int,
    *,
    group: int | None = None,
    hop: int = 0,
    most_steps: int = MOST_STEPS,
) -> int | None:
    """Time until the last backward step is done; ``None`` if even the turns in which the pipeline fills are more than
    ``most_steps``.

    ``forward`` and ``backward`` hold the time of each of the ``pp * vpp`` chunks, chunk ``i`` on rank ``i % pp``; ``hop`` is
    what a tensor takes to the next rank; ``group`` micro-batches go through a chunk in turn (default ``pp``). Interleaved,
    ``microbatches`` must be what the schedule takes (:func:`constraints.interleaving.schedule_takes`).

    >>> replayed([10] * 4, [20] * 4, 4, 16)  # (16 + 3) * 30
    570
    >>> replayed([10] * 8, [20] * 8, 4, 4_000_000)  # (4,000,000 + 3 / 2) * 60
    240000090
    """
    chunks = len(forward) // pp
    play = _Play(pp, chunks, microbatches, (group or pp) if chunks > 1 else 1)
    if play.shortest > most_steps:
        return None
    play.ranks = [_Rank(play, rank, forward[rank::pp], backward[rank::pp]) for rank in range(pp)]
    skipped = play.skip(hop, most_steps)
    play.advance(hop)
    assert all(len(rank.back) == play.total for rank in play.ranks), "the schedule is stuck"
    return skipped + max(rank.free for rank in play.ranks)


class _Play:
    """All ranks, and how many steps of one kind each has: ``turns`` whole turns, then those of ``rest`` micro-batches."""

    def __init__(self, pp: int, chunks: int, microbatches: int, group: int) -> None:
        self.pp, self.chunks, self.group = pp, chunks, group
        self.turns, self.rest = divmod(microbatches, group)
        self.turn = group * chunks
        self.places = [chunk for chunk in range(chunks) for _ in range(group)]
        self.ranks: list[_Rank] = []

    @property
    def whole(self) -> int:
        return self.turns * self.turn

    @property
    def total(self) -> int:
        return self.whole + self.rest * self.chunks

    @property
    def ahead(self) -> int:
        """Turns, at most, that forward steps are ahead of the backward steps of the first rank."""
        return 2 + 2 * (self.pp - 1) // self.turn

    @property
    def shortest(self) -> int:
        """Steps that are played in any case, about."""
        return 2 * self.pp * self.turn * min(self.turns + 1, self.ahead + 2)

    def warm_up(self, rank: int) -> int:
        """Forward steps of a rank before its first backward step."""
        behind = self.pp - 1 - rank
        return behind if self.chunks == 1 else 2 * behind + (self.chunks - 1) * self.group

    def place(self, step: int) -> tuple[int, int]:
        """Of the ``step``-th step of one kind on any rank: which of the rank's chunks it is for, in the order of that kind,
        and micro-batches that go through a chunk in turn there."""
        if step < self.whole:
            return self.places[step % self.turn], self.group
        return (step - self.whole) // self.rest, self.rest

    def skip(self, hop: int, most_steps: int) -> int:
        """Play turns until they repeat, and leave out as many as do: how long those take."""
        seen: dict[tuple[int, ...], int] = {}
        ends: list[int] = []
        while len(ends) + self.ahead < self.turns:
            self.advance(hop, (len(ends) + 1) * self.turn)
            ends.append(self.ranks[0].free)
            played = len(ends)
            before = seen.setdefault(self._state(), played)
            if before == played and 2 * self.pp * self.turn * (played + self.ahead + 2) > most_steps:
                before = (played + 1) // 2
            if before < played:
                period = played - before
                times = (self.turns - self.ahead - played) // period
                self.turns -= times * period
                return times * (ends[-1] - ends[before - 1])
        return 0

    def _state(self) -> tuple[int, ...]:
        """All that later steps wait for, as seen from now, where rank ``r`` is ``r`` backward steps ahead of the first."""
        first, last = self.ranks[0], self.ranks[-1]
        times = [time for rank in self.ranks for time in (rank.free, rank.ahead[-1], rank.back[-1])]
        times += last.ahead[-self.group :] + first.back[-self.group :]
        return tuple(time - first.free for time in times)

    def advance(self, hop: int, until: int | None = None) -> None:
        """Play to the end, or until rank ``r`` has done ``until + r`` backward steps: those wait for none that come later."""
        moved = True
        while moved:
            moved = False
            for rank in self.ranks:
                moved |= rank.run(hop, self.total if until is None else min(self.total, until + rank.rank))


class _Rank:
    """One rank of ``play``: the times at which its forward and backward steps were done, and since when it is free."""

    def __init__(self, play: _Play, rank: int, forward: Sequence[int], backward: Sequence[int]) -> None:
        self.play, self.rank, self.forward, self.backward = play, rank, forward, backward[::-1]
        self.is_first, self.is_last = rank == 0, rank == play.pp - 1
        self.warm_up = play.warm_up(rank)
        self.ahead: list[int] = []
        self.back: list[int] = []
        self.free = 0

    def run(self, hop: int, until: int) -> bool:
        """Run steps until one waits, or ``until`` backward steps are done; false if there was none to run."""
        play, ahead, back, moved = self.play, self.ahead, self.back, False
        before, after = play.ranks[self.rank - 1].ahead, play.ranks[(self.rank + 1) % play.pp].back
        total = play.total
        while len(back) < until:
            if len(ahead) < total and len(ahead) <= self.warm_up + len(back):
                done, others, at_end, times = ahead, before, self.is_first, self.forward
            else:
                done, others, at_end, times = back, after, self.is_last, self.backward
            place, width = play.place(len(done))
            if place or not at_end:
                # Round the ends of the pipeline it goes on with the next chunk, a whole group later. A backward step's own
                # forward step was done before: warm-up is as long as that takes.
                wanted = len(done) - width * at_end
                if wanted >= len(others):
                    break
                self.free = max(self.free, others[wanted] + hop)
            self.free += times[place]
            done.append(self.free)
            moved = True
        return moved
