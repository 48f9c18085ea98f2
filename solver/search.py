"""Running CP-SAT: one worker, settings measured for this problem, exact integers out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.registry import enforced_rules
from solver.arithmetic import LARGEST
from solver.model import Model
from solver.objectives import OBJECTIVES, post_tie_break
from solver.work import spend, work_left

__all__ = ["Disagreement", "Found", "ModelError", "best_layouts"]


class ModelError(Exception):
    """CP-SAT refused the model: a bug of ours, never "no layout"."""


class Disagreement(Exception):
    """The solver's layout does not pass the rules outside it. Never an answer."""


@dataclass(frozen=True)
class Found:
    """What the search came to: ``optimal``, ``feasible`` (time ran out), ``infeasible`` or ``unknown``."""

    status: str
    layouts: tuple[Layout, ...]


def new_solver(seconds: float) -> cp_model.CpSolver:
    """A deterministic single-worker solver with the parameters that suit divisor domains and plain products.

    Presolve is off: with it (ortools 9.15.6755, any number of iterations, linearization 0 or 1) small feasible models
    of this kind were declared infeasible (compare google/or-tools#5274); without it they are not solved more slowly.
    Probing is off because on large models it takes thirty times as long as the first layout that it is to help find.
    """
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 0
    solver.parameters.cp_model_presolve = False
    solver.parameters.cp_model_probing_level = 0
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = max(0.01, seconds)
    solver.parameters.max_deterministic_time = work_left()
    return solver


def run(model: cp_model.CpModel, solver: cp_model.CpSolver) -> int:
    """Solve and return CP-SAT's status. Raises :class:`ModelError` for an invalid model."""
    status = solver.solve(model)
    spend(solver.deterministic_time)
    if status == cp_model.MODEL_INVALID:
        raise ModelError(model.validate())
    return int(status)


def best_layouts(problem: Problem, *, top: int = 1, seconds: float = 60.0) -> Found:
    """The best ``top`` layouts for the problem's objective, best first, each passing every rule outside the solver.

    Raises :class:`Disagreement` if a solution breaks a rule that it was solved under.
    """
    deadline = time.monotonic() + seconds
    model = Model(problem)
    rules = enforced_rules(problem)
    model.post(rules)
    if not model.shapes:
        return Found("infeasible", ())
    cost = OBJECTIVES[problem.objective].post(model)
    order = post_tie_break(model)
    layouts: list[Layout] = []
    for _ in range(top):
        status, layout = _lexicographic(model, cost, order, deadline)
        if layout is None:
            if layouts:
                break
            return Found("infeasible" if status == "infeasible" else "unknown", ())
        broken = [rule.id for rule in rules if not rule.holds(problem, layout)]
        if broken:
            raise Disagreement(f"the solver's layout breaks {', '.join(broken)}: {layout}")
        layouts.append(layout)
        if status != "optimal":
            return Found("feasible", tuple(layouts))
        _exclude(model, layout)
    return Found("optimal", tuple(layouts))


def _lexicographic(model: Model, cost: Any, order: Any, deadline: float) -> tuple[str, Layout | None]:
    """Minimise the cost, then, at that cost, the tie-breaks. The model is left as it was.

    A first layout, any, bounds the cost so far that cost and tie-breaks fit into one integer: one search proves both.
    Where they do not fit, the cost is proved first and held for a second search.
    """
    model.cp.minimize(cost.expression())
    first = new_solver(deadline - time.monotonic())
    first.parameters.stop_after_first_solution = True
    status = run(model.cp, first)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return ("infeasible" if status == cp_model.INFEASIBLE else "unknown"), None
    if isinstance(order, int):
        return _minimise(model, first, cost, model.cp.clone(), cost.expression(), deadline)
    bounded, digits = model.cp.clone(), order.high + 1
    most = first.value(cost.expression())
    if max(abs(cost.low), abs(most)) * digits < LARGEST:
        copy = bounded.new_int_var(cost.low, most, "bounded cost")
        bounded.add(copy == cost.expression())
        return _minimise(model, first, cost, bounded, copy * digits + order.expression(), deadline)
    status_of_cost, layout = _minimise(model, first, cost, bounded, cost.expression(), deadline)
    if status_of_cost != "optimal" or layout is None:
        return status_of_cost, layout
    held = model.cp.clone()
    held.add(cost.expression() <= OBJECTIVES[model.problem.objective].measure(model.problem, layout))
    return _minimise(model, first, cost, held, order.expression(), deadline)


def _minimise(
    model: Model, known: cp_model.CpSolver, cost: Any, copy: cp_model.CpModel, objective: Any, deadline: float
) -> tuple[str, Layout | None]:
    """Solve ``copy`` of the model for ``objective``, at no more than what ``known`` found (as a hint it slows the proof)."""
    copy.add(cost.expression() <= known.value(cost.expression()))
    copy.minimize(objective)
    solver = new_solver(deadline - time.monotonic())
    status = run(copy, solver)
    if status == cp_model.OPTIMAL:
        return "optimal", model.layout(solver.value)
    return "feasible", model.layout((solver if status == cp_model.FEASIBLE else known).value)


def _exclude(model: Model, layout: Layout) -> None:
    """Forbid the degrees of ``layout``, so that the next answer is another layout."""
    different = []
    for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size"):
        quantity = getattr(model.x, name)
        literal = model.cp.new_bool_var(f"other[{name}]")
        model.cp.add(quantity.expression() != (getattr(layout, name) or 1)).only_enforce_if(literal)
        different.append(literal)
    same = next(
        lit
        for o, lit in zip(model.x.recompute.options, model.x.recompute.literals, strict=True)
        if o == layout.recompute
    )
    model.cp.add_bool_or([*different, same.negated()])
