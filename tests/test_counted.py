"""Recompute by count: the count of layers that ``solve`` chooses is the best of all, and its layouts can be certified."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from constraints.layout import WHOLE_LAYERS, Layout
from constraints.memory.budget import CAPACITY
from constraints.pins import Pin
from constraints.problem import GIB, Origin, Problem
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
from tests.rules.builders import model, moe, problem
from tests.strategies import problems


def asked(budget_gib: float, gpus: int = 2, pins: dict[str, int] | None = None, **fields: Any) -> Problem:
    """Eight layers and long sequences: activations are what there is too much of."""
    make = moe if "num_moe_experts" in fields else model
    return problem(
        make(num_layers=8, vocab_size=1000, **fields),
        gpus=gpus,
        budget_bytes=int(budget_gib * GIB),
        seq_length=65536,
        global_batch_size=8,
        objective="step-time",
        pins=tuple(Pin(name, name, value, Origin("flag", name)) for name, value in (pins or {}).items()),
    )


def deep(budget_gib: float, **pins: int) -> Problem:
    """Many narrow layers: their inputs are what there is too much of."""
    narrow = {"hidden_size": 1024, "ffn_hidden_size": 4096, "num_attention_heads": 8, "num_query_groups": 8}
    return replace(asked(budget_gib, pins=pins), model=model(num_layers=48, vocab_size=1000, **narrow))


CASES = [
    *(asked(budget) for budget in (28, 36, 40)),
    *(asked(budget, mtp_num_layers=1) for budget in (32, 36, 56)),
    *(asked(budget, 4) for budget in (28, 32)),
    *(asked(budget, 4, {"pp": 2, "tp": 2}) for budget in (14, 18, 22)),
    *(asked(budget, 4, {"pp": 2, "vpp": 2}) for budget in (24, 30)),
    *(asked(budget, 4, {"pp": 2, "tp": 2}, num_moe_experts=8, moe_layer_freq=(0, *(1,) * 7)) for budget in (10, 14)),
    *(deep(budget, pp=2, vpp=vpp) for budget, vpp in ((19, 2), (19.4, 3), (19.4, 8))),
    *(deep(budget, pp=1) for budget in (33, 34)),
]
"""Problems whose answer is no recompute, modules, a block or every layer, one by one or in groups."""


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
