"""Activations that a layer keeps: worked examples in bytes, and what recomputing leaves of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import Recompute
from constraints.memory.activations import (
    backward_bytes,
    mtp_bytes,
    shard_tokens,
    stage_input_bytes,
    tensor_tokens,
    tokens,
)
from constraints.problem import GIB
from models_catalog.loader import load_model
from models_catalog.schema import LayerKind, ModelSpec
from tests.memory.asking import DENSE, INTEGERS, MOE, kept
from tests.rules.builders import FULL, hybrid, mla, model, moe, problem, said, selective

DEEPSEEK = load_model("deepseek-v3")
SP8: dict[str, Any] = {"tp": 8, "sequence_parallel": True}


def test_tokens_of_a_rank() -> None:
    asked = said(model(), tp=4, cp=2, micro_batch_size=3, seq_length=8192)
    assert tokens(INTEGERS, *asked) == 3 * 4096
    assert shard_tokens(INTEGERS, *asked) == 3 * 4096
    assert tensor_tokens(INTEGERS, *asked) == 3 * 1024
    assert stage_input_bytes(INTEGERS, *asked) == 3 * 4096 * 4096 * 2
    split = said(model(), tp=4, cp=2, micro_batch_size=3, seq_length=8192, sequence_parallel=True)
    assert shard_tokens(INTEGERS, *split) == 3 * 1024
    assert stage_input_bytes(INTEGERS, *split) == 3 * 1024 * 4096 * 2


@pytest.mark.parametrize(("kind", "gib"), [(MOE, 1.75), (DENSE, 1.30)], ids=["MoE layer", "dense layer"])
def test_a_deepseek_v3_layer_at_4096_tokens(kind: LayerKind, gib: float) -> None:
    """MoE: attention 0.66, norms and residual 0.22, routed 0.81 (32768 rows), shared 0.05, router 0.02 GiB."""
    assert kept(DEEPSEEK, kind, seq_length=4096) / GIB == pytest.approx(gib, abs=0.005)


def test_the_parts_of_a_deepseek_v3_moe_layer() -> None:
    """The numbers of the example above, each from the model's own integers."""
    n, heads, h = 4096, 128, 7168
    attention = n * (4 * 1536 + 4 * 512 + 2 * 64 + 8 + heads * (4 * 192 + 4 * 128 + 4))
    norms = 2 * n * (4 * h + 4)
    routed = n * 8 * (2 * h + 4 + 6 * 2048)
    shared, router = n * 6 * 2048, n * 17 * 256
    sizes = [size / GIB for size in (attention, norms, routed, shared, router)]
    assert sizes == pytest.approx([0.66, 0.22, 0.81, 0.05, 0.02], abs=0.006)
    assert kept(DEEPSEEK, MOE, seq_length=4096) == attention + norms + routed + shared + router


def test_a_dense_layer_with_sequence_parallelism_is_split_as_a_whole() -> None:
    """(n/t) (8h + 4q + 4k + 6f + 4 heads) and the statistics of two norms."""
    n, h, q, k, f = 8192, 4096, 4096, 1024, 14336
    assert kept(model(), **SP8) == n // 8 * (8 * h + 4 * q + 4 * k + 6 * f + 4 * 32 + 8)


