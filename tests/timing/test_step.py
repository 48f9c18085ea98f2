"""What any step-time model must say: order, conservation, and a floor that is one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import Recompute, Settings
from constraints.problem import Problem
from constraints.timing.communication import transfer
from constraints.timing.floor import mean_stage_ns, step_floors_ns
from constraints.timing.pipeline import hops
from constraints.timing.step import step_time
from solver.timing import timing_of
from tests import enumeration
from tests.exploring import explore
from tests.strategies import problems
from tests.timing.builders import layout, problem


def floor_is_below(p: Problem) -> None:
    for x in enumeration.legal(p):
        step = step_time(p, x).step_ns
        kind, count = Counter(p.model.layer_kinds).most_common(1)[0]
        crowded = -(-count // x.pp) * x.pp
        a = Remembering()
        floor = max(step_floors_ns(a, p, x, x.vpp or 1, kind, crowded))
        assert floor <= (step if p.global_batch_size else step // x.global_batch_size), x
        between = hops(a, transfer(a, p, x), x.num_microbatches, x.pp, x.chunks_per_rank)
        assert mean_stage_ns(a, p, x, x.chunks_per_rank, between) <= step, x


def test_the_floor_is_below_every_legal_layout() -> None:
    explore(problems(most_gpus=8), floor_is_below, 8)


@pytest.mark.heavy
def test_the_floor_is_below_every_legal_layout_of_many_problems() -> None:
    explore(problems(most_gpus=8), floor_is_below, 30)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-v3", "gpt-oss-120b"])
def test_the_parts_add_up_to_the_step(model: str) -> None:
    p = problem(model, "h100", 256)
    x = layout(p, tp=2, pp=4, ep=8 if p.model.is_moe else 1, sequence_parallel=True, num_microbatches=32)
    step = step_time(p, x)
    parts = step.compute_ns + step.bubble_ns + sum(step.exposed_ns.values())
    parts += step.host_ns + step.optimizer_ns + step.fixed_ns
    assert parts == step.step_ns
    assert min(step.compute_ns, step.bubble_ns, *step.exposed_ns.values()) >= 0


def test_recompute_costs_a_forward_pass() -> None:
    p = problem("llama-3.1-70b", "h100", 64)
    x = layout(p, tp=4, pp=4, sequence_parallel=True, num_microbatches=64)
    kept = step_time(p, x).step_ns
    full = step_time(p, replace(x, recompute=Recompute("full", "uniform", 1))).step_ns
    some = step_time(p, replace(x, recompute=Recompute("selective", modules=("mlp",)))).step_ns
    assert kept < some < full
    assert full / kept == pytest.approx(4 / 3, abs=0.05)


def test_tensor_groups_over_the_network_are_far_dearer_than_inside_a_node() -> None:
    inside, outside = problem("llama-3.1-70b", "h100", 64), problem("llama-3.1-70b", "h100", 64, nvlink_domain=2)
    degrees = {"tp": 8, "sequence_parallel": True, "num_microbatches": 16}
    near = step_time(inside, layout(inside, **degrees)).exposed_ns["tp"]
    far = step_time(outside, layout(outside, **degrees)).exposed_ns["tp"]
    assert far > 3 * near


def test_small_micro_batches_of_experts_are_bound_by_launches_and_waits() -> None:
    p = problem("qwen3-30b-a3b", "gb200", 8, settings=Settings(moe_token_dispatcher_type="flex"))
    one = timing_of(p, layout(p, ep=8, micro_batch_size=1, num_microbatches=8)).tokens_per_second_per_gpu
    eight = timing_of(p, layout(p, ep=8, micro_batch_size=8, num_microbatches=1)).tokens_per_second_per_gpu
    assert eight > 1.3 * one


def test_a_full_iteration_graph_helps_experts_on_the_newest_software_only() -> None:
    graphed = Settings(moe_token_dispatcher_type="flex", cuda_graph_impl="full_iteration")
    times = {}
    for stack in ("26.02", "26.06"):
        p = problem("qwen3-30b-a3b", "gb200", 8, settings=graphed, stack=stack)
        times[stack] = step_time(p, layout(p, ep=8, micro_batch_size=4, num_microbatches=16)).step_ns
    assert times["26.06"] < 0.85 * times["26.02"]


def test_lora_neither_reduces_gradients_nor_updates_what_is_frozen() -> None:
    full, lora = problem("llama-3.1-8b", "h100", 8, task="sft"), problem("llama-3.1-8b", "h100", 8, task="lora")
    whole = step_time(full, layout(full, num_microbatches=4))
    frozen = step_time(lora, layout(lora, num_microbatches=4))
    assert frozen.exposed_ns["dp"] == frozen.optimizer_ns == 0
    assert 0.6 * whole.compute_ns < frozen.compute_ns < 0.8 * whole.compute_ns


def test_a_regime_with_thin_evidence_is_less_sure() -> None:
    dense = problem("llama-3.1-70b", "h100", 64)
    moe = problem("deepseek-v3", "h100", 256)
    sure = timing_of(dense, layout(dense, tp=8, pp=4, num_microbatches=8)).error
    unsure = timing_of(moe, layout(moe, pp=8, ep=32, num_microbatches=8)).error
    assert sure < unsure
