"""How far a changed request is from the one that was asked for, in octaves: a factor of two is one. No ortools here."""

from __future__ import annotations

import math
from typing import Any

from constraints.layout import Layout
from constraints.pins import Limit, Pin
from constraints.problem import Problem
from constraints.rule import Rule

__all__ = ["batch_distance", "gpus_distance", "is_far", "pin_distance", "sequence_distance"]

NEAR = 1.0
"""Octaves up to which a value is near the one that was asked for."""


def is_far(word: Rule, layout: Layout) -> bool:
    """True if what ``layout`` has is not near what a pin or limit asks for."""
    if not isinstance(word, Pin | Limit) or word.decision == "sequence_parallel":
        return False
    return _octaves(word.value, getattr(layout, word.decision)) > NEAR


def pin_distance(asked: Problem, changed: Problem) -> float:
    before = {pin.id: pin.value for pin in asked.pins if isinstance(pin, Pin)}
    after = {pin.id: pin.value for pin in changed.pins if isinstance(pin, Pin)}
    return sum(_octaves(before[name], after[name]) for name in before.keys() & after.keys())


def batch_distance(asked: Problem, changed: Problem) -> float:
    """Of the batch, or of the most that a tolerance lets it be."""
    if asked.batch_bounds is not None and changed.batch_bounds is not None:
        return _octaves(asked.batch_bounds[1], changed.batch_bounds[1])
    return _octaves(asked.global_batch_size, changed.global_batch_size)


def sequence_distance(asked: Problem, changed: Problem) -> float:
    return _octaves(asked.seq_length, changed.seq_length)


def gpus_distance(asked: Problem, changed: Problem) -> float:
    return _octaves(asked.gpus, changed.gpus)


def _octaves(a: Any, b: Any) -> float:
    """How often ``a`` doubles or halves to ``b``; nothing counts as 1."""
    return abs(math.log2(max(1, int(a or 1)) / max(1, int(b or 1))))
