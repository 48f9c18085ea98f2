"""What the solver's model says that a pipeline holds at least is no more than its best partition holds."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import strategies as st

from constraints.memory.budget import memory_report
from constraints.partition.search import best_partition
from constraints.problem import Problem
from constraints.registry import rule_named
from solver.model import Model
from tests.exploring import explore
from tests.partition.test_best_partition import pipeline
from tests.rules.solver_cases import admits
from tests.strategies import problems


def admitted(problem: Problem, rng: Random) -> int:
    """A GPU with exactly the memory that the fullest rank of a pipeline needs is enough to the solver as well.

    Of models whose layers are alike: where layers of a first run are on ranks behind the first, the model takes the chunks of
    the others there to be even, and may ask for more than an uneven rank holds if a layer of that run weighs far less.
    """
    problem, layout = pipeline(rng, problem)
    problem = replace(problem, model=replace(problem.model, moe_layer_freq=1))
    layout = replace(layout, recompute=rng.choice(problem.recompute_options))
    fullest = best_partition(replace(problem, objective="memory"), layout, fitting=False)
    assert fullest is not None
    placed = replace(layout, split=fullest.split)
    report = memory_report(problem, placed)
    assert report is not None
    problem = replace(problem, budget_bytes=report.high_bytes)
    model = Model(problem)
    if not admits(model, placed):
        return 0
    capacity = rule_named("memory.capacity")
    assert capacity is not None
    model.post([capacity])
    assert admits(model, placed), (problem, placed)
    return 1


def compare(examples: int, part: int = 0) -> int:
    seen = 0

    def visit(drawn: tuple[Problem, int]) -> None:
        nonlocal seen
        seen += admitted(drawn[0], Random(drawn[1]))

    explore(st.tuples(problems(most_gpus=8), st.integers(0, 2**32)), visit, examples, part)
    return seen


def test_a_pipeline_that_just_fits_is_admitted() -> None:
    assert compare(40) >= 25


@pytest.mark.heavy
def test_many_pipelines_that_just_fit_are_admitted() -> None:
    assert compare(600, part=1) >= 400
