"""Time in collectives and transfers during one step: how often each is called, and on how many bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.arithmetic import Integers
from constraints.layout import PipelineSplit, Recompute
from constraints.memory.budget import layout_stages
from constraints.timing import collectives
from constraints.timing.communication import GROUPS, communication_ns, stage_communication
from models_catalog.loader import load_gpu, load_model
from models_catalog.schema import ModelSpec
from tests.rules.builders import FULL, gpu, hybrid, mla, model, moe, said, selective

INTEGERS = Integers()
FREE = gpu(collective_efficiency=((2, 1.0),), network_efficiency=1.0, collective_latency_ns=0, network_latency_ns=0)
"""450 GB/s and 50 GB/s, all of it reached and at once: times are bytes over bandwidth, but for rounding."""

N, H, Q, K, F = 8192, 4096, 4096, 1024, 14336
"""Tokens, width, query width, key width and feed-forward width of the builders' dense model."""


def by_group(spec: ModelSpec, **words: Any) -> list[dict[str, int]]:
    """Nanoseconds by group on every stage, rank by rank (a rank may stand there once for each of its fullest states)."""
    asked = said(spec, **{"gpu": FREE} | words)
    stages = layout_stages(*asked)
    assert stages is not None
    return [stage_communication(INTEGERS, *asked, stage) for stage in stages]


def only(spec: ModelSpec, group: str, **words: Any) -> int:
    (found,) = by_group(spec, **words)
    return found[group]


def seconds_over(gigabytes_per_second: float, size: float) -> float:
    """Nanoseconds of ``size`` bytes."""
    return size / gigabytes_per_second


# -- tensor parallelism


@pytest.mark.parametrize(
    ("words", "calls"),
    [
        # a layer has two blocks; the embedding gathers once each way, the head once forward and twice back
        ({"sequence_parallel": True}, 32 * 10 + 5),
        ({}, 32 * 8 + 5),
        ({"sequence_parallel": True, "recompute": FULL}, 32 * 14 + 5),
        ({"sequence_parallel": True, "recompute": selective("mlp")}, 32 * 12 + 5),
        ({"sequence_parallel": True, "recompute": Recompute("full", "uniform", 5)}, 32 * 14 + 5),
        ({"sequence_parallel": True, "recompute": Recompute("full", "block", 3)}, 3 * 14 + 29 * 10 + 5),
        ({"sequence_parallel": True, "recompute": Recompute("full", "block", 99)}, 32 * 14 + 5),
        ({"sequence_parallel": True, "num_microbatches": 3}, 3 * (32 * 10 + 5)),
    ],
    ids=[
        "4 forward and 6 back",
        "2 + 2 all-reduces, each two",
        "full recompute",
        "of the mlp",
        "in groups",
        "of three layers",
        "of more layers than there are",
        "micro-batches",
    ],
)
def test_calls_of_a_tensor_group(words: dict[str, Any], calls: int) -> None:
    """Each of 2 n h bytes, of which a rank moves (t - 1)/t."""
    each = seconds_over(450, 2 * N * H * 7 / 8)
    assert only(model(), "tp", tp=8, **words) == pytest.approx(calls * each, rel=1e-3)


def test_a_layer_of_routed_experts_has_one_tensor_block_and_a_shared_expert_another() -> None:
    each = seconds_over(450, 2 * N * 2048 / 2)
    words = {"tp": 2, "sequence_parallel": True}
    assert only(moe(), "tp", **words) == pytest.approx((48 * 5 + 5) * each, rel=1e-3)
    shared = moe(moe_shared_expert_intermediate_size=512)
    assert only(shared, "tp", **words) == pytest.approx((48 * 10 + 5) * each, rel=1e-3)


def test_one_all_gather_with_the_constants_of_the_worked_example() -> None:
    """8192 tokens of width 8192 over eight ranks: 385 896 ns a call; ten in a layer, five beside them."""
    exact = gpu(collective_efficiency=((8, 0.698),), collective_latency_ns=12_000)
    spec = model(num_layers=1, hidden_size=8192, num_attention_heads=64)
    found = only(spec, "tp", tp=8, sequence_parallel=True, gpu=exact)
    assert found == pytest.approx(15 * 385_896, rel=2e-4)


def test_context_ranks_share_the_tokens() -> None:
    one, four = (only(model(), "tp", tp=2, cp=cp, sequence_parallel=True) for cp in (1, 4))
    assert four == pytest.approx(one / 4, rel=1e-3)


# -- context parallelism


