"""Step 3.5: layers with a window have other heads than the rest, and MTP layers are dense."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import FULL, SLIDING, Values, by_layer, experts, gated, mtp

__all__ = ["STEPFUN"]


def _step3p5(r: Reader) -> Values:
    """``stepfun/step35_bridge.py``; its gate of one number a head is not counted."""
    layers, depth = r.needed("num_hidden_layers"), r.count("num_nextn_predict_layers")
    sparse = set(_sparse(r, layers))
    types = r.words("layer_types", (FULL, SLIDING), None) or [FULL] * layers
    if len(types) not in (layers, layers + depth):
        r.refuse("layer_types", f"has {len(types)} entries, the model has {layers} layers and {depth} for MTP")
    return {
        **gated(r),
        **experts(r, "moe_num_experts", "moe_intermediate_size", "moe_top_k"),
        **by_layer([i in sparse for i in range(layers)]),
        **mtp(r),
        "num_query_groups": r.needed("num_attention_groups", "num_key_value_heads"),
        "moe_shared_expert_intermediate_size": r.integer("share_expert_dim", "share_expert_dims"),
        "moe_router_score_function": r.word("moe_router_activation") or "softmax",
        "moe_router_enable_expert_bias": r.truth("use_moe_router_bias", False),
        "qk_layernorm": r.truth("use_qk_norm", True),
        "attention_output_gate": r.truth("use_head_wise_attn_gate", False),  # Bridge widens it to every channel
        "mtp_dense": True if depth else None,
        **_windowed(r, [kind == SLIDING for kind in types[:layers]]),
    }


def _sparse(r: Reader, layers: int) -> list[int]:
    """``moe_layers_enum``: the layers with experts, as text or as a list."""
    text = r.config.get("moe_layers_enum")
    if not isinstance(text, str):
        named = r.integers("moe_layers_enum") or list(range(layers))
    elif all(word.strip().isdigit() for word in text.split(",")):
        named = [int(word) for word in text.split(",")]
    else:
        r.refuse("moe_layers_enum", f"is {text[:40]!r}: it must be numbers with commas between")
    if named and max(named) >= layers:
        r.refuse("moe_layers_enum", f"names layer {max(named)}, the model has {layers}, counted from 0")
    return named


def _windowed(r: Reader, sliding: list[bool]) -> Values:
    if not any(sliding):
        return {}
    other = r.below("attention_other_setting") if r.config.get("attention_other_setting") is not None else None
    values: Values = {"window_size": r.needed("sliding_window")}
    if not all(sliding):
        values["window_attn_skip_freq"] = [int(layer) for layer in sliding]
    if other is not None:
        values |= {
            "window_num_attention_heads": other.integer("num_attention_heads"),
            "window_num_query_groups": other.integer("num_attention_groups"),
            "window_kv_channels": other.integer("head_dim"),
        }
    return values


STEPFUN: dict[str, Callable[[Reader], Values]] = {"step3p5": _step3p5}
