"""Where GPUs may stay idle, the fastest of the counts that are weighed is used, not the largest."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from solver.fewer_gpus import best_with_idle
from solver.objectives import OBJECTIVES
from solver.search import best_layouts
from tests.counts.test_usable import problem_of


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        ("llama-3.1-8b", {"gpus": 13, "gpu": "h100"}),
        ("llama-3.1-8b", {"gpus": 39, "gpu": "h100", "global_batch_size": 96}),
        ("qwen3-30b-a3b", {"gpus": 31, "gpu": "h200"}),
        ("llama-3.1-70b", {"gpus": 46, "gpu": "h100"}),
    ],
)
def test_no_count_that_was_weighed_is_faster(model: str, asked: dict[str, object]) -> None:
    problem = problem_of(model, allow_idle=True, **asked)
    found, used, weighed = best_with_idle(problem, top=1, deadline=time.monotonic() + 600)
    assert found.status == "optimal" and used.gpus in weighed and len(weighed) > 1
    assert all(count % problem.gpus_per_node == 0 for count in weighed[1:])
    measure = OBJECTIVES["step-time"].measure
    costs = {}
    for count in weighed:
        fewer = replace(problem, gpus=count)
        layouts = best_layouts(fewer, seconds=600).layouts
        if layouts:
            costs[count] = measure(fewer, layouts[0])
    assert used.gpus == min(costs, key=lambda count: (costs[count], -count))
    assert measure(used, found.layouts[0]) == costs[used.gpus]


def test_memory_and_communication_use_the_most_that_can_be_used() -> None:
    for objective in ("memory", "communication"):
        problem = problem_of("llama-3.1-70b", gpus=97, objective=objective, allow_idle=True)
        _, used, weighed = best_with_idle(problem, top=1, deadline=time.monotonic() + 600)
        assert used.gpus == 96 and not weighed
