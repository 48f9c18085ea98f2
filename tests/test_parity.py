"""The solver and brute force agree: same feasibility, same optimum, same layout after the tie-breaks."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from constraints.problem import Problem
from solver.objectives import OBJECTIVES
from solver.search import best_layouts
from solver.tie_breaks import tie_break_key
from tests import enumeration
from tests.strategies import problems

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def agree(problem: Problem) -> None:
    expected = enumeration.best(problem)
    found = best_layouts(problem, seconds=60)
    if expected is None:
        assert found.status == "infeasible", f"the solver found {found.layouts}"
        return
    assert found.status == "optimal", f"brute force found {expected}"
    (layout,) = found.layouts
    measure = OBJECTIVES[problem.objective].measure
    assert measure(problem, layout) == measure(problem, expected)
    assert tie_break_key(problem, layout) == tie_break_key(problem, expected)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(problems(most_gpus=16))
def test_solver_agrees_with_brute_force_on_a_few_small_problems(problem: Problem) -> None:
    agree(problem)


@pytest.mark.heavy
@settings(max_examples=1200, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(problems())
def test_solver_agrees_with_brute_force_on_a_thousand_problems(problem: Problem) -> None:
    agree(problem)
