"""Parameters on one rank, as element counts: by hand, and summed over ranks against the whole model."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.layout import PipelineSplit
from constraints.memory.counts import mtp_parameters, parameter_counts
from constraints.memory.parameters import (
    dense_parameters,
    embedding_parameters,
    expert_parameters,
    local_vocabulary,
    mtp_projection,
)
from models_catalog.loader import load_model
from models_catalog.schema import ModelSpec
from tests.memory.asking import DENSE, INTEGERS, MOE, ranks
from tests.rules.builders import mla, model, moe, said

H, Q, K, F = 4096, 4096, 1024, 14336
"""Width, query width, key width and feed-forward width of the builders' dense model."""


@pytest.mark.parametrize(
    ("spec", "tp", "elements"),
    [
        (model(), 1, H * (Q + 2 * K) + Q * H + 3 * H * F + 2 * H),
        (model(), 8, (H * (Q + 2 * K) + Q * H + 3 * H * F) // 8 + 2 * H),
        (model(gated_linear_unit=False), 1, H * (Q + 2 * K) + Q * H + 2 * H * F + 2 * H),
        (model(normalization="LayerNorm"), 1, H * (Q + 2 * K) + Q * H + 3 * H * F + 4 * H),
        (model(add_qkv_bias=True), 1, (H + 1) * (Q + 2 * K) + Q * H + 3 * H * F + 2 * H),
        (model(qk_layernorm=True), 1, H * (Q + 2 * K) + Q * H + 3 * H * F + 2 * H + 2 * 128),
        (model(attention_output_gate=True), 1, H * (2 * Q + 2 * K) + Q * H + 3 * H * F + 2 * H),
    ],
    ids=["one rank", "eight ranks", "not gated", "LayerNorm", "bias on q, k, v", "norms on q and k", "output gate"],
)
def test_a_dense_layer(spec: ModelSpec, tp: int, elements: int) -> None:
    assert dense_parameters(INTEGERS, *said(spec, tp=tp), DENSE) == elements


def test_latent_attention_duplicates_its_down_projections_over_tensor_ranks() -> None:
    """128 heads, ranks 1536 and 512, 128 + 64 channels for q and k, 128 for v."""
    down = H * 1536 + H * (512 + 64)
    up = 1536 * 128 * 192 + 512 * 128 * (128 + 128) + 128 * 128 * H
    feedforward, norms = 3 * H * F, 2 * H
    for tp in (1, 8):
        found = dense_parameters(INTEGERS, *said(mla(), tp=tp), DENSE)
        assert found == down + (up + feedforward) // tp + norms


def test_without_a_query_rank_latent_attention_projects_from_the_input() -> None:
    found = dense_parameters(INTEGERS, *said(mla(q_lora_rank=None)), DENSE)
    up = H * 128 * 192 + 512 * 128 * 256 + 128 * 128 * H
    assert found == H * (512 + 64) + up + 3 * H * F + 2 * H


def test_an_moe_layer_keeps_router_and_shared_expert_dense_and_routed_experts_apart() -> None:
    """Hidden 2048, 32 heads of 128 in 4 groups, 128 experts of 768, a shared expert of 512 with a gate."""
    spec = moe(moe_shared_expert_intermediate_size=512, moe_shared_expert_gate=True)
    attention = 2048 * (4096 + 2 * 512) + 4096 * 2048
    dense = attention // 2 + 3 * 2048 * 512 // 2 + 2048 * 128 + 2048 + 2 * 2048
    asked = said(spec, gpus=16, tp=2, ep=4, etp=2)
    assert dense_parameters(INTEGERS, *asked, MOE) == dense
    assert expert_parameters(INTEGERS, *asked, MOE) == 128 // 4 * 3 * 2048 * 768 // 2
    assert expert_parameters(INTEGERS, *asked, DENSE) == 0


def test_routed_experts_of_latent_width() -> None:
    asked = said(moe(moe_latent_size=1024), ep=8)
    assert expert_parameters(INTEGERS, *asked, MOE) == 128 // 8 * 3 * 1024 * 768
    wide = said(moe(), ep=8)
    more = dense_parameters(INTEGERS, *asked, MOE) - dense_parameters(INTEGERS, *wide, MOE)
    assert more == 2 * 2048 * 1024


@pytest.mark.parametrize(
    ("vocab", "divisor", "tp", "rows"),
    [
        (128256, 128, 1, 128256),
        (128256, 128, 8, 16128),
        (50257, 128, 1, 50304),
        (50257, 128, 8, 6400),
        (129280, 3232, 1, 129280),
        (129280, 3232, 3, 45248),
    ],
)
def test_the_vocabulary_is_padded_to_a_multiple_for_every_tp(vocab: int, divisor: int, tp: int, rows: int) -> None:
    asked = said(model(vocab_size=vocab, make_vocab_size_divisible_by=divisor), tp=tp, gpus=24)
    assert local_vocabulary(INTEGERS, *asked) == rows
    assert embedding_parameters(INTEGERS, *asked) == rows * H
    assert (rows * tp) % (divisor * tp) == 0
    assert rows * tp >= vocab


def test_an_unpadded_vocabulary_is_only_split() -> None:
    asked = said(model(vocab_size=50256, should_pad_vocab=False), tp=8)
    assert local_vocabulary(INTEGERS, *asked) == 6282


def tables(components: list[dict[str, int]], spec: ModelSpec, layers: list[int]) -> list[float]:
    """Word embeddings and output projections that each rank stores: what its parameters are beyond its layers'."""
    asked = said(spec)
    layer, table = dense_parameters(INTEGERS, *asked, DENSE), embedding_parameters(INTEGERS, *asked)
    return [(part["parameters"] / 2 - n * layer) / table for part, n in zip(components, layers, strict=True)]


@pytest.mark.parametrize(
    ("tied", "pp", "copies"),
    [(False, 1, [2]), (True, 1, [1]), (False, 4, [1, 0, 0, 1]), (True, 4, [1, 0, 0, 1])],
    ids=["untied, one rank", "tied, one rank", "untied, first and last", "tied, a copy on the first and on the last"],
)
def test_embedding_copies(tied: bool, pp: int, copies: list[int]) -> None:
    spec = model(share_embeddings_and_output_weights=tied)
    found = tables(ranks(spec, pp=pp, num_microbatches=8), spec, [32 // pp] * pp)
    assert found == pytest.approx(copies)


def test_mtp_layers_away_from_the_embedding_bring_a_copy_of_it() -> None:
    spec = model(mtp_num_layers=1)
    projection = mtp_projection(INTEGERS, *said(spec))
    assert projection == 2 * H * H + 3 * H
    found = ranks(spec, pp=2, num_microbatches=8)
    layer = dense_parameters(INTEGERS, *said(spec), DENSE)
    extra = found[1]["parameters"] // 2 - (16 + 1) * layer - projection
    assert extra == 2 * embedding_parameters(INTEGERS, *said(spec))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (model(), {}),
        (model(), {"pp": 4}),
        (model(share_embeddings_and_output_weights=True), {"pp": 4}),
        (model(num_layers=31, mtp_num_layers=1), {"pp": 2, "split": PipelineSplit(layout="Et*16|t*15mL")}),
        (moe(), {"pp": 4, "vpp": 2}),
        (moe(moe_layer_freq=2, moe_shared_expert_intermediate_size=512), {"pp": 2}),
        (load_model("deepseek-v3"), {"pp": 4, "split": PipelineSplit(layout="Et*15|t*15|t*15|t*16mL")}),
        (load_model("llama-3.1-70b"), {"pp": 8, "vpp": 5}),
        (load_model("qwen3-235b-a22b"), {"pp": 2}),
    ],
    ids=lambda value: value.name if isinstance(value, ModelSpec) else str(sorted(value)),
)
def test_the_ranks_of_a_pipeline_store_the_whole_model(spec: ModelSpec, words: dict[str, Any]) -> None:
    """But for the final norm (hidden_size elements), which no stage counts, and with the copies that it brings."""
    words = {"gpus": 64, "num_microbatches": 8} | words
    stored = sum(part["parameters"] for part in ranks(spec, **words)) // 2
    total = parameter_counts(spec)[0] + mtp_parameters(spec)[0]
    table = embedding_parameters(INTEGERS, *said(spec))
    padding = (table - spec.vocab_size * spec.hidden_size) * (1 if spec.share_embeddings_and_output_weights else 2)
    copies = (spec.share_embeddings_and_output_weights and words.get("pp", 1) > 1) + (spec.mtp_layers > 0)
    assert stored == total + padding + copies * table - spec.norm_vectors * spec.hidden_size
