"""Recompute by count: the count of layers that ``solve`` chooses is the best of all, and its layouts can be certified."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest

from constraints.layout import WHOLE_LAYERS, Layout
from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.refutation.partial import Space
from constraints.refutation.tree import grow
from constraints.registry import enforced_rules
from solver.certificate import certified_optimum
from solver.objectives import OBJECTIVES
from solver.pareto import pareto_layouts
from solver.refutation import refutation_of
from solver.search import best_layouts
from solver.tie_breaks import tie_break_key
from tests import enumeration
from tests.exploring import explore
from tests.short_of_memory import CASES, asked, deep
from tests.strategies import problems


def best(problem: Problem) -> Layout | None:
    layouts = best_layouts(problem, seconds=600).layouts
    return layouts[0] if layouts else None


OTHERS = ("communication", "memory", "data-parallel")
ASKED = [*CASES, *(replace(problem, objective=OTHERS[i % 3]) for i, problem in enumerate(CASES))]


@pytest.mark.parametrize("number", range(len(ASKED)))
def test_solve_agrees_with_brute_force_where_memory_is_short(number: int) -> None:
    problem = ASKED[number]
    expected, found = enumeration.best(problem), best(problem)
    assert (expected is None) == (found is None)
    if expected is not None and found is not None:
        measure = OBJECTIVES[problem.objective].measure
        assert measure(problem, found) == measure(problem, expected)
        assert tie_break_key(problem, found) == tie_break_key(problem, expected)


def test_some_answers_are_blocks_some_groups_and_some_neither() -> None:
    chosen = [found.recompute for problem in ASKED if (found := best(problem)) is not None]
    assert sum(recompute.first > 0 for recompute in chosen) >= 8
    assert sum(recompute.group > 1 for recompute in chosen) >= 4
    assert sum(not recompute.by_chunk for recompute in chosen) >= 6


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_groups_are_found_where_nothing_else_fits(objective: str) -> None:
    problem = replace(deep(14), objective=objective)
    assert best_layouts(problem, counted=()).status == "infeasible"
    found = best(problem)
    assert found is not None and found.recompute.group > 1
    assert pareto_layouts(problem).layouts


@pytest.mark.parametrize("pins", [{}, {"pp": 1}, {"pp": 2}])
def test_what_fits_in_no_groups_is_certified_and_what_fits_in_some_is_not(pins: dict[str, int]) -> None:
    for budget in range(9, 15):
        problem = deep(budget, **pins)
        assert (grow(enforced_rules(problem), Space(problem)) is None) == (best(problem) is not None)


def test_where_even_groups_do_not_fit_the_explanation_has_a_certificate() -> None:
    assert refutation_of(deep(13, pp=1)).certificate is not None


def test_no_rule_but_that_of_memory_likes_groups_better() -> None:
    """So that every layer by itself can stand for them wherever memory is not asked about."""

    def no_better(problem: Problem) -> None:
        rules = [rule for rule in enforced_rules(problem) if rule.id != CAPACITY]
        for layout in islice(enumeration.candidates(problem), 0, None, 97):
            if layout.recompute.group > 1:
                alone = replace(layout, recompute=WHOLE_LAYERS)
                assert all(rule.holds(problem, alone) for rule in rules if rule.holds(problem, layout))

    explore(problems(), no_better, 10)


def test_the_best_few_hold_each_count_by_itself() -> None:
    found = best_layouts(asked(28), top=3).layouts
    assert len({layout.recompute for layout in found}) > 1
    assert len(found) == len({(layout.recompute, layout.tp, layout.pp, layout.cp) for layout in found})


def test_a_layout_with_a_block_is_read_back_and_certified() -> None:
    problem = asked(28)
    found = best(problem)
    assert found is not None and found.recompute.first == 7
    space = Space(problem)
    point = space.point(found)
    assert point["block"] == 7
    assert space.layout(point) == found
    with pytest.raises(ValueError, match="block=8"):
        space.layout(point | {"block": 8})
    assert certified_optimum(problem, found).certificate["optimum"]["layout"] == point