def test_without_sequence_parallelism_the_residual_stream_is_kept_whole_on_every_rank() -> None:
    n, h = 8192, 4096
    assert kept(model(), tp=8) - kept(model(), **SP8) == (n - n // 8) * (8 * h + 8)


def test_a_plain_feed_forward_keeps_four_widths_a_gated_one_six() -> None:
    more = kept(model()) - kept(model(gated_linear_unit=False))
    assert more == 8192 * 2 * 14336


def test_scarce_query_groups_are_replicated() -> None:
    """Two groups over eight ranks: a rank keeps one whole group, not a quarter of one."""
    few, enough = kept(model(num_query_groups=2), **SP8), kept(model(num_query_groups=8), **SP8)
    assert few == enough


def test_expert_tensor_ranks_gather_rows() -> None:
    """Rows are n' topk etp wide as input, and split again inside the expert."""
    one, two = kept(moe(), MOE, **SP8), kept(moe(), MOE, **SP8, etp=2)
    assert two - one == 8192 // 8 * 8 * (2 * 2048 + 4)


def test_latent_experts_keep_narrow_rows() -> None:
    assert kept(moe(), MOE) - kept(moe(moe_latent_size=512), MOE) == 8192 * 8 * 2 * (2048 - 512)


@pytest.mark.parametrize(
    ("spec", "kind", "modules", "dropped"),
    [
        (model(), DENSE, ("mlp",), 6 * 14336),
        (mla(), DENSE, ("mla_up_proj",), 128 * (4 * 192 + 2 * 128)),
        (mla(), DENSE, ("layernorm",), 2 * 4096),
        (model(), DENSE, ("layernorm",), 0),  # fused into the projection: nothing to drop
        (model(), DENSE, ("core_attn",), 4 * 32),  # of fused attention only the log-sum-exp goes
        (moe(), MOE, ("moe_act",), 2 * 768 * 8),
        (moe(), MOE, ("layernorm",), 2 * 2048),
        (moe(moe_shared_expert_intermediate_size=512), MOE, ("shared_experts",), 6 * 512),
        (moe(), MOE, ("moe",), 8 * (2 * 2048 + 4 + 6 * 768) + 17 * 128 + 4),
        (moe(), DENSE, ("moe",), 0),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) and isinstance(value[0], str) else None,
)
def test_what_selective_recompute_drops(
    spec: ModelSpec, kind: LayerKind, modules: tuple[str, ...], dropped: int
) -> None:
    """Bytes per token. What is dropped is alive again for a moment in the backward pass."""
    option = selective(*modules)
    assert kept(spec, kind) - kept(spec, kind, option) == 8192 * dropped
    asked = said(spec)
    more = backward_bytes(INTEGERS, *asked, kind, option) - backward_bytes(INTEGERS, *asked, kind, Recompute())
    assert more == 8192 * dropped


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_full_uniform_recompute_keeps_a_share_of_an_input_and_computes_the_layer_again(layers: int) -> None:
    option = Recompute("full", "uniform", layers)
    assert kept(model(), DENSE, option) == 8192 * 2 * 4096 // layers
    asked = said(model())
    again = backward_bytes(INTEGERS, *asked, DENSE, option) - backward_bytes(INTEGERS, *asked, DENSE, Recompute())
    assert again == kept(model())


def test_a_backward_pass_holds_a_gradient_of_the_widest_tensors() -> None:
    """Dense 2 g f n/t + 2h n', and with sequence parallelism 2h n gathered; MoE rows (8h + 3 g fe / etp)."""
    n, h = 8192, 4096
    assert backward_bytes(INTEGERS, *said(model()), DENSE, Recompute()) == n * 2 * 2 * 14336 + n * 2 * h
    split = n // 8 * (2 * 2 * 14336 + 2 * h) + n * 2 * h
    assert backward_bytes(INTEGERS, *said(model(), **SP8), DENSE, Recompute()) == split
    routed = n * 8 * (8 * 2048 + 3 * 2 * 768)
    assert backward_bytes(INTEGERS, *said(moe()), MOE, Recompute()) == routed


def test_hybrid_layers_are_one_mixer_or_one_feed_forward_part() -> None:
    spec = hybrid("M-M*")
    mixer = kept(spec, LayerKind("attention", "none"))
    forward = kept(spec, LayerKind("none", "dense"))
    assert mixer + forward == kept(spec, DENSE)
    inner, state = 128 * 64, 8 * 128
    assert kept(spec, LayerKind("mamba", "none")) == 8192 * (4 * 4096 + 4 + 10 * inner + 4 * state)


@pytest.mark.parametrize(
    ("precision", "input_bytes"), [("fp8_cs", 1), ("fp8_mx", 33 / 32), ("nvfp4", 18 / 32), ("bf16", 2), ("fp16", 2)]
)
def test_low_precision_keeps_the_inputs_of_its_gemms_small(precision: str, input_bytes: float) -> None:
    """The norms' outputs and the activation; attention stays in bf16, and its output is kept once more for the projection."""
    n, h, q, k, f = 8192, 4096, 4096, 1024, 14336
    own = 2 * (2 * h + 4) + 4 * q + 4 * k + 4 * 32 + 4 * f
    again = input_bytes * q if input_bytes < 2 else 0
    assert kept(model(), precision=precision) == n * (own + input_bytes * (2 * h + f) + again)


def test_dropout_keeps_a_byte_for_each_element_that_it_may_drop() -> None:
    assert kept(model(), hidden_dropout=0.1) - kept(model()) == 8192 * 2 * 4096


def test_attention_that_is_not_fused_keeps_its_scores() -> None:
    """Two bytes a score, and with dropout three more: the mask and what was dropped."""
    scores = 32 * 8192 * 8192
    plain = kept(model(), attention_backend="unfused")
    assert plain - kept(model()) == 2 * scores - 8192 * 4 * 32
    dropped = kept(model(), attention_backend="unfused", attention_dropout=0.1)
    assert dropped - plain == 3 * scores
    assert kept(model(), DENSE, selective("core_attn"), attention_backend="unfused") == plain - 2 * scores


def test_an_all_to_all_context_exchange_keeps_the_output_before_it() -> None:
    ring, dealt = kept(model(), cp=2), kept(model(), cp=2, cp_comm_type="a2a")
    assert dealt - ring == 4096 * 2 * 4096
    assert kept(model(), cp_comm_type="a2a") == kept(model())


def test_unbalanced_routing_makes_rows_only() -> None:
    """A quarter more rows: of the routed part a quarter more, of nothing else."""
    routed = 8192 * 8 * (2 * 2048 + 4 + 6 * 768)
    assert kept(moe(), MOE, imbalance_percent=125) - kept(moe(), MOE) == routed // 4
    assert kept(moe(), DENSE, imbalance_percent=125) == kept(moe(), DENSE)


def test_an_mtp_layer_keeps_two_normed_inputs_and_their_concatenation() -> None:
    asked = said(model(mtp_num_layers=1))
    assert mtp_bytes(INTEGERS, *asked) == 8 * 4096 * 8192


# -- laws of order


SPECS = {"dense": (model(), DENSE), "mla": (mla(), DENSE), "moe": (moe(), MOE), "dense of moe": (moe(), DENSE)}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(SPECS)),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([1, 2, 3]),
    st.booleans(),
    st.sampled_from([1000, 4096, 8192]),
)
def test_more_ranks_never_keep_more_and_more_sequences_never_less(
    name: str, tp: int, cp: int, mbs: int, sp: bool, seq: int
) -> None:
    spec, kind = SPECS[name]
    words: dict[str, Any] = {"tp": tp, "cp": cp, "micro_batch_size": mbs, "sequence_parallel": sp, "seq_length": seq}
    base = kept(spec, kind, **words)
    assert kept(spec, kind, **words | {"tp": 2 * tp}) <= base
    assert kept(spec, kind, **words | {"cp": 2 * cp}) <= base
    assert kept(spec, kind, **words | {"sequence_parallel": True}) <= base
    assert kept(spec, kind, **words | {"micro_batch_size": mbs + 1}) > base
    assert kept(spec, kind, **words | {"seq_length": 2 * seq}) > base
    assert kept(spec, kind, **words | {"etp": 2}) >= base
    for option in (*problem(spec).recompute_options, FULL):
        assert 0 < kept(spec, kind, option, **words) <= base


@pytest.mark.parametrize("name", list(SPECS))
def test_recompute_options_are_ordered_by_what_they_leave(name: str) -> None:
    spec, kind = SPECS[name]
    sizes = [kept(spec, kind, option) for option in problem(spec).recompute_options]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
