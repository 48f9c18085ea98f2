"""Block recompute takes the time of the layers that it computes again, on every rank and in every group."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.arithmetic import Integers, Remembering
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Layout, Recompute
from constraints.memory.budget import layout_stages
from constraints.problem import Problem
from constraints.timing.communication import GROUPS, stage_communication
from constraints.timing.step import busy_ns, part_ns, step_time
from models_catalog.schema import LayerKind
from tests.timing.builders import layout, problem

SHAPES = [(1, None), (2, None), (3, None), (2, 2), (4, 2), (2, 3)]


def block(layers: int) -> Recompute:
    return Recompute("full", "block", layers)


def made(name: str, shape: tuple[int, int | None], recompute: Recompute) -> tuple[Problem, Layout]:
    p = problem(name, "h100", 96)
    p = replace(p, model=replace(p.model, num_layers=12, mtp_num_layers=None, moe_layer_freq=frequency(name)))
    words = {"tp": 2, "cp": 2, "ep": 4} if p.model.is_moe else {"tp": 2, "cp": 2}
    pp, vpp = shape
    return p, layout(p, pp=pp, vpp=vpp, sequence_parallel=True, num_microbatches=4 * pp, recompute=recompute, **words)


def frequency(name: str) -> int | tuple[int, ...]:
    return (0, 0, 0, *(1,) * 9) if name == "deepseek-v3" else 1


def layer_ns(p: Problem, x: Layout, kind: LayerKind, recompute: Recompute) -> int:
    return int(part_ns(Remembering(), p, replace(x, recompute=recompute), kind))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(["llama-3.1-8b", "deepseek-v3", "qwen3-30b-a3b"]), st.sampled_from(SHAPES), st.integers(0, 13))
def test_a_rank_works_on_each_layer_as_if_alone(name: str, shape: tuple[int, int | None], first: int) -> None:
    p, x = made(name, shape, block(first))
    works, rest = busy_ns(p, x), busy_ns(p, replace(x, recompute=NO_RECOMPUTE))
    stages = {stage.rank: stage for stage in layout_stages(p, x) or ()}
    for rank, stage in stages.items():
        more = 0
        for chunk in stage.chunks:
            for kind in p.model.layer_kinds[chunk.start : chunk.stop][:first]:
                more += layer_ns(p, x, kind, WHOLE_LAYERS) - layer_ns(p, x, kind, NO_RECOMPUTE)
        assert works[rank] - rest[rank] == x.num_microbatches * more


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sampled_from(["llama-3.1-8b", "qwen3-30b-a3b"]), st.sampled_from(SHAPES), st.integers(1, 13))
def test_collectives_are_repeated_in_the_layers_that_are_computed_again(
    name: str, shape: tuple[int, int | None], first: int
) -> None:
    p, x = made(name, shape, block(first))
    for stage in layout_stages(p, x) or ():
        some, none, all_ = (
            stage_communication(Integers(), p, replace(x, recompute=option), stage)
            for option in (block(first), NO_RECOMPUTE, WHOLE_LAYERS)
        )
        again = sum(min(first, chunk.layers) for chunk in stage.chunks)
        layers = sum(chunk.layers for chunk in stage.chunks)
        assert all((some[g] - none[g]) * layers == (all_[g] - none[g]) * again for g in GROUPS)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3"])
def test_steps_grow_with_the_block_from_no_recompute_to_uniform(name: str, shape: tuple[int, int | None]) -> None:
    steps = [step_time(*made(name, shape, block(first))) for first in range(13)]
    assert steps[0] == step_time(*made(name, shape, NO_RECOMPUTE))
    assert steps[12] == step_time(*made(name, shape, WHOLE_LAYERS))
    assert steps[12] == step_time(*made(name, shape, Recompute("full", "uniform", 3)))
    times = [step.step_ns for step in steps]
    assert times == sorted(times) and times[0] < times[1]
    for step in steps:
        parts = step.compute_ns + step.bubble_ns + sum(step.exposed_ns.values())
        assert parts + step.host_ns + step.optimizer_ns + step.fixed_ns == step.step_ns
