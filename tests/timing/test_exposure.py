"""What of the communication shows: domains that a token meets, gradients behind an interleaved pipeline, fp8 parameters."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from constraints.arithmetic import Remembering
from constraints.timing.communication import layer_gradients
from constraints.timing.overlap import distinct, domains_met
from constraints.timing.rates import rates_of
from constraints.timing.step import step_time
from models_catalog.loader import load_model
from models_catalog.schema import ModelSpec
from tests.timing.builders import calibrated, layout, problem


def counted(model: ModelSpec, domains: int) -> float:
    """Domains met, over every choice of groups and every choice of experts among them."""
    groups, chosen, choices = model.moe_router_num_groups or 0, model.moe_router_group_topk or 0, model.moe_router_topk
    met = [
        len({group * domains // groups for group in picks})
        for taken in combinations(range(groups), chosen)
        for picks in product(taken, repeat=choices)
    ]
    return sum(met) / len(met)


@pytest.mark.parametrize(
    ("groups", "chosen", "choices", "domains"), [(4, 2, 3, 2), (4, 2, 3, 4), (6, 3, 2, 3), (8, 4, 3, 2)]
)
def test_group_limited_routing_meets_what_counting_every_choice_gives(
    groups: int, chosen: int, choices: int, domains: int
) -> None:
    model = replace(
        load_model("deepseek-v3"), moe_router_num_groups=groups, moe_router_group_topk=chosen, moe_router_topk=choices
    )
    assert domains_met(domains, model) == pytest.approx(counted(model, domains))


def test_routing_without_groups_meets_as_many_as_even_choices_do() -> None:
    model = load_model("qwen3-30b-a3b")
    assert domains_met(4, model) == distinct(4, model.moe_router_topk)


@pytest.mark.parametrize("domains", [2, 4, 8, 16, 32])
def test_groups_never_make_a_token_meet_more(domains: int) -> None:
    model = load_model("deepseek-v3")
    assert domains_met(domains, model) <= distinct(domains, model.moe_router_topk)


def test_gradients_hide_behind_the_chunks_that_come_after_them() -> None:
    """One sequence a micro-batch and few of them: over the network, a step without virtual stages waits for its gradients."""
    p = problem("nemotron-4-340b", "h100", 256, calibration=calibrated(exposed__dp=0.01))
    exposed = [
        step_time(p, layout(p, tp=8, pp=8, vpp=vpp, micro_batch_size=1, num_microbatches=8)).exposed_ns["dp"]
        for vpp in (None, 2, 6, 12)
    ]
    assert exposed == sorted(exposed, reverse=True)
    assert exposed[-1] < exposed[0] / 2


@pytest.mark.parametrize(
    ("precision", "bytes_"), [("bf16", 6), ("fp8_cs", 5), ("fp8_ds", 5), ("fp8_sc", 5), ("fp8_mx", 6), ("nvfp4", 6)]
)
def test_parameters_kept_in_fp8_are_gathered_in_one_byte(precision: str, bytes_: int) -> None:
    p = problem("llama-3-8b", "h100", 64, precision=precision)
    gathering = replace(p, settings=replace(p.settings, fp8_param_gather=True))
    kind, x = p.model.layer_kinds[0], layout(p)
    plain, fp8 = (layer_gradients(Remembering(), each, x, kind)["dp"] for each in (p, gathering))
    assert fp8 / plain == pytest.approx(bytes_ / 6, rel=1e-4)


def test_delta_net_scans_gain_less_from_a_newer_gpu_than_its_memory_bandwidth() -> None:
    scans = {gpu: rates_of(problem("qwen3-next-80b-a3b", gpu, 8, calibration=calibrated())) for gpu in ("h100", "b200")}
    slower = scans["b200"].scan_gdn / scans["h100"].scan_gdn
    faster_memory = scans["h100"].hbm_ps / scans["b200"].hbm_ps
    assert 1 < slower < faster_memory
