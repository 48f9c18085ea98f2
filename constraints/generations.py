"""The generations of Megatron that rules are told apart for, and how they are ordered.

A generation is Megatron-Core's minor version; each goes with the Megatron Bridge of its time (0.16 with 0.3, 0.19 with 0.6,
0.20 with 0.7). ``docs/conformance.md`` says which releases the rules were held against.
"""

from __future__ import annotations

__all__ = ["GENERATIONS", "NEWEST", "before"]

GENERATIONS = ("0.16", "0.19", "0.20")
"""Oldest first."""

NEWEST = GENERATIONS[-1]


def before(generation: str, other: str) -> bool:
    """True if ``generation`` is older than ``other``.

    >>> before("0.16", "0.19"), before("0.20", "0.20")
    (True, False)
    """
    return GENERATIONS.index(generation) < GENERATIONS.index(other)
