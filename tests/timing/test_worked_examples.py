"""Hand-worked examples of each term, in integers: the formulas are held against arithmetic done apart from them."""

from __future__ import annotations

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import Settings
from constraints.timing import collectives
from constraints.timing.communication import dense_gradients
from constraints.timing.compute import host_ns
from constraints.timing.overlap import dispatch_ps, distinct
from constraints.timing.rates import rates_of
from constraints.timing.work import attention_flop, core_attention, gemm
from constraints.topology import fewest_together, inside_domain
from models_catalog.schema import LayerKind
from tests.timing.builders import calibrated, layout, problem

FLEX = Settings(moe_token_dispatcher_type="flex", moe_flex_dispatcher_backend="hybridep")


def test_a_gemm_in_bf16_loses_a_little_to_its_depth() -> None:
    # Llama-3-8B fc1, m=8192 n=28672 k=4096: 1 924 145 348 608 FLOP at 989 TFLOP/s * 0.68 / (1 + 162/4096)
    r = rates_of(problem("llama-3-8b", "h100", 8))
    assert gemm(r, 28672, 4096).forward * 8192 / 1000 == pytest.approx(2_974_257, abs=1)


def test_a_gemm_in_fp8_pays_for_its_casts_in_bytes() -> None:
    r = rates_of(problem("llama-3-8b", "h100", 8, precision="fp8_cs"))
    flop_ns = 2 * 8192 * 28672 * 4096 * r.gemm_ps * (1 + 162 / 4096) / 1000
    assert flop_ns == pytest.approx(1_403_801, abs=1)
    casts_of_input = r.cast_bytes * 8192 * 4096 * r.hbm_ps / 1000
    assert casts_of_input == pytest.approx(148_960, abs=1)


def test_attention_counts_half_the_square() -> None:
    p = problem("llama-3-70b", "h100", 8, seq_length=8192)
    assert attention_flop(p) * 8192 == 1_099_511_627_776
    assert core_attention(rates_of(p), p, 1).forward * 8192 / 1000 == pytest.approx(2_611_083, abs=1)


def test_a_window_shortens_attention_to_itself_and_a_tile() -> None:
    p = problem("gpt-oss-120b", "h100", 8, seq_length=8192)  # every other layer sees 128 tokens
    assert attention_flop(p) == 4 * 64 * 64 * (4096 + 256) / 2


def test_a_gather_over_eight_gpus_of_a_node() -> None:
    # n=8192 h=8192 bf16: 134 217 728 B * 7/8 at 0.75 of 450 GB/s
    per_kib = collectives.tensor_ring(problem("llama-3-70b", "h100", 64), 8)
    assert per_kib * (134_217_728 / 1024) / 1000 == pytest.approx(134_217_728 * 7 / 8 / (450e9 * 0.75) * 1e9, rel=1e-3)


def test_dispatch_sends_a_token_once_to_each_rank_that_it_meets() -> None:
    p = problem("deepseek-v3", "gb200", 64, settings=FLEX)
    assert distinct(64, 8) == pytest.approx(7.5759, abs=1e-4)
    near, far = dispatch_ps(p, 1, 64)
    assert near * 900e9 / 1e12 * 4096 == pytest.approx(437_908_340, rel=1e-6)
    assert far == 0


def test_over_the_network_a_token_goes_once_to_each_node_that_it_meets() -> None:
    p = problem("qwen3-30b-a3b", "h100", 16, settings=FLEX)
    _, far = dispatch_ps(p, 1, 16)
    copies = far / 1e12 * 50e9 * 0.85 / (2 * 2048)
    assert copies == pytest.approx(2 * (1 - 0.5**8) / 2, rel=1e-9)


def test_a_plain_all_to_all_sends_every_copy() -> None:
    p = problem("qwen3-30b-a3b", "h100", 8)
    near, _ = dispatch_ps(p, 1, 8)
    assert near / 1e12 * 450e9 / (2 * 2048) == pytest.approx(8 * 7 / 8)


def test_gradients_of_two_ranks_in_one_node_travel_by_nvlink() -> None:
    p = problem("llama-3-70b", "h100", 64)
    x = layout(p, tp=4, pp=8, num_microbatches=8)
    assert fewest_together(4, 2, 64, 8) == 2
    elements = 2_401_688_716
    time = dense_gradients(Remembering(), p, x, elements)
    assert time == pytest.approx(elements * 6 / 2 / (450e9 * 0.57) * 1e9, rel=1e-3)


def test_expert_groups_of_an_nvl72_stay_inside() -> None:
    assert inside_domain(1, 32, 256, 64)
    assert not inside_domain(1, 16, 64, 8)


def test_the_host_launches_a_moe_layer_in_four_milliseconds() -> None:
    p = problem("qwen3-30b-a3b", "gb200", 8, calibration=calibrated(host__moe_ms=4.173, host__attention_ms=0.228))
    layer = host_ns(p, LayerKind("attention", "moe"))
    assert 48 * layer == pytest.approx(211_248_000, abs=48)
    assert 4096 / (48 * layer / 1e9) == pytest.approx(19_389, abs=1)
