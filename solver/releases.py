"""Pins and limits left out, where that says more than moving them to the nearest value. Imports ortools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from constraints.pins import Limit, Pin
from constraints.rule import Rule
from solver.edits import Changed, asked_words
from solver.feasibility import plainest_layout
from solver.objectives import OBJECTIVES
from solver.way_out import COSTS, BestLayouts, WayOut, octaves

__all__ = ["releases"]

NEAR = 1.0
"""Octaves up to which a value is near the one that was asked for."""
WORTH = 100
"""A release is offered for one part in so many of the objective."""


def releases(start: Changed, words: Iterable[Rule], moved: Sequence[WayOut], best: BestLayouts) -> Iterator[WayOut]:
    """Ways in which one of ``words`` is left out, given those of ``moved`` in which it has its nearest value instead.

    It is offered where there is no such value, or none within a factor of two, and where the best layout without it is
    better than the best with the nearest value.
    """
    for word in words:
        move = next((way for way in moved if _moves(way, word)), None)
        far = move is None or _far(word, move)
        changed = start.release(word)
        if move is not None and not far and not (move.best and best.affords(changed.problem)):
            continue
        layout = plainest_layout(changed.problem)
        if layout is None:
            continue
        way = best.of(WayOut(changed, layout, (COSTS["release"], 0.0)))
        if move is None or (_differs(word, way, move) and (far or _better(way, move))):
            yield way


def _moves(way: WayOut, word: Rule) -> bool:
    edits = way.changed.edits
    return len(edits) == 1 and bool(edits[0].text) and edits[0].instead == asked_words(word)


def _far(word: Rule, move: WayOut) -> bool:
    if not isinstance(word, Pin | Limit) or word.decision == "sequence_parallel":
        return False
    return octaves(word.value, getattr(move.layout, word.decision)) > NEAR


def _differs(word: Rule, way: WayOut, move: WayOut) -> bool:
    """False if the layout without the word has what the word was moved to."""
    (decision,) = word.scope
    return bool(getattr(way.layout, decision) != getattr(move.layout, decision))


def _better(way: WayOut, move: WayOut) -> bool:
    """True if both are the best there are, and the one without the word is worth the line."""
    if not (way.best and move.best):
        return False
    measure = OBJECTIVES[way.changed.problem.objective].measure
    before, after = measure(move.changed.problem, move.layout), measure(way.changed.problem, way.layout)
    return (before - after) * WORTH >= abs(before)
