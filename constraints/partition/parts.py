"""Neighbouring ranks of a pipeline, taken together: the latest of them keeps least alive."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

__all__ = ["BETWEEN", "Part", "behind", "fine_parts"]

FINEST = 8
"""Parts into which the ranks between the ends are cut where the coarse ones promised too much."""


class Part(NamedTuple):
    """Neighbouring ranks between the ends, ``size(pp)`` of them, none on small pipelines; ``latest(pp)`` is the last."""

    name: str
    size: Callable[[int], int]
    latest: Callable[[int], int]


def _alone(name: str, rank: int) -> Part:
    """Rank ``rank``, where it is between the ends."""
    return Part(name, lambda pp: int(pp > rank + 1), lambda pp: rank)


def _half(name: str, part: int) -> Part:
    """A half of the ranks from the fourth to the last but one."""

    def end(pp: int, part: int) -> int:
        return max(0, pp - 4) * part // 2

    return Part(name, lambda pp: end(pp, part) - end(pp, part - 1), lambda pp: 2 + end(pp, part))


BETWEEN = (_alone("second", 1), _alone("third", 2), _half("early", 1), _half("late", 2))
"""The ranks between the ends of any pipeline, the second and the third, which keep most alive, each by itself."""


def fine_parts(pp: int) -> tuple[Part, ...]:
    """The ranks between the ends of a pipeline of ``pp``, in up to :data:`FINEST` parts."""
    count = min(FINEST, pp - 2)
    ends = [(pp - 2) * part // count for part in range(count + 1)] if count > 0 else []

    def part(low: int, high: int) -> Part:
        return Part(f"to {high}", lambda _: high - low, lambda _: high)

    return tuple(part(low, high) for low, high in pairwise(ends))


def behind(pp: int, rank: int) -> int:
    """Ranks after ``rank``; none where there is no such rank."""
    return max(0, pp - 1 - rank)
