"""A bound on the work of a search that means the same on every machine: CP-SAT's deterministic time.

A limit in seconds decides differently on a slow or busy machine. One unit of deterministic time is about a second of one
core; what is left of a bound belongs to the thread that set it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["bounded_work", "spend", "work_left"]

_LEFT: ContextVar[float] = ContextVar("work left", default=math.inf)


@contextmanager
def bounded_work(most: float) -> Iterator[None]:
    """Searches inside the block share ``most`` units of deterministic time; one that finds nothing left ends at once."""
    before = _LEFT.set(most)
    try:
        yield
    finally:
        _LEFT.reset(before)


def work_left() -> float:
    """What a search that begins now may use; infinite outside :func:`bounded_work`."""
    return _LEFT.get()


def spend(used: float) -> None:
    """Take off what a search has used."""
    _LEFT.set(max(0.0, _LEFT.get() - used))
