"""One pipeline stage: what is alive together, how many micro-batches, the loss, the weight-gradient cache."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import Recompute
from constraints.memory.activations import backward_bytes
from constraints.memory.loss import loss_backward_bytes, loss_forward_bytes
from constraints.memory.stage import PHASES, allocated_bytes, phases, static_components
from constraints.problem import GIB
from models_catalog.loader import load_model
from models_catalog.schema import ModelSpec
from tests.memory.asking import DENSE, INTEGERS, MOE, kept, moments, ranks, report, stages
from tests.rules.builders import FULL, model, moe, said

LONG = {"num_microbatches": 64}


# -- components and moments


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([model(), model(mtp_num_layers=1), moe(), moe(moe_layer_freq=2)]),
    st.sampled_from([{}, {"pp": 4}, {"pp": 4, "vpp": 2}, {"tp": 4, "pp": 2, "sequence_parallel": True}]),
    st.integers(1, 8),
    st.sampled_from([None, FULL, Recompute("full", "block", 3)]),
    st.sampled_from([{}, {"grad_reduce_in_fp32": False}, {"use_megatron_fsdp": True}, {"precision": "fp8_cs"}]),
)
def test_components_of_the_fullest_moment_add_up_and_none_is_negative(
    spec: ModelSpec, words: dict[str, Any], groups: int, recompute: Recompute | None, options: dict[str, Any]
) -> None:
    words = words | options | {"num_microbatches": 4 * groups, "recompute": recompute or Recompute()}
    asked = said(spec, **words)
    for stage in stages(spec, **words):
        static, each = static_components(INTEGERS, *asked, stage), phases(INTEGERS, *asked, stage)
        assert tuple(each) == PHASES
        assert min(min(parts.values()) for parts in (static, *each.values())) >= 0
        fullest = max(sum(parts.values()) for parts in each.values())
        assert allocated_bytes(INTEGERS, *asked, stage) == sum(static.values()) + fullest
    found = report(spec, **words)
    assert [stage.rank for stage in found.stages] == list(range(words.get("pp", 1)))
    assert (
        found.allocated_bytes == max(stage.allocated_bytes for stage in found.stages) == found.fullest.allocated_bytes
    )
    for memory in found.stages:
        assert sum(memory.components.values()) == memory.allocated_bytes
        assert memory.phase in PHASES


def test_every_rank_has_its_workspaces_and_one_with_experts_more() -> None:
    dense, routed = (ranks(spec, pp=4, **LONG)[0]["workspace"] for spec in (model(), moe()))
    assert dense / GIB == pytest.approx(0.10, abs=0.001)
    assert (routed - dense) / GIB == pytest.approx(0.3, abs=0.001)


def test_a_step_with_fp32_copies_can_be_the_fullest_moment() -> None:
    """Experts alone in their groups: a 4-byte copy of every owned gradient, while activations are recomputed."""
    words = {"gpus": 8, "ep": 8, "recompute": FULL, "seq_length": 1024, "grad_reduce_in_fp32": False}
    assert report(moe(), **words).fullest.phase == "step"
    (moment,) = moments(moe(), **words)
    assert moment["step"]["activations"] == 0
    owned = 48 * (128 // 8 * 3 * 2048 * 768)
    assert moment["step"]["transient"] >= 4 * owned
    assert report(moe(), **words | {"grad_reduce_in_fp32": True}).fullest.phase != "step"


def test_what_rests_between_steps_is_static() -> None:
    found = report(model(), pp=4, **LONG).fullest
    static = {"parameters", "gradients", "optimizer", "weight_gradient_cache", "workspace"}
    assert found.resting_bytes == sum(found.components[name] for name in static)
    assert found.components.keys() - static == {"activations", "transient"}


# -- micro-batches in flight


def activations(spec: ModelSpec, **words: Any) -> list[int]:
    return [moment["backward"]["activations"] for moment in moments(spec, **words)]


def test_1f1b_keeps_one_micro_batch_for_each_rank_that_follows_and_one() -> None:
    layer = kept(model())
    assert activations(model(), pp=4, **LONG) == [4 * 8 * layer, 3 * 8 * layer, 2 * 8 * layer, 8 * layer]
    assert activations(model(), pp=4, num_microbatches=2) == [2 * 8 * layer, 2 * 8 * layer, 2 * 8 * layer, 8 * layer]


def test_no_pipeline_keeps_one_micro_batch() -> None:
    assert activations(model(), **LONG) == [32 * kept(model())]


def test_interleaving_keeps_more_and_most_of_it_on_every_rank() -> None:
    """Chunks of one layer on four ranks, eight virtual stages: 35, 33, 31 and 29 chunk activations."""
    layer = kept(model())
    assert activations(model(), pp=4, vpp=8, **LONG) == [35 * layer, 33 * layer, 31 * layer, 29 * layer]
    assert activations(model(), pp=4, **LONG)[0] == 32 * layer


@pytest.mark.parametrize(("pp", "vpp"), [(2, 2), (4, 2), (4, 4), (8, 2), (8, 4)])
def test_the_interleaved_penalty_of_the_first_rank(pp: int, vpp: int) -> None:
    """1 + (pp - 1) / (pp vpp) times what 1F1B keeps."""
    plain, more = activations(model(), pp=pp, **LONG)[0], activations(model(), pp=pp, vpp=vpp, **LONG)[0]
    assert more * pp * vpp == plain * (pp * vpp + pp - 1)


def test_a_short_step_keeps_no_more_than_it_has() -> None:
    layer = kept(model())
    assert activations(model(), pp=4, vpp=2, num_microbatches=4)[0] == 4 * 8 * layer


def test_chunks_of_different_layers_are_counted_chunk_by_chunk() -> None:
    """Dense layers first, MoE layers last, on two ranks of two chunks: rank 0 goes through (3, 2) and (4, 1) copies of its
    chunks, rank 1 through (2, 1) and (3, 0)."""
    spec = moe(num_layers=4, moe_layer_freq=(0, 0, 1, 1))
    dense, routed = kept(spec, DENSE), kept(spec, MOE)
    first = {3 * dense + 2 * routed, 4 * dense + routed}
    last = {2 * dense + routed, 3 * dense}
    assert set(activations(spec, pp=2, vpp=2, **LONG)) == first | last
    fullest = report(spec, pp=2, vpp=2, **LONG)
    assert [stage.components["activations"] for stage in fullest.stages] == [max(first), max(last)]


def test_block_recompute_drops_the_first_layers_of_each_chunk() -> None:
    """Three layers of each of two chunks of four; with more layers than a chunk has, all of them."""
    layer, given_ = kept(model()), 8192 * 2 * 4096
    words = {"pp": 4, "vpp": 2, **LONG}
    alive = stages(model(), **words)[0].copies
    assert sum(alive) == 2 * 3 + 4 + 1
    three = activations(model(), **words, recompute=Recompute("full", "block", 3))[0]
    assert three == sum(alive) * (3 * given_ + layer)
    every = activations(model(), **words, recompute=Recompute("full", "block", 99))[0]
    assert every == sum(alive) * 4 * given_


# -- the loss and the backward pass


@pytest.mark.parametrize(
    ("words", "forward", "kept_", "backward"),
    [
        ({}, 6, 4, 6),
        ({"cross_entropy_fusion_impl": "te"}, 6, 4, 6),
        ({"cross_entropy_fusion_impl": "te", "transformer_engine": (2, 11)}, 2, 2, 2),
    ],
    ids=["native", "te since 2.20", "te before: in place"],
)
def test_bytes_of_a_logit(words: dict[str, Any], forward: int, kept_: int, backward: int) -> None:
    """The main head alone, and with an MTP head that holds its loss at the same time."""
    asked, logits, h = said(model(), **words), 8192 * 128256, 4096
    projection = 2 * logits + 2 * 8192 * h + 2 * 128256 * h
    assert loss_forward_bytes(INTEGERS, *asked, 1) == forward * logits
    assert loss_forward_bytes(INTEGERS, *asked, 2) == (forward + kept_) * logits
    assert loss_backward_bytes(INTEGERS, *asked, 1) == max(backward * logits, projection) + 2 * 8192 * h
    assert loss_backward_bytes(INTEGERS, *asked, 2) == loss_backward_bytes(INTEGERS, *asked, 1) + kept_ * logits
    assert loss_forward_bytes(INTEGERS, *asked, 0) == loss_backward_bytes(INTEGERS, *asked, 0) == 0


def test_tensor_ranks_share_the_logits() -> None:
    one, eight = (loss_forward_bytes(INTEGERS, *said(model(), tp=tp), 1) for tp in (1, 8))
    assert 8 * eight == pytest.approx(one, rel=0.01)


def test_loss_and_a_layers_backward_do_not_happen_at_the_same_time() -> None:
    """The last rank pays the larger of the two, the others their layers' backward pass."""
    found = moments(model(), pp=4, **LONG)
    layer = backward_bytes(INTEGERS, *said(model(), pp=4), DENSE, Recompute())
    loss = loss_backward_bytes(INTEGERS, *said(model(), pp=4), 1)
    assert loss > layer
    assert [moment["backward"]["transient"] for moment in found] == [layer] * 3 + [loss]
    assert [moment["forward"]["transient"] > 0 for moment in found] == [False] * 3 + [True]


