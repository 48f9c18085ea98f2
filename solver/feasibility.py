"""Is there any layout at all, and which is the plainest? The quick question behind every way out. Imports ortools."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial, wraps
from typing import Any, NamedTuple, TypeVar

from ortools.sat.python import cp_model

from constraints.layout import Layout, Recompute
from constraints.memory.spread import fewest_gpus
from constraints.problem import Problem
from constraints.refutation.encoding import digest, encoded
from constraints.registry import enforced_rules
from constraints.rule import Rule
from solver.arithmetic import LARGEST, BoundsError
from solver.explain import may_do_without_interleaving
from solver.model import Model
from solver.objectives import post_tie_break
from solver.placing import placed_solution
from solver.search import Disagreement, best_layouts, last_resorts, new_solver, run
from solver.work import bounded_work, work_left

__all__ = ["Nearest", "least_memory", "nearest_to", "plainest_layout"]

MOST_WORK, MOST_WORK_ON_NEAREST = 1.0, 4.0
"""Deterministic time for one question: a few times what the dearest recorded scenario takes."""
LONGEST_SECONDS = 300.0
ROOMY = 1 << 44
"""Bytes of a GPU that holds anything."""
MOST_REMEMBERED = 32
OCTAVE = 64
"""Steps of distance in a factor of two."""

Answer = TypeVar("Answer")


def _remembered(question: Callable[[Problem], Answer]) -> Callable[[Problem], Answer]:
    """The last answers are kept: one explanation asks the same several times."""
    answers: dict[str, Answer] = {}

    @wraps(question)
    def answer(problem: Problem) -> Answer:
        key = digest(encoded(problem))
        if key not in answers:
            answers[key] = question(problem)
            if len(answers) > MOST_REMEMBERED:
                del answers[next(iter(answers))]
        return answers[key]

    return answer


@_remembered
def plainest_layout(problem: Problem) -> Layout | None:
    """Of all layouts the one that the tie-breaks of ``solve`` put first: least recompute, then the smallest degrees.

    Recompute by count is left aside but for groups, where nothing else fits. The layout keeps every enforced rule, judged by
    the rules themselves; ``None`` if none was found. Raises :class:`~solver.search.Disagreement` if a rule outside the solver
    refuses it.
    """
    if fewest_gpus(problem) > problem.gpus:
        return None
    return _or_in_groups(problem, partial(_plainest, problem))


def _or_in_groups(problem: Problem, find: Callable[[Recompute | None], Layout | None]) -> Layout | None:
    """What is found by recompute without counting, or else in groups of layers (or blocks), if these may be looked at."""
    return next((layout for way in (None, *last_resorts(problem)) if (layout := find(way)) is not None), None)


def _plainest(problem: Problem, counted: Recompute | None) -> Layout | None:
    model, rules = _model(problem, counted), enforced_rules(problem)
    if model is None or _solution(model) is None:  # mostly there is none, and then no order is needed
        return None
    cp: Any = model.cp
    order = post_tie_break(model)
    if not isinstance(order, int) and order.high < LARGEST:
        cp.minimize(order.expression())
        plainest = _found(model, rules)
        if plainest is not None:
            return plainest
        cp.clear_objective()
    return _found(model, rules)


def nearest_to(problem: Problem, wanted: dict[str, int]) -> Layout | None:
    """Like :func:`plainest_layout`, but with the decisions in ``wanted`` as near to those values as can be, in octaves."""
    return _or_in_groups(problem, partial(_nearest_to, problem, wanted))


def _nearest_to(problem: Problem, wanted: dict[str, int], counted: Recompute | None) -> Layout | None:
    model = _model(problem, counted)
    if model is None:
        return None
    parts: list[Any] = []
    for name, value in wanted.items():
        quantity = getattr(model.x, name)
        if isinstance(quantity, int):
            continue  # a count that is no decision in this model
        rows = [(v, _distance(v, value)) for v in model.arithmetic.values_of(quantity)]
        far = model.arithmetic.range(0, max(d for _, d in rows), f"distance[{name}]")
        model.cp.add_allowed_assignments([quantity.expression(), far.expression()], rows)
        parts.append(far.expression())
    model.cp.minimize(sum(parts))
    return _found(model, enforced_rules(problem))


class Nearest(NamedTuple):
    """A layout, and whether it is proved that none comes nearer."""

    layout: Layout
    proved: bool


@_remembered
def least_memory(problem: Problem) -> Nearest | None:
    """The layout that keeps every enforced rule but the capacity of the GPU, and comes nearest to it."""
    roomy = replace(problem, objective="memory", budget_bytes=ROOMY, allow_borderline=False)
    interleaving = not may_do_without_interleaving(problem)
    with bounded_work(min(MOST_WORK_ON_NEAREST, work_left())):
        found = best_layouts(roomy, seconds=LONGEST_SECONDS, interleaving=interleaving, counted=last_resorts(roomy))
    return Nearest(found.layouts[0], found.status == "optimal") if found.layouts else None


def _model(problem: Problem, counted: Recompute | None) -> Model | None:
    """``None`` if no pipeline shape is left, or the numbers are beyond what the solver takes."""
    try:
        model = Model(problem, interleaving=not may_do_without_interleaving(problem), counted=counted)
        model.post(enforced_rules(problem))
    except BoundsError:
        return None
    return model if model.shapes else None


def _solution(model: Model) -> Callable[[Any], int] | None:
    """What reads a value of a solution, the layers not placed yet; ``None`` if there is none or none was found."""
    solver = new_solver(LONGEST_SECONDS)
    solver.parameters.max_deterministic_time = MOST_WORK
    return solver.value if run(model.cp, solver) in (cp_model.OPTIMAL, cp_model.FEASIBLE) else None


def _found(model: Model, rules: Iterable[Rule]) -> Layout | None:
    layout = placed_solution(model, partial(_solution, model))
    if layout is None:
        return None
    broken = [rule.id for rule in rules if not rule.holds(model.problem, layout)]
    if broken:
        raise Disagreement(f"the solver's layout breaks {', '.join(broken)}: {layout}")
    return layout


def _distance(a: int, b: int) -> int:
    return round(OCTAVE * abs(math.log2((a or 1) / (b or 1))))
