"""Random small problems that brute force finds no layout for."""

from __future__ import annotations

from collections.abc import Callable

from constraints.problem import Problem
from solver.search import best_layouts
from tests.exploring import explore
from tests.strategies import problems

__all__ = ["for_infeasible"]


def for_infeasible(
    examples: int, visit: Callable[[Problem], None], *, most_gpus: int = 12, at_least: int = 1, part: int = 0
) -> None:
    """Call ``visit`` with the infeasible ones among ``examples`` random problems, of which there must be ``at_least``."""
    seen = 0

    def visits(problem: Problem) -> None:
        nonlocal seen
        if best_layouts(problem).status == "infeasible":
            seen += 1
            visit(problem)

    explore(problems(most_gpus=most_gpus), visits, examples, part)
    assert seen >= at_least, f"only {seen} of {examples} problems are infeasible"
