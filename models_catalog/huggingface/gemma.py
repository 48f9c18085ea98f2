"""Gemma: wide heads, tied embeddings, and since the second generation a norm before and after each part."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import Values, experts, gated, windows

__all__ = ["GEMMA"]

GEMMA3_TEXT = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}
"""Defaults of transformers' ``Gemma3TextConfig``: the hub's configs leave out what equals them."""


def _gemma(r: Reader) -> Values:
    return {**gated(r, tied=True), "kv_channels": r.integer("head_dim", default=256)}


def _gemma2(r: Reader) -> Values:
    """``gemma/gemma2_bridge.py``; every other layer has a window, beginning with the first."""
    layers = r.needed("num_hidden_layers")
    size = r.integer("sliding_window") if r.has("sliding_window") else 4096
    return {**_gemma(r), "norms_per_layer": 4, **windows(r, size, [i % 2 == 0 for i in range(layers)])}


def _gemma3(r: Reader) -> Values:
    """``gemma/gemma3_bridge.py``; five layers with a window, then one without."""
    r = Reader(GEMMA3_TEXT | {k: v for k, v in r.config.items() if v is not None}, r.origin, r.places, r.prefix)
    layers, every = r.needed("num_hidden_layers"), r.integer("sliding_window_pattern", default=6) or 6
    window = windows(r, r.integer("sliding_window"), [bool((i + 1) % every) for i in range(layers)])
    return {**_gemma(r), "norms_per_layer": 4, "qk_layernorm": True, **window}


def _gemma4(r: Reader) -> Values:
    """``gemma/gemma4_bridge.py``: layers without a window have wider heads; a dense part stands beside the experts.

    The embeddings that the small ones have in every layer, and key/value heads shared by layers, have no field here.
    """
    for name in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if r.count(name):
            r.refuse(name, f"is {r.count(name)}: the catalog cannot say that")
    if r.truth("use_double_wide_mlp", False):
        r.refuse("use_double_wide_mlp", "is true: the catalog cannot say that")
    layers, groups = r.needed("num_hidden_layers"), r.needed("num_key_value_heads")
    wide = r.integer("global_head_dim", default=512)
    values = {
        **_gemma(r),
        "norms_per_layer": 4,
        "qk_layernorm": True,
        "num_query_groups": r.integer("num_global_key_value_heads", default=groups),
        "kv_channels": wide,
        "window_num_query_groups": groups,
        "window_kv_channels": r.integer("head_dim", default=256),
        **windows(r, r.integer("sliding_window", default=512), [bool((i + 1) % 6) for i in range(layers)]),
    }
    if not r.truth("enable_moe_block", False):
        return values
    routed = experts(r, "num_experts", "moe_intermediate_size", "top_k_experts")
    shared = {"moe_shared_expert_intermediate_size": r.needed("intermediate_size"), "moe_router_pre_softmax": True}
    return {**values, **routed, **shared, "norms_per_layer": 7}


GEMMA: dict[str, Callable[[Reader], Values]] = {
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gemma4_text": _gemma4,
}
