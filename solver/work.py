"""A bound on the work of a search that means the same on every machine: CP-SAT's deterministic time.

A limit in seconds decides differently on a slow or busy machine. One unit of deterministic time is about a second of one
core; what is left of a bound belongs to the thread that set it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Part", "bounded_work", "part_of_work", "spend", "work_left", "work_spent"]

_LEFT: ContextVar[float] = ContextVar("work left", default=math.inf)
_SPENT: ContextVar[float] = ContextVar("work spent", default=0.0)


@contextmanager
def bounded_work(most: float) -> Iterator[None]:
    """Searches inside the block share ``most`` units of deterministic time; one that finds nothing left ends at once."""
    before = _LEFT.set(most)
    try:
        yield
    finally:
        _LEFT.reset(before)


@dataclass
class Part:
    """A part of a bound; ``used`` is known when it is over."""

    used: float = 0.0


@contextmanager
def part_of_work(most: float) -> Iterator[Part]:
    """The same with a part of what is left; what the searches inside use is taken off that too."""
    most, part = min(most, work_left()), Part()
    with bounded_work(most):
        try:
            yield part
        finally:
            part.used = most - work_left()
    _take(part.used)


def work_left() -> float:
    """What a search that begins now may use; infinite outside :func:`bounded_work`."""
    return _LEFT.get()


def work_spent() -> float:
    """What all searches together have used so far: of interest are differences."""
    return _SPENT.get()


def spend(used: float) -> None:
    """Take off what a search has used."""
    _SPENT.set(_SPENT.get() + used)
    _take(used)


def _take(used: float) -> None:
    _LEFT.set(max(0.0, _LEFT.get() - used))
