"""Whether the ranks of a pipeline have room for all layers together, asked of as few ranks as will do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

__all__ = ["have_room", "most_that"]


def most_that(holds: Callable[[int], bool], high: int, near: int = 0) -> int:
    """The last number from 1 to ``high`` for which ``holds``, which it does for all before it; 0 if for none.

    What is thought to be ``near`` it is asked about first, and others from there on in steps that double.

    >>> most_that(lambda number: number <= 37, 61, near=32), most_that(lambda number: number <= 3, 61, near=32)
    (37, 3)
    """
    below, above, number, step = 0, high + 1, near, 1
    while below < number < above:
        if holds(number):
            below = number
            number += step
        else:
            above = number
            number -= step
        step *= 2
    return bisect_left(range(below + 1, above), True, key=lambda number: not holds(number)) + below


def have_room(pp: int, layers: int, most: Callable[[int], int | None]) -> bool:
    """False if ``pp`` ranks cannot take ``layers`` together, each at most ``most(rank)`` of them (``None``: not even what
    every rank holds).

    Of the ranks between the ends a later one keeps fewer activations alive, and takes as many layers or more.

    >>> have_room(4, 10, lambda rank: rank + 1), have_room(4, 11, lambda rank: rank + 1)
    (True, False)
    """
    missing = layers
    for end in (pp - 1, 0)[:pp]:  # the last rank is the likeliest to be beyond any bound
        taken = most(end)
        if taken is None:
            return False
        missing -= taken
    return missing <= 0 or (pp > 2 and _between(pp, missing, most))


def _between(pp: int, missing: int, most: Callable[[int], int | None]) -> bool:
    first, last, ranks = 1, pp - 2, pp - 2
    largest = most(last)
    if largest is None or ranks * largest < missing:
        return False
    smallest = most(first)
    if smallest is None:
        return False
    if ranks * smallest >= missing:
        return True
    return _room_of((first, smallest), (last, largest), most) + largest >= missing


def _room_of(first: tuple[int, int], end: tuple[int, int], most: Callable[[int], int | None]) -> int:
    """The layers of the ranks from ``first`` up to ``end``, which does not count; each with the most that it can take."""
    (low, smallest), (high, largest) = first, end
    if smallest == largest or high - low == 1:
        return (high - low) * smallest
    middle = (low + high) // 2
    taken = middle, most(middle) or 0
    return _room_of(first, taken, most) + _room_of(taken, end, most)
