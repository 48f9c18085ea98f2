"""The dynamic programme finds the best split of all, and the counting argument never excludes one that fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constraints.arithmetic import Remembering
from constraints.layout import Layout
from constraints.memory.budget import capacity_bound, capacity_quantities
from constraints.partition.bounds import Forms, Pipeline
from constraints.partition.options import takes_any_order
from constraints.partition.search import best_partition
from constraints.pipeline.assignment import assignment_of
from constraints.problem import Problem
from constraints.timing.step import step_time
from solver.objectives import OBJECTIVES
from tests import enumeration
from tests.partition.brute_force import best_splits
from tests.strategies import problems

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
MOST_CHUNKS = 6


def pipelines(problem: Problem, skip: int) -> list[Layout]:
    """A few candidates with a pipeline of few enough chunks."""
    deep = (x for x in enumeration.candidates(problem) if x.pp > 1 and x.pp * x.chunks_per_rank <= MOST_CHUNKS)
    placeable = (x for x in deep if takes_any_order(problem.model, x.chunks_per_rank))
    scheduled = (x for x in placeable if x.num_microbatches >= (x.microbatch_group if x.vpp else 1))
    return list(islice(scheduled, skip, 4000, 997))[:4]


def agree(problem: Problem, skip: int) -> None:
    problem = replace(problem, pins=())
    for layout in pipelines(problem, skip):
        for fitting in (True, False):
            expected = best_splits(problem, layout, fitting=fitting)
            found = best_partition(problem, layout, fitting=fitting)
            assert (found is None) == (not expected), (fitting, layout, expected[:1])
            if found is None:
                continue
            placed = replace(layout, split=found.split)
            assert assignment_of(problem.model, layout.pp, layout.chunks_per_rank, found.split) == found.assignment
            measure = OBJECTIVES[problem.objective].measure
            assert measure(problem, placed) == measure(problem, expected[0]), (fitting, placed, expected[0])
            slowest = min(step_time(problem, other).step_ns for other in expected)
            assert step_time(problem, placed).step_ns == slowest, (fitting, placed)
            may_fit(problem, placed if fitting else None)


def may_fit(problem: Problem, placed: Layout | None) -> None:
    """What fits is not excluded by counting."""
    if placed is None:
        return
    a = Remembering()
    forms = Forms(
        problem.model,
        placed.chunks_per_rank,
        lambda rank: capacity_quantities(a, problem, placed, rank),
        alive=True,
        idle=placed.pp > problem.model.num_layers,
    )
    x = placed
    pipeline = Pipeline(problem.model, x.pp, x.chunks_per_rank, x.microbatch_group, x.num_microbatches)
    assert forms.may_keep_within(pipeline, capacity_bound(problem)), placed


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(problems(most_gpus=12), st.integers(0, 900))
def test_no_split_is_better_than_the_best_partition(problem: Problem, skip: int) -> None:
    agree(problem, skip)


@pytest.mark.heavy
@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=QUIET)
@given(problems(most_gpus=24), st.integers(0, 900))
def test_no_split_is_better_than_the_best_partition_of_thousands(problem: Problem, skip: int) -> None:
    agree(problem, skip)
