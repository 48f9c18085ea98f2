"""How many of the GPUs to use where some may stay idle. Imports ortools.

The largest count that has a layout is not always the fastest: 1,014 GPUs are 2 x 3 x 13^2, and few degrees divide them. So
fewer are weighed too, in whole nodes, as far as a bounded amount of work goes. Only under step time: a collective among
fewer GPUs is always cheaper, and more of them never hold more each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from constraints.problem import Problem
from solver.objectives import OBJECTIVES
from solver.search import Disagreement, Found, best_layouts
from solver.usable import Undecided, largest_usable
from solver.work import part_of_work, work_left

__all__ = ["best_with_idle"]

MOST_WORK_ON_FEWER, MOST_WORK_ON_ONE = 16.0, 3.0
"""Deterministic time for all counts below the largest, and for one of them before it is known to be the fastest."""
MOST_COUNTS = 16


def best_with_idle(problem: Problem, *, top: int, deadline: float) -> tuple[Found, Problem, tuple[int, ...]]:
    """The best layouts on all GPUs of ``problem`` or on fewer, the problem that they solve, and the counts that were weighed.

    On none of these is there a better one.

    Raises :class:`~solver.search.Disagreement` if a count is called usable and has no layout.
    """
    on_all = best_layouts(problem, top=top, seconds=deadline - time.monotonic())
    found, chosen = on_all, problem
    if on_all.status == "infeasible":
        try:
            gpus = largest_usable(problem, problem.gpus - 1, deadline=deadline)
        except Undecided:
            return Found("unknown", ()), problem, ()
        if gpus is None:
            return on_all, problem, ()
        chosen = replace(problem, gpus=gpus)
        found = best_layouts(chosen, top=top, seconds=deadline - time.monotonic())
        if found.status == "infeasible":
            raise Disagreement(f"{gpus} GPUs have a layout and have none")
    if found.status != "optimal" or problem.objective != "step-time":
        return found, chosen, ()
    return _faster_on_fewer(found, chosen, top, deadline)


def _faster_on_fewer(
    found: Found, chosen: Problem, top: int, deadline: float
) -> tuple[Found, Problem, tuple[int, ...]]:
    """The same, ``found`` on the GPUs of ``chosen`` being the best so far."""
    measure = OBJECTIVES[chosen.objective].measure
    best, fastest, weighed = measure(chosen, found.layouts[0]), chosen, [chosen.gpus]
    with part_of_work(MOST_WORK_ON_FEWER):
        for gpus in islice(_whole_nodes(chosen), MOST_COUNTS):
            fewer = replace(chosen, gpus=gpus)
            with part_of_work(MOST_WORK_ON_ONE):
                faster = best_layouts(fewer, seconds=deadline - time.monotonic(), most=best - 1)
            if faster.status in ("optimal", "infeasible") and faster.weighed:
                weighed.append(gpus)
            if faster.layouts:
                best, fastest, found = measure(fewer, faster.layouts[0]), fewer, faster
            if work_left() <= 0 or time.monotonic() >= deadline:
                break
    if fastest is not chosen and (top > 1 or found.status != "optimal"):
        again = best_layouts(fastest, top=top, seconds=max(1.0, deadline - time.monotonic()))
        found = again if again.layouts else found
    return found, fastest, tuple(weighed)


def _whole_nodes(problem: Problem) -> Iterator[int]:
    """Smaller counts that leave no node partly used, the largest first."""
    node = problem.gpus_per_node
    yield from range((problem.gpus - 1) // node * node, 0, -node)
