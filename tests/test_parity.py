"""The solver and brute force agree: same feasibility, same optimum, same layout after the tie-breaks."""

from __future__ import annotations

import pytest

from constraints.problem import Problem
from solver.objectives import OBJECTIVES
from solver.search import best_layouts
from solver.tie_breaks import tie_break_key
from tests import enumeration
from tests.exploring import explore, in_parts
from tests.strategies import problems


def agree(problem: Problem) -> None:
    expected = enumeration.best(problem)
    found = best_layouts(problem, seconds=600)
    if expected is None:
        assert found.status == "infeasible", f"the solver found {found.layouts}"
        return
    assert found.status == "optimal", f"brute force found {expected}"
    (layout,) = found.layouts
    measure = OBJECTIVES[problem.objective].measure
    assert measure(problem, layout) == measure(problem, expected)
    assert tie_break_key(problem, layout) == tie_break_key(problem, expected)


def test_solver_agrees_with_brute_force_on_a_few_small_problems() -> None:
    explore(problems(most_gpus=12), agree, 40)


def test_it_does_where_every_promise_that_is_not_kept_is_too_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.search.MOST_WORK_ON_PROMISES", -1.0)
    explore(problems(most_gpus=12), agree, 20, 1)


def bound_holds(problem: Problem) -> None:
    found = best_layouts(problem, seconds=600)
    if found.layouts:
        least = OBJECTIVES[problem.objective].measure(problem, found.layouts[0])
        assert best_layouts(problem, most=least - 1, seconds=600).layouts == ()
        assert best_layouts(problem, most=least, seconds=600).layouts == found.layouts


@pytest.mark.parametrize("most_work", [2.0, -1.0])
def test_nothing_that_costs_more_than_is_asked_for_is_found(monkeypatch: pytest.MonkeyPatch, most_work: float) -> None:
    monkeypatch.setattr("solver.search.MOST_WORK_ON_PROMISES", most_work)
    explore(problems(most_gpus=12), bound_holds, 15, 2)


@pytest.mark.heavy
@in_parts(16)
def test_solver_agrees_with_brute_force_on_hundreds_of_problems(part: int) -> None:
    explore(problems(most_gpus=16 if part % 2 else 24), agree, 40, part)
