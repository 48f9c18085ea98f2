"""What the families have in common: the sizes that every decoder has, experts, leading dense layers, sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models_catalog.huggingface.reader import Reader

__all__ = [
    "Values",
    "attention_layers",
    "by_layer",
    "common",
    "dense_first",
    "experts",
    "gated",
    "grouped_routing",
    "mtp",
    "sigmoid_routing",
    "sparse_steps",
    "windows",
]

Values = dict[str, Any]

FULL, SLIDING, CHUNKED, LINEAR = "full_attention", "sliding_attention", "chunked_attention", "linear_attention"


def common(r: Reader, *, tied: bool = False, norm: str = "RMSNorm") -> Values:
    """Layers, widths, heads, vocabulary; ``tied`` is the family's default for ``tie_word_embeddings``.

    Bridge: ``conversion/model_bridge.py::MegatronModelBridge.CONFIG_MAPPING``.
    """
    heads, hidden = (
        r.needed("num_attention_heads", "n_head", "n_heads"),
        r.needed("hidden_size", "n_embd", "d_model", "n_embed"),
    )
    return {
        "num_layers": r.needed("num_hidden_layers", "n_layer", "n_layers"),
        "hidden_size": hidden,
        "ffn_hidden_size": r.integer("intermediate_size", default=4 * hidden),
        "num_attention_heads": heads,
        "num_query_groups": r.integer("num_key_value_heads", default=heads),
        "kv_channels": r.integer("head_dim", default=max(1, hidden // heads)),
        "vocab_size": r.needed("vocab_size"),
        "max_position_embeddings": r.integer("max_position_embeddings", "n_positions", "max_seq_len"),
        "share_embeddings_and_output_weights": r.truth("tie_word_embeddings", tied),
        "normalization": norm,
    }


def gated(r: Reader, *, tied: bool = False) -> Values:
    """A Llama-like decoder: RMSNorm, a gated feed-forward part, biases where the config asks for them."""
    r.needed("intermediate_size")
    return {
        **common(r, tied=tied),
        "gated_linear_unit": True,
        "add_qkv_bias": r.truth("attention_bias", False),
        "add_bias_linear": r.truth("mlp_bias", False),
    }


def experts(r: Reader, count: str, width: str, chosen: str = "num_experts_per_tok") -> Values:
    """Routed experts: how many, how many a token goes to, how wide each is."""
    number, topk = r.needed(count), r.needed(chosen)
    if topk > number:
        r.refuse(chosen, f"is {topk}, more than {count} {number}")
    return {"num_moe_experts": number, "moe_router_topk": topk, "moe_ffn_hidden_size": r.needed(width)}


def by_layer(sparse: Sequence[bool]) -> Values:
    """``moe_layer_freq`` for layers of which some have experts: 1 if all have, else a list."""
    return {"moe_layer_freq": 1 if all(sparse) else [int(layer) for layer in sparse]}


def dense_first(r: Reader, *, default: int) -> Values:
    """``mlp_layer_types``, or ``first_k_dense_replace`` dense layers before the first with experts.

    DeepSeek's own ``moe_layer_freq`` N keeps experts in the layers whose index N divides
    (``modeling_deepseek.py::DeepseekV2DecoderLayer``).
    """
    layers = r.needed("num_hidden_layers")
    types = r.words("mlp_layer_types", ("dense", "sparse"), layers)
    if types is not None:
        return by_layer([kind == "sparse" for kind in types])
    dense = r.count("first_k_dense_replace", default=default)
    if dense > layers:
        r.refuse("first_k_dense_replace", f"is {dense}, more than num_hidden_layers {layers}")
    step = r.integer("moe_layer_freq", default=1) or 1
    return by_layer([i >= dense and i % step == 0 for i in range(layers)])


def sparse_steps(r: Reader) -> Values:
    """Qwen's way: every ``decoder_sparse_step``-th layer has experts, ``mlp_only_layers`` have not."""
    layers, step = r.needed("num_hidden_layers"), r.integer("decoder_sparse_step", default=1) or 1
    dense = r.integers("mlp_only_layers") or []
    if any(i >= layers for i in dense):
        r.refuse("mlp_only_layers", f"names layer {max(dense)}, the model has {layers}, counted from 0")
    return by_layer([(i + 1) % step == 0 and i not in dense for i in range(layers)])


def grouped_routing(r: Reader, groups: str = "n_group", chosen: str = "topk_group") -> Values:
    """Experts in ``n_group`` groups of which a token chooses from ``topk_group``; one group is none."""
    number = r.integer(groups, default=1) or 1
    if number == 1:
        return {}
    topk = r.needed(chosen)
    if topk > number:
        r.refuse(chosen, f"is {topk}, more than {groups} {number}")
    return {"moe_router_num_groups": number, "moe_router_group_topk": topk}


def sigmoid_routing(balancing: str = "seq_aux_loss", *, pre_softmax: bool = False) -> Values:
    """Sigmoid scores with an expert bias, as DeepSeek-V3 brought them."""
    return {
        "moe_router_score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "moe_router_pre_softmax": pre_softmax,
        "moe_router_load_balancing_type": balancing,
    }


def mtp(r: Reader) -> Values:
    """Depth of multi-token prediction; a config that does not speak of it has none."""
    return {"mtp_num_layers": r.count("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers") or None}


def attention_layers(r: Reader, known: Sequence[str]) -> list[str] | None:
    """``layer_types``: what each layer's attention is."""
    return r.words("layer_types", known, r.needed("num_hidden_layers"))


def windows(r: Reader, size: int | None, sliding: Sequence[bool]) -> Values:
    """Sliding windows of ``size`` tokens; ``layer_types`` says where, if it is there, else ``sliding`` does.

    Megatron's ``window_attn_skip_freq`` N leaves every N-th layer without a window, or lists the layers.
    """
    types = attention_layers(r, (FULL, SLIDING, CHUNKED))
    if types is not None:
        sliding = [kind != FULL for kind in types]
    if not any(sliding):
        return {}
    if size is None:
        r.refuse("sliding_window", "is missing: layer_types has layers with a sliding window")
    values: Values = {"window_size": size}
    if not all(sliding):
        values["window_attn_skip_freq"] = _period(sliding) or [int(layer) for layer in sliding]
    return values


def _period(sliding: Sequence[bool]) -> int | None:
    """N, if just every N-th layer has no window."""
    first = sliding.index(False) + 1
    return first if all(layer == bool((i + 1) % first) for i, layer in enumerate(sliding)) else None
