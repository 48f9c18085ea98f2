"""Mixtures of experts with grouped-query attention: one ``model_type`` a function, the source of each beside it."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.dense import exaone_pattern, qwen2, qwen3
from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import (
    Values,
    by_layer,
    common,
    dense_first,
    experts,
    gated,
    grouped_routing,
    mtp,
    sigmoid_routing,
    sparse_steps,
    windows,
)

__all__ = ["EXPERTS", "shared_expert"]


def shared_expert(r: Reader, number: str, width: str, default: int = 0) -> Values:
    """Shared experts as Megatron has them: one, as wide as all together."""
    wide = r.count(number, default=default) * r.needed(width)
    return {"moe_shared_expert_intermediate_size": wide or None}


def _mixtral(r: Reader) -> Values:
    """transformers ``mixtral``: every layer has experts, as wide as ``intermediate_size``."""
    size = r.integer("sliding_window")
    window = windows(r, size, [size is not None] * r.needed("num_hidden_layers"))
    return {**gated(r), **experts(r, "num_local_experts", "intermediate_size"), **window}


def _qwen_experts(r: Reader) -> Values:
    routed = experts(r, "num_experts", "moe_intermediate_size")
    return {**routed, **sparse_steps(r), "moe_router_pre_softmax": not r.truth("norm_topk_prob", False)}


def _qwen2_moe(r: Reader) -> Values:
    """transformers ``qwen2_moe``: a shared expert behind a gate; weights of the chosen experts are not normed again."""
    shared = r.integer("shared_expert_intermediate_size", default=5632)
    bias = r.truth("qkv_bias", True)
    return {
        **qwen2(r),
        **_qwen_experts(r),
        "add_qkv_bias": bias,
        "moe_shared_expert_intermediate_size": shared,
        "moe_shared_expert_gate": True,
    }


def _qwen3_moe(r: Reader) -> Values:
    """``qwen/qwen3_moe_bridge.py``."""
    return {**qwen3(r), **_qwen_experts(r)}


def _olmoe(r: Reader) -> Values:
    """``olmoe/olmoe_bridge.py``: experts as wide as ``intermediate_size``, queries and keys normed over all heads."""
    return {
        **gated(r),
        **experts(r, "num_experts", "intermediate_size"),
        "qk_layernorm": True,
        "qk_layernorm_all_heads": True,
        "moe_router_pre_softmax": not r.truth("norm_topk_prob", False),
        "moe_router_load_balancing_type": "seq_aux_loss",
    }


def _phimoe(r: Reader) -> Values:
    """transformers ``phimoe``: LayerNorm, biases in attention, experts as wide as ``intermediate_size``."""
    return {**gated(r), "normalization": "LayerNorm", **experts(r, "num_local_experts", "intermediate_size")}


def _granitemoe(r: Reader) -> Values:
    """transformers ``granitemoe``: experts as wide as ``intermediate_size``; scores are taken of the chosen ones."""
    return {**gated(r), **experts(r, "num_local_experts", "intermediate_size")}


def _granitemoeshared(r: Reader) -> Values:
    return {**_granitemoe(r), "moe_shared_expert_intermediate_size": r.count("shared_intermediate_size") or None}


def _glm4_moe(r: Reader) -> Values:
    """``glm/glm45_bridge.py``."""
    return {
        **gated(r),
        **experts(r, "n_routed_experts", "moe_intermediate_size"),
        **dense_first(r, default=1),
        **shared_expert(r, "n_shared_experts", "moe_intermediate_size", default=1),
        **grouped_routing(r),
        **sigmoid_routing(),
        **mtp(r),
        "qk_layernorm": r.truth("use_qk_norm", False),
    }


def _gpt_oss(r: Reader) -> Values:
    """``gpt_oss/gpt_oss_bridge.py``: biases, a learned sink in every softmax, a window on every other layer."""
    layers = r.needed("num_hidden_layers")
    return {
        **gated(r),
        **experts(r, "num_local_experts", "intermediate_size"),
        "kv_channels": r.integer("head_dim", default=64),
        "add_qkv_bias": r.truth("attention_bias", True),
        "add_bias_linear": True,
        "softmax_type": "learnable",
        "moe_router_load_balancing_type": "none",
        **windows(r, r.integer("sliding_window", default=128), [i % 2 == 0 for i in range(layers)]),
    }


def _minimax_m2(r: Reader) -> Values:
    """``minimax_m2/minimax_m2_bridge.py``: experts as wide as ``intermediate_size``; its MTP modules are not converted."""
    return {
        **gated(r),
        **experts(r, "num_local_experts", "intermediate_size"),
        **sigmoid_routing("aux_loss"),
        "qk_layernorm": True,
        "qk_layernorm_all_heads": True,
    }


def _minimax_m3(r: Reader) -> Values:
    """``minimax_m3/minimax_m3_bridge.py``: the indexers and the MTP layers are not converted; attention is full."""
    layers = r.needed("num_hidden_layers")
    shared, number = r.count("shared_intermediate_size"), r.integer("n_shared_experts", default=1, least=0)
    listed = r.integers("moe_layer_freq", layers) if isinstance(r.config.get("moe_layer_freq"), list) else None
    return {
        **gated(r),
        **experts(r, "num_local_experts", "intermediate_size"),
        **(dense_first(r, default=0) if listed is None else by_layer([bool(flag) for flag in listed])),
        **sigmoid_routing("aux_loss"),
        "ffn_hidden_size": r.integer("dense_intermediate_size", "intermediate_size"),
        "moe_shared_expert_intermediate_size": (number or 0) * shared or None,
        "qk_layernorm": r.truth("use_qk_norm", True),
    }


def _ernie_moe(r: Reader) -> Values:
    """``ernie/ernie_45_bridge.py``: the first number of a list where text and vision have experts of their own.

    Which layers have experts: transformers ``ernie4_5_moe`` (``moe_layer_start_index``, ``_end_index``, ``_interval``).
    """
    layers = r.needed("num_hidden_layers")
    first, last = r.count("moe_layer_start_index", default=1), r.integer("moe_layer_end_index", default=-1, least=-1)
    last, every = layers - 1 if last in (None, -1) else last, r.integer("moe_layer_interval", default=1) or 1
    if first > layers:
        r.refuse("moe_layer_start_index", f"is {first}, more than num_hidden_layers {layers}")
    types = r.words("mlp_layer_types", ("dense", "sparse"), layers)
    sparse = [(i + 1) % every == 0 and first <= i <= last for i in range(layers)]
    return {
        **gated(r, tied=True),
        **experts(r, "moe_num_experts", "moe_intermediate_size", "moe_k"),
        **by_layer(sparse if types is None else [kind == "sparse" for kind in types]),
        **shared_expert(r, "moe_num_shared_experts", "moe_intermediate_size", default=2),
        **sigmoid_routing("aux_loss"),
        "add_bias_linear": r.truth("use_bias", False),
        "rotary_interleaved": True,
    }


def _llama4(r: Reader) -> Values:
    """transformers ``llama4_text``: one expert a token beside a shared one of the same width, sigmoid scores.

    Megatron-Core has no attention in chunks of ``attention_chunk_size``: all layers see everything there. Queries and keys
    are normed without weights.
    """
    layers, step = r.needed("num_hidden_layers"), r.integer("interleave_moe_layer_step", default=1) or 1
    named = r.integers("moe_layers")
    if named is not None and any(i >= layers for i in named):
        r.refuse("moe_layers", f"names layer {max(named)}, the model has {layers}, counted from 0")
    chosen = set(named or ())
    sparse = [(i + 1) % step == 0 if named is None else i in chosen for i in range(layers)]
    return {
        **gated(r),
        **experts(r, "num_local_experts", "intermediate_size"),
        **by_layer(sparse),
        "ffn_hidden_size": r.needed("intermediate_size_mlp"),
        "moe_shared_expert_intermediate_size": r.needed("intermediate_size"),
        "moe_router_score_function": "sigmoid",
        "rotary_interleaved": True,
    }


def _dbrx(r: Reader) -> Values:
    """transformers ``dbrx``: attention and experts have a mapping each; LayerNorm without a bias."""
    attention, feedforward = r.below("attn_config"), r.below("ffn_config")
    width = feedforward.needed("ffn_hidden_size")
    return {
        **common(r, norm="LayerNorm"),
        **experts(feedforward, "moe_num_experts", "ffn_hidden_size", "moe_top_k"),
        "ffn_hidden_size": width,
        "num_query_groups": attention.integer("kv_n_heads", default=1),
        "gated_linear_unit": True,
    }


def _exaone_moe(r: Reader) -> Values:
    """``exaone/exaone_moe/exaone_moe_bridge.py``: MTP layers are dense; several depths may share one."""
    layers, size = r.needed("num_hidden_layers"), r.integer("sliding_window")
    flags, stored = r.config.get("is_moe_layer"), r.count("num_nextn_predict_layers")
    depth = r.count("mtp_num_speculative_steps", default=stored)
    balancing = "none" if r.word("topk_method") == "noaux_tc" else "global_aux_loss"
    return {
        **gated(r),
        **experts(r, "num_experts", "moe_intermediate_size"),
        **(dense_first(r, default=1) if flags is None else by_layer(_flags(r, "is_moe_layer", layers))),
        **shared_expert(r, "num_shared_experts", "moe_intermediate_size", default=1),
        **grouped_routing(r),
        **sigmoid_routing(balancing, pre_softmax=True),
        "mtp_num_layers": max(depth, stored) or None,
        "mtp_use_repeated_layer": (depth > stored or r.truth("mtp_share_layers", False)) or None if depth else None,
        "mtp_dense": True if depth or stored else None,
        "qk_layernorm": True,
        **windows(r, size, exaone_pattern(r, layers, size)),
    }


def _flags(r: Reader, name: str, length: int) -> list[bool]:
    value = r.config[name]
    if not isinstance(value, list) or not all(isinstance(item, bool) for item in value) or len(value) != length:
        r.refuse(name, f"must be a list of true and false, one for each of the {length} layers")
    return value


def _hy_v3(r: Reader) -> Values:
    """``hy_v3/hy_v3_bridge.py``."""
    return {
        **gated(r),
        **experts(r, "num_experts", "moe_intermediate_size"),
        **dense_first(r, default=1),
        **shared_expert(r, "num_shared_experts", "moe_intermediate_size", default=1),
        **sigmoid_routing("none"),
        **mtp(r),
        "qk_layernorm": True,
    }


def _bailing(r: Reader) -> Values:
    """``bailing/bailing_moe2_bridge.py`` (Ling 2.0)."""
    return {
        **gated(r),
        **experts(r, "num_experts", "moe_intermediate_size"),
        **dense_first(r, default=0),
        **shared_expert(r, "num_shared_experts", "moe_intermediate_size", default=1),
        **grouped_routing(r),
        **sigmoid_routing("none", pre_softmax=True),
        **mtp(r),
        "add_qkv_bias": r.truth("use_qkv_bias", False),
        "qk_layernorm": True,
    }


EXPERTS: dict[str, Callable[[Reader], Values]] = {
    "mixtral": _mixtral,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "olmoe": _olmoe,
    "phimoe": _phimoe,
    "granitemoe": _granitemoe,
    "granitemoeshared": _granitemoeshared,
    "glm4_moe": _glm4_moe,
    "gpt_oss": _gpt_oss,
    "minimax_m2": _minimax_m2,
    "minimax_m3_vl_text": _minimax_m3,
    "ernie4_5_moe": _ernie_moe,
    "llama4_text": _llama4,
    "dbrx": _dbrx,
    "exaone_moe": _exaone_moe,
    "hy_v3": _hy_v3,
    "bailing_moe_v2": _bailing,
}
