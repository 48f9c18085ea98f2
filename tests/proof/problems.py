"""Random small problems that brute force finds no layout for."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings

from constraints.problem import Problem
from solver.search import best_layouts
from tests.strategies import problems

__all__ = ["for_infeasible"]

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def for_infeasible(examples: int, visit: Callable[[Problem], None], *, most_gpus: int = 12, at_least: int = 1) -> None:
    """Call ``visit`` with the infeasible ones among ``examples`` random problems, of which there must be ``at_least``."""
    seen = 0

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=QUIET,
        phases=[Phase.generate],
    )
    @given(problems(most_gpus=most_gpus))
    def visits(problem: Problem) -> None:
        nonlocal seen
        if best_layouts(problem).status == "infeasible":
            seen += 1
            visit(problem)

    visits()
    assert seen >= at_least, f"only {seen} of {examples} problems are infeasible"
