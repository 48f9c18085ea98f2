"""Asking a few ranks says the same as asking all of them, as long as later ranks have more room; likewise of numbers."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.partition.rooms import have_room, most_that

ROOMS = st.tuples(st.integers(0, 9), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 9))


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(ROOMS, st.integers(0, 400))
def test_ranks_have_room_if_they_have_it_one_by_one(rooms: tuple[int, list[int], int], layers: int) -> None:
    first, steps, last = rooms
    each = [first, *accumulate(steps), last]
    assert have_room(len(each), layers, each.__getitem__) == (sum(each) >= layers)


def test_a_rank_that_cannot_hold_what_it_must_leaves_no_room() -> None:
    for beyond in range(5):
        each = [None if rank <= beyond else 9 for rank in range(6)]  # the last rank is never beyond
        assert not have_room(6, 40, each.__getitem__)


def test_few_ranks_are_asked() -> None:
    asked: list[int] = []

    def most(rank: int) -> int:
        asked.append(rank)
        return 3 if rank < 40 else 4

    assert have_room(64, 3 * 40 + 4 * 24, most)
    assert not have_room(64, 3 * 40 + 4 * 24 + 1, most)
    assert len(asked) < 30


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.integers(0, 70), st.integers(0, 60), st.integers(0, 80))
def test_the_last_number_that_holds_is_found_wherever_one_begins(last: int, high: int, near: int) -> None:
    assert most_that(lambda number: number <= last, high, near) == min(last, high)
