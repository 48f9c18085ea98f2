"""The step that is reported: nothing new where chunks are alike, ranks that wait for each other where they are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Layout, PipelineSplit
from constraints.problem import Problem
from constraints.timing import played
from constraints.timing.played import played_step, reported_step
from constraints.timing.step import step_time
from tests.timing.builders import layout, problem

EVEN = "|".join(["Et*2", *["t*2"] * 10, "t*2L"])
LONG_LAST = "|".join(["Et", *["t"] * 7, *["t*4"] * 3, "t*4L"])
"""Four ranks of three chunks: six layers a rank in both. Of the second the estimate knows what the ends wait for."""


def placed(text: str, **changes: int) -> tuple[Problem, Layout]:
    p = problem("llama-3-70b", "h100", 32)
    p = replace(p, model=replace(p.model, num_layers=24))
    x = layout(p, tp=8, pp=4, vpp=3, sequence_parallel=True, **{"num_microbatches": 64, **changes})
    return p, replace(x, split=PipelineSplit(layout=text))


@pytest.mark.parametrize(("text", "slower"), [(EVEN, (-0.01, 0.01)), (LONG_LAST, (0.02, 0.6))])
def test_chunks_of_different_length_make_ranks_wait(text: str, slower: tuple[float, float]) -> None:
    p, x = placed(text)
    least, most = slower
    assert least <= played_step(p, x).step_ns / step_time(p, x).step_ns - 1 <= most


def test_what_is_reported_is_played_through_only_where_chunks_are_not_alike() -> None:
    assert reported_step(*placed(EVEN)) == step_time(*placed(EVEN))
    assert reported_step(*placed(LONG_LAST)) == played_step(*placed(LONG_LAST))


@pytest.mark.parametrize("text", [EVEN, LONG_LAST])
def test_the_parts_add_up_and_the_waits_are_in_the_bubble(text: str) -> None:
    p, x = placed(text)
    found, closed = played_step(p, x), step_time(p, x)
    rest = found.compute_ns + found.host_ns + found.optimizer_ns + found.fixed_ns
    assert found.played
    assert rest + found.bubble_ns + sum(found.exposed_ns.values()) == found.step_ns
    longer = found.step_ns - closed.step_ns
    hops = found.exposed_ns["pp"] - closed.exposed_ns["pp"]
    assert found.bubble_ns - closed.bubble_ns == longer - hops


def test_what_is_computed_again_lengthens_the_backward_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[int], list[int]]] = []
    monkeypatch.setattr(played, "replayed", lambda forward, backward, *_, **__: seen.append((forward, backward)))
    p, x = placed(LONG_LAST)
    for recompute in (NO_RECOMPUTE, WHOLE_LAYERS):
        played_step(p, replace(x, recompute=recompute))
    (forward, backward), _, (still, again), _ = seen
    assert still == forward
    layers = [later - sooner for sooner, later in zip(backward, again, strict=True)]
    assert layers[1:-1] == pytest.approx(forward[1:-1], rel=0.1)


def test_without_a_pipeline_there_is_nothing_to_play() -> None:
    p = problem("llama-3-8b", "h100", 8)
    x = layout(p, tp=8, sequence_parallel=True, num_microbatches=4)
    assert played_step(p, x) == step_time(p, x)


@pytest.mark.parametrize("changes", [{"num_microbatches": 5}, {"group": 1 << 15, "num_microbatches": 1 << 15}])
def test_the_closed_form_stands_where_the_schedule_cannot_be_played(changes: dict[str, int]) -> None:
    """Five micro-batches are no turns of four; thirty thousand at once through each chunk are too many to play."""
    group = changes.pop("group", None)
    p, x = placed(LONG_LAST, **changes)
    x = replace(x, settings=replace(x.settings, microbatch_group_size_per_vp_stage=group))
    assert reported_step(p, x) == step_time(p, x)