def test_an_mtp_layer_makes_the_last_rank_heavier_by_a_layer_and_a_loss() -> None:
    plain, more = (moments(model(mtp_num_layers=n), pp=4, **LONG)[3]["backward"] for n in (None, 1))
    assert more["activations"] - plain["activations"] == kept(model()) + 8 * 4096 * 8192
    assert more["transient"] - plain["transient"] == 4 * 8192 * 128256


# -- Transformer Engine's dummy weight gradients


@pytest.mark.parametrize(
    ("name", "tp", "gib"), [("llama-3.1-405b", 1, 6.0), ("llama-3.1-70b", 1, 1.6), ("llama-3.1-70b", 8, 0.2)]
)
def test_cached_weight_gradients(name: str, tp: int, gib: float) -> None:
    """One bf16 gradient for each distinct weight shape: Q, K and V together, projection, both of the feed-forward part."""
    (part,) = ranks(load_model(name), gpus=8, tp=tp, sequence_parallel=tp > 1)
    assert part["weight_gradient_cache"] / GIB == pytest.approx(gib, abs=0.07)


def test_experts_share_one_shape() -> None:
    few, many = (ranks(moe(num_moe_experts=n), ep=8)[0]["weight_gradient_cache"] for n in (8, 128))
    assert few == many


