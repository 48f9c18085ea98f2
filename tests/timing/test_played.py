"""Schedules played through: nothing new where chunks are alike, ranks that wait for each other where they are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.time_replay import replayed_ns
from constraints.layout import PipelineSplit
from constraints.timing.step import step_time
from tests.timing.builders import layout, problem

EVEN = "|".join(["Et*2", *["t*2"] * 10, "t*2L"])
LONG_LAST = "|".join(["Et", *["t"] * 7, *["t*4"] * 3, "t*4L"])
"""Four ranks of three chunks: six layers a rank in both. Of the second the estimate knows what the ends wait for."""


@pytest.mark.parametrize(("text", "slower"), [(EVEN, (-0.01, 0.01)), (LONG_LAST, (0.02, 0.6))])
def test_chunks_of_different_length_make_ranks_wait(text: str, slower: tuple[float, float]) -> None:
    p = problem("llama-3-70b", "h100", 32)
    p = replace(p, model=replace(p.model, num_layers=24))
    x = layout(p, tp=8, pp=4, vpp=3, sequence_parallel=True, num_microbatches=64)
    x = replace(x, split=PipelineSplit(layout=text))
    least, most = slower
    assert least <= replayed_ns(p, x) / step_time(p, x).step_ns - 1 <= most


def test_without_a_pipeline_there_is_nothing_to_play() -> None:
    p = problem("llama-3-8b", "h100", 8)
    x = layout(p, tp=8, sequence_parallel=True, num_microbatches=4)
    assert replayed_ns(p, x) == step_time(p, x).step_ns
