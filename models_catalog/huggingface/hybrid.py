"""Layers that are not attention: gated delta net in Qwen's way, Mamba in Nemotron's and Granite's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import (
    FULL,
    LINEAR,
    Values,
    attention_layers,
    common,
    experts,
    gated,
    grouped_routing,
    mtp,
    sigmoid_routing,
    sparse_steps,
)

__all__ = ["HYBRID"]

SYMBOLS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}
"""transformers' words for the layers of ``nemotron_h``, old and new, as Megatron's symbols."""


def _delta_net(r: Reader) -> Values:
    """``qwen/qwen3_next_bridge.py``: every ``full_attention_interval``-th layer is attention with an output gate."""
    layers, every = r.needed("num_hidden_layers"), r.integer("full_attention_interval", default=4) or 4
    types = attention_layers(r, (FULL, LINEAR))
    linear = [bool((i + 1) % every) for i in range(layers)] if types is None else [kind == LINEAR for kind in types]
    return {
        **gated(r),
        "kv_channels": r.integer("head_dim", default=256),
        "qk_layernorm": True,
        "attention_output_gate": True,
        "experimental_attention_variant": "gated_delta_net",
        "linear_attention_freq": _interval(linear),
        "linear_num_key_heads": r.integer("linear_num_key_heads", default=16),
        "linear_num_value_heads": r.integer("linear_num_value_heads", default=32),
        "linear_key_head_dim": r.integer("linear_key_head_dim", default=128),
        "linear_value_head_dim": r.integer("linear_value_head_dim", default=128),
        "linear_conv_kernel_dim": r.integer("linear_conv_kernel_dim", default=4),
        **mtp(r),
    }


def _interval(linear: Sequence[bool]) -> int | list[int]:
    """N, if just every N-th layer is attention; else the layers one by one, 1 where they are linear."""
    first = linear.index(False) + 1 if False in linear else len(linear) + 1
    periodic = all(layer == bool((i + 1) % first) for i, layer in enumerate(linear))
    return first if periodic else [int(layer) for layer in linear]


def _delta_net_experts(r: Reader) -> Values:
    wide = r.integer("intermediate_size", default=r.needed("moe_intermediate_size"))
    below = Reader({**r.config, "intermediate_size": wide}, r.origin, r.places, r.prefix)
    return {
        **_delta_net(below),
        **experts(r, "num_experts", "moe_intermediate_size"),
        **sparse_steps(r),
        "moe_shared_expert_intermediate_size": r.integer("shared_expert_intermediate_size", default=512),
        "moe_shared_expert_gate": True,
        "moe_router_load_balancing_type": "global_aux_loss",
    }


def _nemotron_h(r: Reader) -> Values:
    """``nemotronh/nemotron_h_bridge.py``: one symbol a layer, ``/`` before those of an MTP block; squared ReLU, no gate."""
    main = _symbols(r, "hybrid_override_pattern", "layers_block_type", r.integer("num_hidden_layers"))
    if main is None:
        r.refuse("hybrid_override_pattern", "is missing")
    depth = r.count("num_nextn_predict_layers")
    block = _symbols(r, "mtp_hybrid_override_pattern", "mtp_layers_block_type", None) if depth else None
    values = {
        **common(Reader({**r.config, "num_hidden_layers": len(main)}, r.origin, r.places, r.prefix)),
        "kv_channels": r.integer("head_dim", "attention_head_dim", default=128),
        "ffn_hidden_size": r.needed("intermediate_size"),
        "hybrid_override_pattern": main + f"/{block}" * depth if block else main,
        "position_embedding_type": "none",
        "add_bias_linear": r.truth("use_bias", False),
        "mamba_num_heads": r.needed("mamba_num_heads"),
        "mamba_head_dim": r.needed("mamba_head_dim"),
        "mamba_state_dim": r.needed("ssm_state_size"),
        "mamba_num_groups": r.needed("n_groups"),
        "mtp_num_layers": depth or None,
        "mtp_use_repeated_layer": (r.truth("mtp_use_repeated_layer", True) or None) if depth else None,
    }
    return {**values, **_nemotron_experts(r)} if "E" in main else values


def _nemotron_experts(r: Reader) -> Values:
    return {
        **experts(r, "n_routed_experts", "moe_intermediate_size"),
        **grouped_routing(r),
        **sigmoid_routing(),
        "moe_shared_expert_intermediate_size": r.integer("moe_shared_expert_intermediate_size"),
        "moe_latent_size": r.integer("moe_latent_size"),
    }


def _symbols(r: Reader, pattern: str, words: str, length: int | None) -> str | None:
    """Layers from a pattern of symbols, or from a list of words."""
    text = r.word(pattern)
    if text is None:
        named = r.words(words, tuple(SYMBOLS), None)
        text = None if named is None else "".join(SYMBOLS[word] for word in named)
    if text is None:
        return None
    given = pattern if r.word(pattern) is not None else words
    if not text or set(text) - set("M*-E"):
        r.refuse(given, f"is {text!r}: the symbols are M * - E")
    if length is not None and length != len(text):
        r.refuse(given, f"has {len(text)} layers, num_hidden_layers is {length}")
    return text


def _granite_hybrid(r: Reader) -> Values:
    """transformers ``granitemoehybrid`` (Granite 4): each layer is a mixer and a feed-forward part, two of Megatron's.

    A layer with experts has a shared one beside them; without experts the shared one is all there is.
    """
    layers, number = r.needed("num_hidden_layers"), r.count("num_local_experts")
    mixers = r.words("layer_types", ("mamba", "attention", FULL, LINEAR), layers) or ["mamba"] * layers
    inner = r.integer("mamba_expand", default=2) or 2
    heads = r.needed("mamba_n_heads")
    head = None if r.config.get("mamba_d_head") == "auto" else r.integer("mamba_d_head")
    shared = r.needed("shared_intermediate_size")
    values = {
        **common(r),
        "num_layers": 2 * layers,
        "ffn_hidden_size": shared,
        "gated_linear_unit": True,
        "add_qkv_bias": r.truth("attention_bias", False),
        "hybrid_override_pattern": "".join(SYMBOLS[mixer] + ("E" if number else "-") for mixer in mixers),
        "position_embedding_type": "none" if r.word("position_embedding_type") == "nope" else "rope",
        "mamba_num_heads": heads,
        "mamba_head_dim": head or inner * r.needed("hidden_size") // heads,
        "mamba_state_dim": r.integer("mamba_d_state", default=256),
        "mamba_num_groups": r.integer("mamba_n_groups", default=1),
    }
    if not number:
        return values
    routed = experts(r, "num_local_experts", "intermediate_size")
    return {**values, **routed, "moe_shared_expert_intermediate_size": shared}


HYBRID: dict[str, Callable[[Reader], Values]] = {
    "qwen3_next": _delta_net_experts,
    "qwen3_5_text": _delta_net,
    "qwen3_5_moe_text": _delta_net_experts,
    "nemotron_h": _nemotron_h,
    "granitemoehybrid": _granite_hybrid,
}
