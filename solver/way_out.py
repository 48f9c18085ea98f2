"""One way out of a request without a layout: edits, and a layout that they lead to. Imports ortools."""

from __future__ import annotations

from dataclasses import dataclass, replace

from constraints.layout import Layout
from constraints.partition.kinds import runs_of
from constraints.problem import Problem
from constraints.refutation.space import values_of_decisions, virtual_stages
from solver.completion import placed
from solver.edits import Changed
from solver.search import best_layouts
from solver.work import part_of_work

__all__ = ["COSTS", "BestLayouts", "WayOut"]

COSTS = {
    **{"pin": 1, "release": 1.5, "advice": 2, "idle": 2, "borderline": 2, "batch": 3, "sequence": 3, "precision": 3},
    **{"options": 3, "offload": 4, "gpus": 5, "memory": 5, "gpu": 5, "shorter": 6},
}
"""What a change costs the person: words first, then what touches convergence, then speed, then machines."""
MOST_SEARCHED = 500
"""Size of the problems that are searched for their best layout, together about half a second; beyond it a layout is shown
that is only known to keep the rules. Sizes and no time, so that the same request gets the same report."""
MOST_WORK = 0.25
"""Deterministic time of all searches together: many times what they mostly take."""
LONGEST_SEARCH = 60.0
ALTERNATING = 12
"""Layers of alternating kinds that make as much work as one layer of a first run."""


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
        """What to type, then what to leave out."""
        return " ".join(str(edit) for edit in sorted(self.changed.edits, key=lambda edit: not edit.text))


class BestLayouts:
    """Searches for the best layout of each way, as long as they are small together."""

    def __init__(self) -> None:
        self.left, self.work = MOST_SEARCHED, MOST_WORK

    def layout(self, problem: Problem) -> Layout | None:
        """The best layout of ``problem`` by its objective; ``None`` if that is more work than is left."""
        size = _search_size(problem)
        if size > self.left or self.work <= 0:
            return None
        self.left -= size
        with part_of_work(self.work) as part:
            found = best_layouts(problem, seconds=LONGEST_SEARCH)
        self.work -= part.used
        return found.layouts[0] if found.status == "optimal" else None

    def of(self, way: WayOut) -> WayOut:
        """``way`` with the best layout by the objective, or with its own, the layers where the objective likes them best."""
        problem = way.changed.problem
        best = self.layout(problem)
        if best is not None:
            return replace(way, layout=best, best=True)
        return replace(way, layout=placed(problem, way.layout) or way.layout)


def _search_size(problem: Problem) -> int:
    """Pipeline shapes times tensor degrees: what the time of a search grows with. A rank has several ways to hold as many
    layers beside a first run of others, and more where they alternate."""
    values, runs = values_of_decisions(problem, wide=False), runs_of(problem.model)
    shapes = sum(len(virtual_stages(problem, pp, values["vpp"])) for pp in values["pp"])
    ways = 1 + (runs.prefix if runs is not None else problem.model.num_layers // ALTERNATING)
    return shapes * len(values["tp"]) * ways
