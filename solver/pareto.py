"""Step time against memory: the layouts that no other beats in both, fastest first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import BLOCK, GROUPS, Layout, Recompute
from constraints.problem import Problem
from constraints.registry import enforced_rules
from solver.completion import placed
from solver.model import Model
from solver.objectives import OBJECTIVES, post_tie_break
from solver.placing import differs
from solver.search import MOST_WORK_ON_COUNTS, Disagreement, Found, last_resorts, new_solver, run, takes
from solver.tie_breaks import tie_break_key
from solver.work import part_of_work

__all__ = ["POINTS", "pareto_layouts"]

POINTS = 8
"""How many points are looked for unless asked otherwise: each is a few searches."""


def pareto_layouts(
    problem: Problem, *, most: int | None = POINTS, seconds: float = 60.0, found: Callable[[Layout], Any] | None = None
) -> Found:
    """Layouts that are best in step time or memory, or between: each the fastest with its memory, the leanest at its time.

    ``most`` of them lie about evenly between the fastest and the leanest; ``None`` is all. Each is passed to ``found`` as it
    comes. ``feasible`` if the time ran out before the last. Raises :class:`~solver.search.Disagreement` if a solution
    breaks a rule.
    """
    front = _Front(replace(problem, objective="step-time"), time.monotonic() + seconds)
    layouts: list[Layout] = []
    gap = 1
    while True:
        status, layout = front.fastest()
        if layout is None:
            break
        layouts.append(layout)
        if found is not None:
            found(layout)
        if status != "optimal":
            return Found("feasible", tuple(layouts), weighed=front.weighed)
        held = front.memory_of(layout)
        if len(layouts) == 1 and most is not None:
            gap = max(1, (held - front.least_memory(layout)) // max(1, most - 1))
        front.below(held - gap)
    if not layouts:
        return Found(status, ())
    return Found("optimal" if status == "infeasible" else "feasible", tuple(layouts), weighed=front.weighed)


class _Front:
    """Layouts by both costs: those without recompute by count and, beside them, those with it."""

    def __init__(self, problem: Problem, deadline: float) -> None:
        self.problem = problem
        self.plain = _Side(problem, deadline)
        self.beside = [_Side(problem, deadline, stand_in) for stand_in in (GROUPS, BLOCK) if takes(problem, stand_in)]
        self.block_alone = BLOCK in last_resorts(problem)
        self.weighed = True
        """False if some layouts with recompute by count that may be better were not tried."""

    def memory_of(self, layout: Layout) -> int:
        return OBJECTIVES["memory"].measure(self.problem, layout)

    def below(self, memory: int) -> None:
        """From here on only layouts whose fullest stage holds at most so much."""
        for side in (self.plain, *self.beside):
            side.below(memory)

    def fastest(self) -> tuple[str, Layout | None]:
        """The fastest layout left, of those the leanest, of those the first by the tie-breaks."""
        status, best = self.plain.fastest()
        for side in self.beside:
            if status not in ("optimal", "infeasible"):
                break
            if best is None and side.counted == BLOCK and self.plain.most_held is None and not self.block_alone:
                break  # block is weighed where something else fits
            with part_of_work(MOST_WORK_ON_COUNTS):
                known, other = side.fastest(best)
            if known in ("optimal", "infeasible"):
                status = "optimal" if other is not None else status
            else:
                self.weighed = False
            if other is not None and (best is None or self._place(other) < self._place(best)):
                status, best = "optimal", other
        return status, best

    def least_memory(self, otherwise: Layout) -> int:
        """What the leanest layout holds, as far as that is known."""
        found = [otherwise, self.plain.leanest()]
        for side in self.beside:
            with part_of_work(MOST_WORK_ON_COUNTS):
                found.append(side.leanest())
        return min(self.memory_of(layout) for layout in found if layout is not None)

    def _place(self, layout: Layout) -> tuple[int, int, tuple[int, ...]]:
        time_, memory = (OBJECTIVES[name].measure(self.problem, layout) for name in ("step-time", "memory"))
        return time_, memory, tie_break_key(self.problem, layout)


class _Side:
    """One model with both costs; what it admits shrinks from point to point."""

    def __init__(self, problem: Problem, deadline: float, counted: Recompute | None = None) -> None:
        self.problem, self.deadline, self.counted = problem, deadline, counted
        self.rules = enforced_rules(problem)
        self.model = Model(problem, counted=counted)
        self.model.post(self.rules)
        self.most_held: int | None = None
        if self.model.shapes:
            self.time = OBJECTIVES["step-time"].post(self.model)
            self.memory = OBJECTIVES["memory"].post(self.model)
            self.order = post_tie_break(self.model)

    def below(self, memory: int) -> None:
        """From here on only layouts whose fullest stage holds at most so much."""
        self.most_held = memory
        if self.model.shapes:
            self.model.cp.add(self.memory.expression() <= memory)

    def fastest(self, known: Layout | None = None) -> tuple[str, Layout | None]:
        """The fastest layout left, of those the leanest, of those the first by the tie-breaks; none slower than ``known``."""
        if not self.model.shapes:
            return "infeasible", None
        model = self.model.cp.clone()
        if known is not None:
            model.add(self.time.expression() <= self._measure("step-time", known))
        layout: Layout | None = None
        status = "unknown"
        for cost, measure in ((self.time, "step-time"), (self.memory, "memory"), (self.order, "")):
            if isinstance(cost, int):
                continue
            status, better = self._least(model, cost, measure, "pareto")
            if better is None:
                return (status, layout) if layout is None else ("feasible", layout)
            layout = better
            if status != "optimal":
                return status, layout
            if measure:
                model.add(cost.expression() <= OBJECTIVES[measure].measure(self.problem, layout))
        return status, layout

    def leanest(self) -> Layout | None:
        """The layout that holds least, if it is found."""
        if not self.model.shapes:
            return None
        return self._least(self.model.cp.clone(), self.memory, "memory", "memory")[1]

    def _least(self, model: cp_model.CpModel, cost: Any, measure: str, objective: str) -> tuple[str, Layout | None]:
        """Minimise ``cost``, whose true value for placed layers is ``measure`` (if any); layers are placed by ``objective``.

        Where a placement does not keep what the model promises, that is noted in ``model``, and it chooses again.
        """
        model.minimize(cost.expression())
        while True:
            solver = new_solver(self.deadline - time.monotonic())
            status = run(model, solver)
            if status == cp_model.INFEASIBLE:
                return "infeasible", None
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                return "unknown", None
            layout = placed(self.problem, self.model.layout(solver.value), objective, most_held=self.most_held)
            if layout is None:
                model.add_bool_or(differs(self.model, self.model.layout(solver.value), cp=model))
                continue
            promised = solver.value(cost.expression())
            if status != cp_model.OPTIMAL or not measure or self._measure(measure, layout) == promised:
                break
            other = model.new_bool_var("other degrees")
            model.add_bool_or(differs(self.model, layout, cp=model)).only_enforce_if(other)
            model.add(cost.expression() >= self._measure(measure, layout)).only_enforce_if(other.negated())
        broken = [rule.id for rule in self.rules if not rule.holds(self.problem, layout)]
        if broken:
            raise Disagreement(f"the solver's layout breaks {', '.join(broken)}: {layout}")
        return ("optimal" if status == cp_model.OPTIMAL else "feasible"), layout

    def _measure(self, measure: str, layout: Layout) -> int:
        return OBJECTIVES[measure].measure(self.problem, layout)
