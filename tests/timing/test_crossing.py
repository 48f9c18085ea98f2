"""What the ends of an interleaved pipeline wait for, against Megatron's order played through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constraints.layout import Layout, PipelineSplit
from constraints.partition.search import best_partition
from constraints.problem import Problem
from constraints.timing.played import played_step
from constraints.timing.step import step_time
from solver.request import Request
from solver.resolution import resolve

MODELS = {
    "deepseek-v3": (8, 16, 1, 8),
    "llama-3.1-70b": (4, 8, 4, 1),
    "qwen3-30b-a3b": (2, 4, 1, 8),
    "glm-4.5-air": (4, 8, 1, 8),
    "llama-3.1-8b": (2, 4, 2, 1),
}
"""Pipelines of two lengths, tp and ep by model: with first runs, and with losses of one layer's work up to five."""


def layout_on(name: str, pp: int, vpp: int) -> tuple[Problem, Layout]:
    """The layout with as many GPUs as the degrees need; its layers are not placed."""
    *_, tp, ep = MODELS[name]
    stage = max(tp, ep)
    problem = resolve(Request(model=name, gpus=stage * pp, gpu="h100", global_batch_size=4 * pp * stage // tp))
    layout = Layout(
        tp=tp,
        pp=pp,
        vpp=vpp,
        ep=ep,
        dp=stage // tp,
        edp=stage // ep,
        sequence_parallel=tp > 1,
        num_microbatches=4 * pp,
        global_batch_size=4 * pp * stage // tp,
        gpus=stage * pp,
        settings=problem.settings,
    )
    return problem, layout


def error_of(problem: Problem, layout: Layout) -> float:
    return step_time(problem, layout).step_ns / played_step(problem, layout).step_ns - 1


@pytest.mark.parametrize("name", MODELS)
def test_the_best_split_takes_as_long_as_it_does_when_it_is_played_through(name: str) -> None:
    errors = []
    for pp in MODELS[name][:2]:
        for vpp in range(2, 7):
            problem, layout = layout_on(name, pp, vpp)
            found = best_partition(problem, layout, "step-time", fitting=False)
            if found is not None:
                errors.append(error_of(problem, replace(layout, split=found.split)))
    assert len(errors) >= 4
    assert max(map(abs, errors)) <= 0.06
    assert sum(map(abs, errors)) / len(errors) <= 0.02


@pytest.mark.parametrize(
    ("first", "last"),
    [("Et*2", ("t", "mL")), ("Et*3", ("", "mL")), ("Et", ("t", "tmL")), ("Et*2", ("t*2", "mL"))],
)
def test_ends_beside_chunks_that_take_longer_or_less(first: str, last: tuple[str, str]) -> None:
    """The first has 16 or 24 ms, then 44 or 30; the last 15, then 33 or 48; the ranks between 30 in each chunk."""
    problem, layout = layout_on("deepseek-v3", 16, 2)
    held = first.count("t") * int(first.partition("*")[2] or 1) + last[0].count("t") * int(
        last[0].partition("*")[2] or 1
    )
    held += last[1].count("t")
    after = 61 - held - 28 * 2
    chunks = [first, *["t*2"] * 14, last[0], f"t*{after}", *["t*2"] * 14, last[1]]
    error = error_of(problem, replace(layout, split=PipelineSplit(layout="|".join(chunks))))
    assert abs(error) <= 0.04, error
