"""The dynamic programme finds the best split of all, and the counting argument never excludes one that fits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import strategies as st

from constraints.arithmetic import Remembering
from constraints.layout import Layout, Recompute, Settings
from constraints.memory.budget import capacity_bound, capacity_quantities, memory_report
from constraints.partition.bounds import Forms, Pipelines
from constraints.partition.fitting import some_partition
from constraints.partition.search import best_partition
from constraints.pipeline.assignment import assignment_of
from constraints.problem import Problem
from constraints.refutation.space import virtual_stages
from constraints.timing.step import step_time
from solver.objectives import OBJECTIVES
from solver.request import Request
from solver.resolution import resolve
from tests.exploring import explore, in_parts
from tests.partition.brute_force import Judged, best, judged_splits
from tests.strategies import problems

COUNTED = [Recompute("full", method, layers) for method in ("block", "uniform") for layers in (1, 2, 3, 4)]
"""Options that depend on how long each chunk is."""


def pipeline(rng: Random, problem: Problem) -> tuple[Problem, Layout]:
    """A pipeline of a few chunks for the problem's model, and a GPU that is about as large as it needs."""
    model = replace(
        problem.model,
        num_layers=rng.choice([6, 7, 7, 8, 8, 9, 9, 10, 11, 12]),
        moe_layer_freq=1,
        vocab_size=rng.choice([1000, 8000, 64000]),
    )
    if model.is_moe and rng.random() < 0.6:
        early = rng.randint(1, 3)
        model = replace(model, moe_layer_freq=(0,) * early + (1,) * (model.num_layers - early))
    pp, vpp = rng.choice([(2, 1), (3, 1), (4, 1), (6, 1), (2, 2), (2, 3), (3, 2), (2, 2), (2, 3)])
    if model.num_layers < pp * vpp:
        vpp = 1
    group = problem.settings.microbatch_group_size_per_vp_stage or pp
    if group < pp:
        problem = replace(problem, settings=Settings())
        group = pp
    count = group * rng.randint(1, 4) if vpp > 1 else rng.randint(1, 2 * pp)
    dp = rng.choice([1, 2, 4])
    tp = rng.choice([1, 2])
    layout = Layout(
        tp=tp,
        pp=pp,
        vpp=vpp if vpp > 1 else None,
        dp=dp,
        edp=dp * tp,
        micro_batch_size=rng.choice([1, 2]),
        num_microbatches=count,
        global_batch_size=count * dp,
        gpus=tp * pp * dp,
        recompute=rng.choice([*problem.recompute_options, *COUNTED]),
        settings=problem.settings,
    )
    problem = replace(problem, model=model, gpus=layout.gpus, pins=(), global_batch_size=layout.global_batch_size)
    unlimited = best_partition(problem, layout, fitting=False)
    assert unlimited is not None, "every pipeline of a model without alternating layers has a split"
    report = memory_report(problem, replace(layout, split=unlimited.split))
    assert report is not None
    return replace(problem, budget_bytes=report.high_bytes * rng.randint(80, 101) // 100), layout


class Seen(Counter[str]):
    """What was compared; :meth:`agree` compares one pipeline with every split of it."""

    def agree(self, problem: Problem, layout: Layout) -> None:
        judged = judged_splits(problem, layout)
        unlimited, fitting = best(judged), best(split for split in judged if split.fits)
        self._agree(problem, layout, unlimited, fitting=False)
        placed = self._agree(problem, layout, fitting, fitting=True)
        if placed is not None:
            self["tight"] += all(other.layout.split != placed.split for other in unlimited)
        if fitting and not layout.recompute.first:
            may_fit(problem, fitting[0].layout)

    def _agree(self, problem: Problem, layout: Layout, expected: list[Judged], *, fitting: bool) -> Layout | None:
        found = best_partition(problem, layout, fitting=fitting)
        assert (found is None) == (not expected), (fitting, layout, expected[:1])
        self["infeasible" if found is None else "placed"] += 1
        somewhere = some_partition(problem, layout, fitting=fitting)
        assert (somewhere is None) == (found is None), (fitting, layout, somewhere)
        if somewhere is not None and fitting:
            report = memory_report(problem, replace(layout, split=somewhere.split))
            assert report is not None and report.verdict == "fits", (layout, somewhere)
        if found is None:
            return None
        placed = replace(layout, split=found.split)
        assert assignment_of(problem.model, layout.pp, layout.chunks_per_rank, found.split) == found.assignment
        cost = OBJECTIVES[problem.objective].measure(problem, placed)
        assert cost == expected[0].cost, (fitting, placed, expected[0])
        fastest = min(step_time(problem, split.layout).step_ns for split in expected)
        assert step_time(problem, placed).step_ns == fastest, (fitting, placed)
        self["interleaved"] += layout.vpp is not None
        self["uneven"] += len(set(found.assignment.sizes)) > 1
        self[str(layout.recompute.method)] += 1
        return placed


def may_fit(problem: Problem, placed: Layout) -> None:
    """What fits is not excluded by counting, by itself or among others."""
    a = Remembering()
    forms = Forms(
        problem.model,
        placed.chunks_per_rank,
        lambda rank: capacity_quantities(a, problem, placed, rank),
        alive=True,
        idle=placed.pp > problem.model.num_layers,
    )
    x = placed
    own = x.chunks_per_rank
    for chunks in ((own,), tuple(sorted({1, own, own + 1}))):
        pipelines = Pipelines(x.pp, chunks, x.microbatch_group, x.num_microbatches)
        assert forms.may_keep_within(pipelines, capacity_bound(problem)), (chunks, placed)


@pytest.mark.parametrize("name", ["qwen3.5-397b-a17b", "qwen3-next-80b-a3b", "deepseek-v3", "llama-3.1-8b"])
def test_layers_that_lie_somewhere_have_a_best_place(name: str) -> None:
    """Also where kinds alternate and no short form comes out on the chunks: else the search would miss what the conflicts
    then find."""
    asked = resolve(Request(model=name, gpus=1, gpu="b200"))
    group = {"micro_batch_size": 1, "num_microbatches": 64, "global_batch_size": 64}
    for pp in (2, 3, 4, 6, 8):
        for vpp in virtual_stages(asked, pp, range(1, 8)):
            x = Layout(tp=1, pp=pp, vpp=vpp if vpp > 1 else None, gpus=pp, **group)
            some, best = some_partition(asked, x, fitting=False), best_partition(asked, x, fitting=False)
            assert (some is None) == (best is None), (pp, vpp)


def compared(examples: int, part: int = 0) -> Seen:
    seen = Seen()
    given = st.tuples(problems(most_gpus=8), st.integers(0, 2**32))
    explore(given, lambda drawn: seen.agree(*pipeline(Random(drawn[1]), drawn[0])), examples, part)
    return seen


def test_no_split_is_better_than_the_best_partition() -> None:
    seen = compared(60)
    assert min(seen[name] for name in ("infeasible", "placed", "interleaved", "uneven", "block", "uniform")) >= 10, seen


@pytest.mark.heavy
@in_parts(4)
def test_no_split_is_better_than_the_best_partition_of_thousands(part: int) -> None:
    seen = compared(300, part)  # twice each, with memory and without
    assert min(seen[name] for name in ("infeasible", "placed", "interleaved", "uneven", "block", "uniform")) >= 25, seen
    assert seen["tight"] >= 3, seen
