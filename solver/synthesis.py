"""The main job: from a request to the best layouts, or to the rules that forbid one. Imports ortools."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

from constraints.layout import Layout
from constraints.problem import Problem
from solver.answer import Answer, answer_of
from solver.fewer_gpus import best_with_idle
from solver.objectives import OBJECTIVES
from solver.pareto import pareto_layouts
from solver.refutation import refutation_of
from solver.report import Report
from solver.request import Request
from solver.resolution import resolve
from solver.search import Disagreement, Found, best_layouts

__all__ = ["solve", "solve_problem"]


def solve(request: Request) -> Report:
    """Find the best ``request.top`` layouts, or the rules that conflict.

    Raises what :func:`solver.resolution.resolve` raises for bad input, and :class:`solver.search.Disagreement` if the
    solver and the rules outside it disagree (never an answer).

    >>> from solver import Request, solve
    >>> report = solve(Request(model="llama-3.1-8b", gpus=8, gpu="h100"))
    >>> report.status
    'optimal'
    """
    return solve_problem(resolve(request), top=request.top, pareto=request.pareto, seconds=request.time_limit)


def solve_problem(
    problem: Problem,
    *,
    top: int = 1,
    pareto: bool = False,
    seconds: float = 60.0,
    progress: Callable[[Layout], object] | None = None,
) -> Report:
    """:func:`solve` for a problem that is already resolved.

    With ``pareto`` the layouts are those that no other beats in both step time and memory; each goes to ``progress`` as it is
    found.
    """
    started = time.monotonic()
    weighed: tuple[int, ...] = ()
    if pareto:
        problem = replace(problem, objective="step-time")
        found, solved = pareto_layouts(problem, seconds=seconds, found=progress), problem
    else:
        found, solved, weighed = _search(problem, top, seconds)
    answers = tuple(_answer(solved, layout, problem) for layout in found.layouts)
    objective = OBJECTIVES[problem.objective]
    refutation = None
    if found.status == "infeasible":
        left = max(1.0, seconds - (time.monotonic() - started))
        refutation = refutation_of(problem, seconds=left)
    return Report(
        status=found.status,
        asked=problem,
        answers=answers,
        objective_value=objective.value(solved, found.layouts[0]) if found.layouts else None,
        objective_unit=objective.unit(problem),
        refutation=refutation,
        solver_version=version("ortools"),
        wall_seconds=time.monotonic() - started,
        counts_weighed=found.weighed,
        gpus_weighed=weighed,
    )


def _search(problem: Problem, top: int, seconds: float) -> tuple[Found, Problem, tuple[int, ...]]:
    """The layouts, the problem they solve, on fewer GPUs where some may stay idle, and the counts that were weighed."""
    if problem.allow_idle:
        return best_with_idle(problem, top=top, deadline=time.monotonic() + seconds)
    return best_layouts(problem, top=top, seconds=seconds), problem, ()


def _answer(solved: Problem, layout: Layout, asked: Problem) -> Answer:
    answer = answer_of(solved, layout)
    if answer is None:
        raise Disagreement(f"the solver's layout does not place its layers: {layout}")
    return replace(answer, problem=asked)