def test_kinds_of_layer_share_the_shapes_of_their_attention() -> None:
    mixed = ranks(moe(moe_layer_freq=2), ep=8)[0]["weight_gradient_cache"]
    routed = ranks(moe(), ep=8)[0]["weight_gradient_cache"]
    assert mixed - routed == 2 * 3 * 2048 * 6144


def test_without_the_fusion_or_with_frozen_weights_there_is_no_such_cache() -> None:
    assert ranks(model(), gradient_accumulation_fusion=False)[0]["weight_gradient_cache"] == 0
    assert ranks(model(), task="lora")[0]["weight_gradient_cache"] == 0


# -- the sizing guide's 70B


def test_the_sizing_guides_70b_beside_megatrons_defaults() -> None:
    """TP4 PP4 DP4 on 64 GPUs. The guide: 8.75 GB of parameters, 8.75 of 16-bit gradients, 17.5 of optimizer state.

    Megatron Bridge reduces gradients in fp32 (twice the guide's) and spreads 12 bytes a parameter over dp = 4 (0.75 of
    its optimizer's): 39.5 GB where the guide has 35.
    """
    words = {"gpus": 64, "tp": 4, "pp": 4, "sequence_parallel": True, "seq_length": 4096, **LONG}
    found = ranks(load_model("llama-3.1-70b"), **words)
    mean = {name: sum(part[name] for part in found) / len(found) / 1e9 for name in found[0]}
    assert mean["parameters"] == pytest.approx(8.75, rel=0.02)
    assert mean["gradients"] == pytest.approx(2 * 8.75, rel=0.02)
    assert mean["optimizer"] == pytest.approx(0.75 * 17.5, rel=0.02)
    (whole,) = ranks(load_model("llama-3.1-70b"), gpus=1, seq_length=4096, use_distributed_optimizer=False)
    assert whole["parameters"] / 1e9 == pytest.approx(140, rel=0.02)
    assert whole["gradients"] / 1e9 == pytest.approx(2 * 140, rel=0.02)
    assert whole["optimizer"] / 1e9 == pytest.approx(3 * 280, rel=0.02)


# -- laws of order


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.sampled_from([model(), moe(), model(mtp_num_layers=1)]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4]),
)
def test_more_ranks_never_store_more(spec: ModelSpec, tp: int, pp: int, ep: int) -> None:
    """Of parameters and gradients: more tp, pp or ep; of optimizer state: more GPUs at the same tp, pp and ep."""
    ep = ep if spec.is_moe else 1
    words: dict[str, Any] = {"gpus": 256, "tp": tp, "pp": pp, "ep": ep, **LONG}

    def most(component: str, **changes: int) -> int:
        return max(part[component] for part in ranks(spec, **words | changes))

    for component in ("parameters", "gradients"):
        for more in ({"tp": 2 * tp}, {"pp": 2 * pp}, {"ep": 2 * ep} if spec.is_moe else {"tp": 2 * tp}):
            assert most(component, **more) <= most(component), more
    assert most("optimizer", gpus=512) <= most("optimizer")
    assert most("activations", tp=2 * tp) <= most("activations")