@pytest.mark.parametrize(
    ("kind", "again", "size"),
    [
        (None, 3 * 3, 2 * 2 * K * N // 4),  # three times three hops of K and V
        ("p2p", 3 * 3, 2 * 2 * K * N // 4),
        ("all_gather", 3 * 3 / 4, 2 * 2 * K * N),
        ("a2a", 2 * 3 / 4, 2 * (2 * Q + 2 * K) * N // 4),
    ],
)
def test_a_layer_of_context_parallelism_in_a_node(kind: str | None, again: float, size: int) -> None:
    """Ring: (c - 1) steps forward and twice as many back; all-to-all: Q, K, V and O once each way."""
    words = {} if kind is None else {"cp_comm_type": kind}
    assert only(model(), "cp", cp=4, **words) == pytest.approx(32 * again * seconds_over(450, size), rel=1e-3)


def test_full_recompute_repeats_the_forward_exchange() -> None:
    plain, again = (only(model(), "cp", cp=4, recompute=option) for option in (Recompute(), FULL))
    assert again == pytest.approx(plain * 4 / 3, rel=1e-6)


def test_latent_attention_exchanges_the_keys_and_values_of_every_head() -> None:
    size = 2 * 128 * (192 + 128) * N // 2
    assert only(mla(), "cp", cp=2) == pytest.approx(32 * 3 * seconds_over(450, size), rel=1e-3)


def test_scarce_key_heads_are_sent_by_every_tensor_rank() -> None:
    """Two groups over eight tensor ranks: each sends one whole group, as with eight."""
    few, enough = (only(model(num_query_groups=g), "cp", tp=8, cp=2) for g in (2, 8))
    assert few == enough


def test_a_context_ring_that_leaves_the_node_runs_over_the_network() -> None:
    inside, outside = only(model(), "cp", tp=4, cp=2), only(model(), "cp", tp=8, cp=2)
    assert outside == pytest.approx(inside / 2 * 9, rel=1e-3)


# -- experts


def test_dispatch_and_combine_send_every_routed_copy() -> None:
    """Two each way, of n' h topk bf16 elements, of which (e - 1)/e leave the rank."""
    size = 2 * N * 2048 * 8
    assert only(moe(), "ep", ep=8) == pytest.approx(48 * 4 * seconds_over(450, size * 7 / 8), rel=1e-3)
    assert only(moe(), "ep", ep=8, recompute=selective("moe")) == pytest.approx(
        48 * 6 * seconds_over(450, size * 7 / 8), rel=1e-3
    )


def test_over_two_nodes_half_of_the_copies_cross_a_rank_s_own_nic() -> None:
    size = 2 * N * 2048 * 8
    assert only(moe(), "ep", ep=16) == pytest.approx(48 * 4 * seconds_over(50, size / 2), rel=1e-3)


def test_sequence_parallel_ranks_send_their_own_tokens() -> None:
    one, two = only(moe(), "ep", ep=8), only(moe(), "ep", ep=8, tp=2, sequence_parallel=True)
    assert two == pytest.approx(one / 2, rel=1e-3)


def test_expert_tensor_ranks_gather_the_rows() -> None:
    rows = 2 * N * 2 * 2048 * 8
    gather = seconds_over(450, rows / 2)
    assert only(moe(), "ep", etp=2) == pytest.approx(48 * 4 * gather, rel=1e-3)


def test_latent_experts_travel_narrow() -> None:
    wide, narrow = only(moe(), "ep", ep=8), only(moe(moe_latent_size=512), "ep", ep=8)
    assert narrow == pytest.approx(wide / 4, rel=1e-3)


def test_a_dense_model_has_no_expert_traffic() -> None:
    assert only(model(), "ep") == 0


# -- pipeline


def test_every_chunk_boundary_is_crossed_once_each_way() -> None:
    stream = seconds_over(50, 2 * N * H)
    found = [times["pp"] for times in by_group(model(), pp=4, num_microbatches=8)]
    assert found == pytest.approx([8 * 2 * n * stream for n in (1, 2, 2, 1)], rel=1e-3)


def test_virtual_stages_cross_more_boundaries() -> None:
    stream = seconds_over(50, 2 * N * H)
    found = [times["pp"] for times in by_group(model(), pp=4, vpp=2, num_microbatches=8)]
    assert found == pytest.approx([8 * 2 * n * stream for n in (3, 4, 4, 3)], rel=1e-3)


def test_sequence_parallel_ranks_send_their_share() -> None:
    whole, shares = (by_group(model(), pp=2, tp=8, sequence_parallel=sp)[0]["pp"] for sp in (False, True))
    assert shares == pytest.approx(whole / 8, rel=1e-3)


def test_a_tied_embedding_is_reduced_over_both_ends() -> None:
    tied, free = (by_group(model(share_embeddings_and_output_weights=t), pp=4)[0]["pp"] for t in (True, False))
    assert tied - free == pytest.approx(seconds_over(50, 128256 * H * 2 * 4), rel=1e-3)


# -- data parallelism


def test_the_worked_example_of_a_70b_on_64_h100() -> None:
    """TP4 PP8, dp 2: 2 401 688 716 parameters on the last stage, 6 B each, half of it moved, inside one node."""
    words = {"gpus": 64, "tp": 4, "pp": 8, "sequence_parallel": True, "seq_length": 4096, "num_microbatches": 8}
    found = by_group(load_model("llama-3.1-70b"), **words)[-1]["dp"]
    assert found == pytest.approx(seconds_over(450, 2_401_688_716 * 6 / 2), rel=2e-3)
    catalog = by_group(load_model("llama-3.1-70b"), **words, gpu=load_gpu("h100"))[-1]["dp"]
    assert catalog == pytest.approx(found / 0.57, rel=1e-3)


def test_it_is_paid_once_a_step() -> None:
    one, many = (only(model(), "dp", num_microbatches=m) for m in (1, 64))
    assert one == many > 0


def test_dense_and_expert_parameters_travel_over_their_own_groups() -> None:
    """64 ranks in nodes of eight. EP8: the dense ring has eight NICs a node, each expert's ring of eight has one."""
    experts = 48 * (128 // 8) * 3 * 2048 * 768 * 6
    dense = (48 * (2048 * (4096 + 2 * 512) + 4096 * 2048 + 2048 * 128 + 2 * 2048) + 2 * 128256 * 2048) * 6
    found = only(moe(), "dp", ep=8)
    assert found == pytest.approx(seconds_over(400, dense * 63 / 64) + seconds_over(50, experts * 7 / 8), rel=1e-3)


def test_gradients_in_bf16_move_two_bytes_less() -> None:
    wide, narrow = only(model(), "dp"), only(model(), "dp", grad_reduce_in_fp32=False)
    assert narrow == pytest.approx(wide * 4 / 6, rel=1e-3)


def test_frozen_weights_are_not_reduced() -> None:
    assert only(model(), "dp", task="lora") == 0


# -- racks, sums, order


def test_groups_that_straddle_racks_pay_for_the_network() -> None:
    """144 GPUs in two racks of 72: sixteen experts straddle one boundary, eighteen fit four times into a rack."""
    spec = moe(num_moe_experts=144)
    rack = {"gpus": 144, "nvlink_domain": 72}
    straddling, inside = only(spec, "ep", ep=16, **rack), only(spec, "ep", ep=18, **rack)
    assert straddling == pytest.approx(48 * 4 * seconds_over(50, 2 * N * 2048 * 8 / 2), rel=1e-3)
    assert inside == pytest.approx(48 * 4 * seconds_over(450, 2 * N * 2048 * 8 * 17 / 18), rel=1e-3)


def test_a_hybrid_layer_pays_for_the_part_that_it_is() -> None:
    """Four layers, each one block, and the embedding and the head."""
    each = seconds_over(450, 2 * N * H * 7 / 8)
    found = only(hybrid("M-M*"), "tp", tp=8, sequence_parallel=True)
    assert found == pytest.approx((4 * 5 + 5) * each, rel=1e-3)


CASES = [
    (model(), {}),
    (model(mtp_num_layers=1), {"pp": 2}),
    (model(share_embeddings_and_output_weights=True), {"pp": 4, "vpp": 2, "tp": 2, "sequence_parallel": True}),
    (moe(moe_layer_freq=2), {"tp": 2, "cp": 2, "ep": 8, "etp": 2, "sequence_parallel": True}),
    (moe(), {"pp": 4, "ep": 4, "cp": 2, "split": PipelineSplit(layout="Et*12|t*12|t*12|t*12L")}),
]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(CASES),
    st.integers(1, 9),
    st.sampled_from([Recompute(), FULL, selective("mlp"), selective("moe")]),
    st.sampled_from([4, 8, 72]),
)
def test_groups_add_up_to_the_whole(
    case: tuple[ModelSpec, dict[str, Any]], groups: int, recompute: Recompute, domain: int
) -> None:
    spec, words = case
    asked = said(spec, **words, num_microbatches=4 * groups, recompute=recompute, nvlink_domain=domain)
    for stage in layout_stages(*asked) or ():
        parts = stage_communication(INTEGERS, *asked, stage)
        assert tuple(parts) == GROUPS
        assert min(parts.values()) >= 0
        assert sum(parts.values()) == communication_ns(INTEGERS, *asked, stage)


def test_a_single_gpu_talks_to_nobody() -> None:
    assert by_group(model(), gpus=1) == [dict.fromkeys(GROUPS, 0)]


def test_latency_is_paid_per_call() -> None:
    """Rings of 1 000 ns: 10 calls a layer and 5 beside them, for each micro-batch."""
    late = gpu(
        collective_efficiency=((2, 1.0),), network_efficiency=1.0, collective_latency_ns=1000, network_latency_ns=0
    )
    more = only(model(), "tp", tp=8, sequence_parallel=True, num_microbatches=2, gpu=late)
    less = only(model(), "tp", tp=8, sequence_parallel=True, num_microbatches=2)
    assert more - less == 2 * (32 * 10 + 5) * 1000


def test_the_tables_behind_it_are_those_of_the_groups() -> None:
    """One tensor collective is a ring over tp ranks next to one another."""
    asked = said(model(), tp=8, gpu=FREE)
    size = 2 * N * H // 1024
    each = -(-size * collectives.tensor_ring(asked[0], 8) // 1000)
    assert only(model(), "tp", tp=8, sequence_parallel=True) == (32 * 10 + 5) * each
