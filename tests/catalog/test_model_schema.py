"""What an entry may not say: each refusal names the field, and the place where one is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from models_catalog.errors import InvalidEntry
from models_catalog.loader import read_model
from models_catalog.model_checks import CHOICES
from models_catalog.validation import model_from_mapping, validated_model

DENSE: dict[str, Any] = {
    "name": "own",
    "num_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_query_groups": 2,
    "vocab_size": 1000,
}
MOE = DENSE | {"num_moe_experts": 8, "moe_router_topk": 2, "moe_ffn_hidden_size": 32}
MLA = {key: value for key, value in DENSE.items() if key != "num_query_groups"} | {
    "multi_latent_attention": True,
    "kv_lora_rank": 32,
    "qk_head_dim": 16,
    "qk_pos_emb_head_dim": 8,
    "v_head_dim": 16,
}
DSA = MLA | {
    "experimental_attention_variant": "dsa",
    "dsa_indexer_n_heads": 4,
    "dsa_indexer_head_dim": 16,
    "dsa_indexer_topk": 64,
}
CSA = DSA | {
    "experimental_attention_variant": "dsv4_hybrid",
    "q_lora_rank": 32,
    "csa_compress_ratios": [0, 4, 128, 4],
    "o_groups": 2,
    "o_lora_rank": 16,
}
GDN = DENSE | {
    "experimental_attention_variant": "gated_delta_net",
    "linear_attention_freq": 4,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
HYBRID = DENSE | {
    "hybrid_override_pattern": "M-*-",
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "mamba_state_dim": 16,
    "mamba_num_groups": 2,
}
WINDOW = DENSE | {"window_size": 128, "window_attn_skip_freq": 2}
MTP = DENSE | {"mtp_num_layers": 1}
COUNTED = DENSE | {"total_parameters": 1000, "active_parameters": 1000}
WHOLE = {
    "dense": DENSE,
    "moe": MOE,
    "mla": MLA,
    "dsa": DSA,
    "csa": CSA,
    "gdn": GDN,
    "hybrid": HYBRID,
    "window": WINDOW,
    "mtp": MTP,
    "counted": COUNTED,
}

REFUSED: list[tuple[Mapping[str, Any], Mapping[str, Any], str, str]] = [
    # types: a number is a number, and whole
    (DENSE, {"hidden_size": "64"}, "hidden_size", "integer"),
    (DENSE, {"hidden_size": 64.0}, "hidden_size", "integer"),
    (DENSE, {"hidden_size": True}, "hidden_size", "integer"),
    (DENSE, {"hidden_size": [64]}, "hidden_size", "integer"),
    (DENSE, {"hidden_size": float("nan")}, "hidden_size", "integer"),
    (DENSE, {"gated_linear_unit": 1}, "gated_linear_unit", "boolean"),
    (DENSE, {"gated_linear_unit": "yes"}, "gated_linear_unit", "boolean"),
    (DENSE, {"normalization": 5}, "normalization", "string"),
    (DENSE, {"aliases": "own"}, "aliases", "tuple"),
    (DENSE, {"sources": [1]}, "sources", "string"),
    (MOE, {"moe_layer_freq": [True, 1, 1, 1]}, "moe_layer_freq", "0 and 1"),
    (MOE, {"moe_layer_freq": [2, 1, 1, 1]}, "moe_layer_freq", "0 and 1"),
    (MOE, {"moe_layer_freq": {"every": 2}}, "moe_layer_freq", "integer"),
    (HYBRID, {"hybrid_override_pattern": ["M", "*"]}, "hybrid_override_pattern", "text"),
    # sizes
    (DENSE, {"num_layers": 0}, "num_layers", "from 1"),
    (DENSE, {"num_layers": -4}, "num_layers", "from 1"),
    (DENSE, {"num_layers": 10**6}, "num_layers", "to 10000"),
    (DENSE, {"hidden_size": 0}, "hidden_size", "from 1"),
    (DENSE, {"hidden_size": 10**12}, "hidden_size", "from 1"),
    (DENSE, {"vocab_size": -1}, "vocab_size", "from 1"),
    (DENSE, {"num_attention_heads": 0}, "num_attention_heads", "from 1"),
    (DENSE, {"num_query_groups": 0}, "num_query_groups", "from 1"),
    (DENSE, {"kv_channels": -64}, "kv_channels", "from 1"),
    (DENSE, {"make_vocab_size_divisible_by": 0}, "make_vocab_size_divisible_by", "from 1"),
    (DENSE, {"max_position_embeddings": 0}, "max_position_embeddings", "from 1"),
    (DENSE, {"norms_per_layer": 0}, "norms_per_layer", "from 1"),
    (MOE, {"num_moe_experts": -8}, "num_moe_experts", "from 0"),
    (MOE, {"num_moe_experts": 10**7}, "num_moe_experts", "to 1000000"),
    (MOE, {"moe_router_topk": 0}, "moe_router_topk", "from 1"),
    (MOE, {"moe_ffn_hidden_size": 0}, "moe_ffn_hidden_size", "from 1"),
    (MTP, {"mtp_num_layers": 1000}, "mtp_num_layers", "to 100"),
    (COUNTED, {"total_parameters": 10**16}, "total_parameters", "from 1"),
    # heads and groups
    (DENSE, {"num_attention_heads": 128}, "num_attention_heads", "more than hidden_size 64"),
    (DENSE, {"num_query_groups": 16}, "num_query_groups", "more than num_attention_heads 8"),
    (DENSE, {"qk_layernorm_all_heads": True}, "qk_layernorm_all_heads", "without qk_layernorm"),
    # words
    (DENSE, {"normalization": "rmsnorm"}, "normalization", "RMSNorm, LayerNorm"),
    (DENSE, {"position_embedding_type": "alibi"}, "position_embedding_type", "learned_absolute"),
    (DENSE, {"softmax_type": "sink"}, "softmax_type", "learnable"),
    (DENSE, {"experimental_attention_variant": "mamba"}, "experimental_attention_variant", "gated_delta_net"),
    (MOE, {"moe_router_score_function": "softplus"}, "moe_router_score_function", "sigmoid"),
    # experts
    (MOE, {"moe_router_topk": None}, "moe_router_topk", "num_moe_experts needs it"),
    (DENSE, {"moe_router_topk": 2}, "moe_router_topk", "without num_moe_experts"),
    (DENSE, {"moe_ffn_hidden_size": 32}, "moe_ffn_hidden_size", "without num_moe_experts"),
    (DENSE, {"moe_layer_freq": 2}, "moe_layer_freq", "without num_moe_experts"),
    (DENSE, {"moe_router_pre_softmax": True}, "moe_router_pre_softmax", "without num_moe_experts"),
    (DENSE, {"moe_shared_expert_intermediate_size": 32}, "moe_shared_expert_intermediate_size", "without num_moe_experts"),
    (DENSE, {"moe_latent_size": 32}, "moe_latent_size", "without num_moe_experts"),
    (DENSE, {"moe_router_num_groups": 2}, "moe_router_num_groups", "without num_moe_experts"),
    (MOE, {"moe_shared_expert_gate": True}, "moe_shared_expert_gate", "without moe_shared_expert_intermediate_size"),
    # latent attention
    (MLA, {"kv_lora_rank": None}, "kv_lora_rank", "multi_latent_attention needs it"),
    (MLA, {"qk_head_dim": None}, "qk_head_dim", "multi_latent_attention needs it"),
    (MLA, {"qk_pos_emb_head_dim": None}, "qk_pos_emb_head_dim", "multi_latent_attention needs it"),
    (MLA, {"v_head_dim": None}, "v_head_dim", "multi_latent_attention needs it"),
    (DENSE, {"kv_lora_rank": 32}, "kv_lora_rank", "without multi_latent_attention"),
    (DENSE, {"q_lora_rank": 32}, "q_lora_rank", "without multi_latent_attention"),
    (DENSE, {"v_head_dim": 16}, "v_head_dim", "without multi_latent_attention"),
    (DSA, {"dsa_indexer_topk": None}, "dsa_indexer_topk", "dsa needs it"),
    (DSA, {"multi_latent_attention": False, **dict.fromkeys(sorted(MLA.keys() - DENSE.keys() - {"multi_latent_attention"}))},
     "experimental_attention_variant", "needs multi_latent_attention"),
    (MLA, {"dsa_indexer_n_heads": 4}, "dsa_indexer_n_heads", "without"),
    (CSA, {"o_groups": None}, "o_groups", "dsv4_hybrid needs it"),
    (CSA, {"q_lora_rank": None}, "q_lora_rank", "dsv4_hybrid needs it"),
    (CSA, {"csa_compress_ratios": [0, 4]}, "csa_compress_ratios", "2 entries, num_layers is 4"),
    # patterns
    (MOE, {"moe_layer_freq": [0, 1, 1]}, "moe_layer_freq", "3 entries, num_layers is 4"),
    (MOE, {"moe_layer_freq": "([0]*3+[1]*58)"}, "moe_layer_freq", "61 entries, num_layers is 4"),
    (MOE, {"moe_layer_freq": "every other"}, "moe_layer_freq", "write a list"),
    (MOE, {"moe_layer_freq": "__import__('os').getcwd()"}, "moe_layer_freq", "write a list"),
    (MOE, {"moe_layer_freq": "([1]*99999)"}, "moe_layer_freq", "write a list"),
    (WINDOW, {"window_attn_skip_freq": [1, 0]}, "window_attn_skip_freq", "2 entries, num_layers is 4"),
    (WINDOW, {"window_size": None}, "window_attn_skip_freq", "without window_size"),
    (DENSE, {"window_kv_channels": 8}, "window_kv_channels", "without window_size"),
    (GDN, {"linear_attention_freq": [1, 1, 1, 0, 1]}, "linear_attention_freq", "5 entries, num_layers is 4"),
    (GDN, {"linear_attention_freq": None}, "linear_attention_freq", "a gated delta net needs it"),
    (GDN, {"linear_num_value_heads": None}, "linear_num_value_heads", "a gated delta net needs it"),
    (DENSE, {"linear_num_key_heads": 4}, "linear_num_key_heads", "without a gated delta net"),
    (HYBRID, {"hybrid_override_pattern": "M-*"}, "num_layers", "is 4, the hybrid pattern has 3 symbols"),
    (HYBRID, {"hybrid_override_pattern": "M-X-"}, "hybrid_override_pattern", "has 'X'"),
    (HYBRID, {"hybrid_override_pattern": "M-*E"}, "num_moe_experts", "has E layers"),
    (HYBRID, {"mamba_num_heads": None}, "mamba_num_heads", "has Mamba layers"),
    (HYBRID, {"linear_attention_freq": 4}, "linear_attention_freq", "beside hybrid_override_pattern"),
    (HYBRID, {"hybrid_override_pattern": "M-*-/*-/*-", "mtp_num_layers": 1}, "mtp_num_layers", "has 2 MTP parts"),
    (HYBRID, {"hybrid_override_pattern": "M-*-/*-/M-", "mtp_num_layers": 2}, "hybrid_override_pattern", "not the same"),
    (DENSE, {"mamba_num_heads": 8}, "mamba_num_heads", "without Mamba layers"),
    # MTP and counts
    (DENSE, {"mtp_dense": True}, "mtp_dense", "without mtp_num_layers"),
    (DENSE, {"mtp_use_repeated_layer": True}, "mtp_use_repeated_layer", "without mtp_num_layers"),
    (COUNTED, {"active_parameters": 2000}, "active_parameters", "more than total_parameters 1000"),
    (COUNTED, {"total_parameters": None}, "active_parameters", "without total_parameters"),
    (COUNTED, {"parameters_include_mtp": True}, "parameters_include_mtp", "without mtp_num_layers"),
    (DENSE, {"parameters_exact": True}, "parameters_exact", "without total_parameters"),
    # what is missing, and what is no field
    (DENSE, {"num_layers": None}, "num_layers", "is missing"),
    (DENSE, {"hidden_size": None}, "hidden_size", "is missing"),
    (DENSE, {"num_attention_heads": None}, "num_attention_heads", "is missing"),
    (DENSE, {"vocab_size": None}, "vocab_size", "is missing"),
    (DENSE, {"num_layer": 4}, "num_layer", "did you mean num_layers"),
    (DENSE, {"num_key_value_heads": 2}, "num_key_value_heads", "not a field of a model"),
    (DENSE, {"moe_router_top_k": 2}, "moe_router_top_k", "did you mean moe_router_topk"),
    (DENSE, {"zzz": 2}, "zzz", "is not a field of a model"),
]  # fmt: skip


def changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**base, **change}.items() if value is not None}


@pytest.mark.parametrize("entry", WHOLE.values(), ids=WHOLE)
def test_what_the_refusals_start_from_is_whole(entry: dict[str, Any]) -> None:
    assert validated_model(dict(entry), "own.yaml").name == "own"


@pytest.mark.parametrize(("base", "change", "field", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_contradiction_is_refused_by_the_fields_name(
    base: Mapping[str, Any], change: Mapping[str, Any], field: str, message: str
) -> None:
    with pytest.raises(InvalidEntry) as refusal:
        validated_model(changed(base, change), "own.yaml")
    assert refusal.value.field == field
    assert message in str(refusal.value) and str(refusal.value).startswith(f"own.yaml: {field} ")


def test_a_refusal_says_where_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        yaml.safe_dump(DENSE, sort_keys=False).replace("hidden_size: 64", "hidden_size: -64"), encoding="utf-8"
    )
    with pytest.raises(InvalidEntry, match=r"own\.yaml:3:1: hidden_size is -64"):
        read_model(str(path))


def test_a_model_of_the_users_needs_no_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in DENSE.items() if key != "name"}), encoding="utf-8")
    assert read_model(str(path)).name == "mine"


def test_an_inline_model_takes_megatrons_defaults_and_warns_of_the_rest() -> None:
    given_fields = DENSE | {"moe_router_topk": 2, "moe_layer_freq": 1, "window_size": [127, 0], "init_method_std": 0.02}
    model, warnings = model_from_mapping(given_fields, "request")
    assert model.window_size == 128 and not model.is_moe
    assert warnings == ["model field init_method_std is not known here and ignored"]


@pytest.mark.parametrize("name", CHOICES)
def test_every_word_of_a_choice_can_be_said(name: str) -> None:
    bases = {"moe_router_score_function": MOE}
    variants = {"dsa": DSA, "dsv4_hybrid": CSA}
    for word in CHOICES[name]:
        base = variants.get(word, GDN if name == "experimental_attention_variant" else bases.get(name, DENSE))
        assert getattr(validated_model(changed(base, {name: word}), "own.yaml"), name) == word
