"""What the solver's model says that a pipeline holds or takes at least is no more than its best partition does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import strategies as st

from constraints.layout import BLOCK, GROUPS, Layout
from constraints.memory.budget import memory_report
from constraints.partition.search import best_partition
from constraints.problem import Problem
from constraints.registry import rule_named
from solver.model import Model
from solver.objectives import OBJECTIVES
from tests.exploring import explore
from tests.partition.test_best_partition import pipeline
from tests.rules.solver_cases import admits
from tests.strategies import problems


def recomputing(problem: Problem, layout: Layout, rng: Random) -> Layout:
    """``layout`` with any recompute that ``solve`` weighs, by count twice as often as not where there is some."""
    counted = problem.counted(layout.pp * layout.chunks_per_rank)
    options = counted if counted and rng.random() < 0.67 else problem.recompute_options
    return replace(layout, recompute=rng.choice(options))


def model_of(problem: Problem, layout: Layout) -> Model:
    """The model in which ``layout`` is looked for."""
    stand_in = GROUPS if layout.recompute.group > 1 else BLOCK
    return Model(problem, counted=stand_in if layout.recompute.by_chunk else None)


def admitted(problem: Problem, rng: Random) -> int:
    """A GPU with exactly the memory that the fullest rank of a pipeline needs is enough to the solver as well.

    Of models whose layers are alike: where layers of a first run are on ranks behind the first, the model takes the chunks of
    the others there to be even, and may ask for more than an uneven rank holds if a layer of that run weighs far less.
    """
    problem, layout = pipeline(rng, problem)
    problem = replace(problem, objective="step-time", model=replace(problem.model, moe_layer_freq=1))
    layout = recomputing(problem, layout, rng)
    fullest = best_partition(replace(problem, objective="memory"), layout, fitting=False)
    assert fullest is not None
    placed = replace(layout, split=fullest.split)
    report = memory_report(problem, placed)
    assert report is not None
    problem = replace(problem, budget_bytes=report.high_bytes)
    model = model_of(problem, placed)
    if not admits(model, placed):
        return 0
    capacity = rule_named("memory.capacity")
    assert capacity is not None
    model.post([capacity])
    assert admits(model, placed), (problem, placed)
    return 1


def paced(problem: Problem, rng: Random) -> int:
    """The time of the fastest partition is not below what the solver promises."""
    problem, layout = pipeline(rng, problem)
    problem = replace(problem, objective="step-time")
    layout = recomputing(problem, layout, rng)
    fastest = best_partition(problem, layout, fitting=False)
    assert fastest is not None
    placed = replace(layout, split=fastest.split)
    model = model_of(problem, placed)
    if not admits(model, placed):
        return 0
    step_time = OBJECTIVES["step-time"]
    model.cp.add(step_time.post(model).expression() <= step_time.measure(problem, placed))
    assert admits(model, placed), (problem, placed)
    return 1


def compare(visit_one: Callable[[Problem, Random], int], examples: int, part: int = 0) -> int:
    seen = 0

    def visit(drawn: tuple[Problem, int]) -> None:
        nonlocal seen
        seen += visit_one(drawn[0], Random(drawn[1]))

    explore(st.tuples(problems(most_gpus=8), st.integers(0, 2**32)), visit, examples, part)
    return seen


@pytest.mark.parametrize("bound", [admitted, paced], ids=["memory", "time"])
def test_a_pipeline_keeps_what_the_solver_promises(bound: Callable[[Problem, Random], int]) -> None:
    assert compare(bound, 40) >= 20


@pytest.mark.heavy
@pytest.mark.parametrize("bound", [admitted, paced], ids=["memory", "time"])
def test_many_pipelines_keep_what_the_solver_promises(bound: Callable[[Problem, Random], int]) -> None:
    assert compare(bound, 600, part=1) >= 300
