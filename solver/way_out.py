"""One way out of a request without a layout: edits, and a layout that they lead to. Imports ortools."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.space import values_of_decisions, virtual_stages
from solver.completion import placed
from solver.edits import Changed
from solver.search import Found, best_layouts
from solver.work import bounded_work, spend, work_left

__all__ = ["COSTS", "BestLayouts", "WayOut", "octaves"]

COSTS = {
    **{"pin": 1, "release": 1.5, "advice": 2, "idle": 2, "borderline": 2, "batch": 3, "sequence": 3, "precision": 3},
    **{"options": 3, "offload": 4, "gpus": 5, "memory": 5, "gpu": 5, "shorter": 6},
}
"""What a change costs the person: words first, then what touches convergence, then speed, then machines."""
MOST_SEARCHED = 500
"""Size of the problems that are searched for their best layout, together about half a second; beyond it a layout is shown
that is only known to keep the rules. Sizes and no time, so that the same request gets the same report."""
MOST_WORK = 0.5
"""Deterministic time of one search: many times what one of such a size mostly takes."""
LONGEST_SEARCH = 60.0


@dataclass(frozen=True)
class WayOut:
    """Edits that together lead to ``layout``, which keeps every rule of ``changed.problem``; ``note`` says more.

    ``best`` is true if it is what ``solve`` would find there, false if it is only the plainest layout.
    """

    changed: Changed
    layout: Layout
    cost: tuple[float, float]
    note: str = ""
    best: bool = False

    @property
    def text(self) -> str:
        return " ".join(str(edit) for edit in self.changed.edits)


class BestLayouts:
    """Searches for the best layout of each way, as long as they are small together."""

    def __init__(self) -> None:
        self.left = MOST_SEARCHED

    def affords(self, problem: Problem) -> bool:
        """True if ``problem`` is small enough for what is left."""
        return _search_size(problem) <= self.left

    def of(self, way: WayOut) -> WayOut:
        """``way`` with the best layout by the objective, or with its own, the layers where the objective likes them best."""
        problem = way.changed.problem
        if self.affords(problem):
            self.left -= _search_size(problem)
            found = _searched(problem)
            if found.status == "optimal":
                return replace(way, layout=found.layouts[0], best=True)
        return replace(way, layout=placed(problem, way.layout) or way.layout)


def _searched(problem: Problem) -> Found:
    most = min(MOST_WORK, work_left())
    with bounded_work(most):
        found = best_layouts(problem, seconds=LONGEST_SEARCH)
        used = most - work_left()
    spend(used)
    return found


def _search_size(problem: Problem) -> int:
    """Pipeline shapes times tensor degrees: what the time of a search grows with."""
    values = values_of_decisions(problem, wide=False)
    shapes = sum(len(virtual_stages(problem, pp, values["vpp"])) for pp in values["pp"])
    return shapes * len(values["tp"])


def octaves(a: Any, b: Any) -> float:
    """How often ``a`` doubles or halves to ``b``; nothing counts as 1."""
    return abs(math.log2(max(1, int(a or 1)) / max(1, int(b or 1))))
