"""Pins and limits left out, where that says more than moving them to the nearest value. Imports ortools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from constraints.rule import Rule
from solver.completion import placed
from solver.distance import is_far
from solver.edits import Changed, asked_words
from solver.feasibility import plainest_layout
from solver.objectives import OBJECTIVES
from solver.way_out import COSTS, BestLayouts, WayOut

__all__ = ["releases"]

WORTH = 100
"""A release is offered for one part in so many of the objective."""


def releases(start: Changed, words: Iterable[Rule], moved: Sequence[WayOut], best: BestLayouts) -> Iterator[WayOut]:
    """Ways in which one of ``words`` is left out, given those of ``moved`` in which it has its nearest value instead.

    It is offered where there is no such value, or none within a factor of two, and where the best layout without it is
    better than the best with the nearest value.
    """
    for word in words:
        move = next((way for way in moved if _moves(way, word)), None)
        far = move is None or is_far(word, move.layout)
        if move is not None and not far and not move.best:
            continue  # there is no telling which is better
        way = _released(start.release(word), best, searched=not far)
        if way is not None and (move is None or (_differs(word, way, move) and (far or _better(way, move)))):
            yield way


def _released(changed: Changed, best: BestLayouts, *, searched: bool) -> WayOut | None:
    """``changed`` with its best layout, or, unless it is to be ``searched``, the plainest."""
    cost = COSTS["release"], 0.0
    layout = best.layout(changed.problem)
    if layout is not None:
        return WayOut(changed, layout, cost, best=True)
    plain = None if searched else plainest_layout(changed.problem)
    return None if plain is None else WayOut(changed, placed(changed.problem, plain) or plain, cost)


def _moves(way: WayOut, word: Rule) -> bool:
    edits = way.changed.edits
    return len(edits) == 1 and bool(edits[0].text) and edits[0].instead == asked_words(word)


def _differs(word: Rule, way: WayOut, move: WayOut) -> bool:
    """False if the layout without the word has what the word was moved to."""
    (decision,) = word.scope
    return bool(getattr(way.layout, decision) != getattr(move.layout, decision))


def _better(way: WayOut, move: WayOut) -> bool:
    """True if the layout without the word is better than the best with it moved, and worth the line."""
    measure = OBJECTIVES[way.changed.problem.objective].measure
    before, after = measure(move.changed.problem, move.layout), measure(way.changed.problem, way.layout)
    return (before - after) * WORTH >= abs(before)
