"""The K best and the Pareto front, as sets, against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume

from constraints.layout import Layout
from constraints.memory.budget import memory_report
from constraints.partition.options import takes_any_order
from constraints.problem import Problem
from solver.objectives import OBJECTIVES
from solver.pareto import pareto_layouts
from solver.search import best_layouts
from solver.tie_breaks import tie_break_key
from tests import enumeration
from tests.exploring import explore, in_parts
from tests.partition.brute_force import splits
from tests.strategies import problems

MOST = 600
"""Legal layouts up to which a problem is looked at here."""
MOST_CHUNKS = 6


def legal(problem: Problem) -> list[Layout]:
    found = []
    for layout in enumeration.legal(problem):
        found.append(layout)
        assume(len(found) <= MOST)
    return found


def top_agrees(problem: Problem, count: int) -> None:
    measure = OBJECTIVES[problem.objective].measure
    best: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}
    for layout in legal(problem):
        key = tie_break_key(problem, layout)
        value = (measure(problem, layout), key)
        best[key] = min(best.get(key, value), value)
    expected = sorted(best.values())[:count]
    found = best_layouts(problem, top=count, seconds=600)
    assert [(measure(problem, x), tie_break_key(problem, x)) for x in found.layouts] == expected


def placed_anyhow(problem: Problem) -> Iterator[Layout]:
    """Every legal layout with its layers wherever they fit: less memory may be worth a slower stage."""
    layouts = legal(problem)
    assume(all(layout.pp * layout.chunks_per_rank <= MOST_CHUNKS for layout in layouts))
    for layout in layouts:
        alike = takes_any_order(problem.model, layout.chunks_per_rank) and not problem.model.is_hybrid
        for tried in splits(problem, layout) if alike else [layout]:
            if memory_report(problem, tried).verdict == "fits":
                yield tried


def front_agrees(problem: Problem) -> None:
    problem = replace(problem, objective="step-time")
    time, memory = OBJECTIVES["step-time"].measure, OBJECTIVES["memory"].measure
    points = sorted({(time(problem, x), memory(problem, x)) for x in placed_anyhow(problem)})
    expected, least = [], None
    for point in points:
        if least is None or point[1] < least:
            expected.append(point)
            least = point[1]
    assume(len(expected) <= 12)
    found = pareto_layouts(problem, most=None, seconds=600)
    assert [(time(problem, x), memory(problem, x)) for x in found.layouts] == expected
    capped = pareto_layouts(problem, most=3, seconds=600)
    few = [(time(problem, x), memory(problem, x)) for x in capped.layouts]
    assert set(few) <= set(expected) and len(few) == min(3, len(expected))
    assert few[:1] + few[-1:] == expected[:1] + expected[-1:]
    alone = pareto_layouts(problem, most=1, seconds=600)
    assert [time(problem, x) for x in alone.layouts] == [point[0] for point in expected[:1]]


def test_the_five_best_are_those_of_brute_force() -> None:
    explore(problems(most_gpus=8), lambda problem: top_agrees(problem, 5), 6)


def test_the_front_is_that_of_brute_force() -> None:
    explore(problems(most_gpus=8), front_agrees, 5)


@pytest.mark.heavy
@in_parts(2)
def test_the_ten_best_are_those_of_brute_force_on_many_problems(part: int) -> None:
    explore(problems(most_gpus=12), lambda problem: top_agrees(problem, 10), 50, part)


@pytest.mark.heavy
@in_parts(4)
def test_the_front_is_that_of_brute_force_on_many_problems(part: int) -> None:
    explore(problems(most_gpus=8), front_agrees, 25, part)
