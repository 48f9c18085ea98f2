"""Dense decoders of the Llama kind and their neighbours: one ``model_type`` a function, the source of each beside it."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import Values, common, gated, windows

__all__ = ["DENSE"]


def _mistral(r: Reader) -> Values:
    """``mistral/mistral_bridge.py``: ``sliding_window`` holds for all layers; transformers' default for it is 4096."""
    layers = r.needed("num_hidden_layers")
    size = r.integer("sliding_window") if r.has("sliding_window") else 4096
    return {**gated(r), **windows(r, size, [size is not None] * layers)}


def _ministral3(r: Reader) -> Values:
    size = r.integer("sliding_window")
    return {**gated(r), **windows(r, size, [size is not None] * r.needed("num_hidden_layers"))}


def _late_windows(r: Reader) -> Values:
    """Qwen's way: from ``max_window_layers`` on, if ``use_sliding_window`` says so at all."""
    layers, first = r.needed("num_hidden_layers"), r.count("max_window_layers", default=28)
    size = r.integer("sliding_window", default=4096) if r.truth("use_sliding_window", False) else None
    return windows(r, size, [size is not None and i >= first for i in range(layers)])


def qwen2(r: Reader) -> Values:
    """``qwen/qwen2_bridge.py``: a bias on queries, keys and values whatever the config says."""
    return {**gated(r), "add_qkv_bias": True, **_late_windows(r)}


def _mimo(r: Reader) -> Values:
    """``mimo/mimo_bridge.py``: Qwen 2 with MTP layers."""
    from models_catalog.huggingface.shared import mtp

    return {**qwen2(r), **mtp(r)}


def qwen3(r: Reader) -> Values:
    """``qwen/qwen3_bridge.py``: queries and keys are normed head by head; transformers' default width of a head is 128."""
    head = r.integer("head_dim", default=128)
    return {**gated(r), "kv_channels": head, "qk_layernorm": True, **_late_windows(r)}


def _phi3(r: Reader) -> Values:
    """transformers ``phi3``: Llama with fused projections; ``sliding_window`` holds for all layers."""
    size = r.integer("sliding_window")
    return {**gated(r), **windows(r, size, [size is not None] * r.needed("num_hidden_layers"))}


def _nemotron(r: Reader) -> Values:
    """``nemotron/nemotron_bridge.py``: LayerNorm, squared ReLU without a gate."""
    return {
        **common(r, norm="LayerNorm"),
        "add_qkv_bias": r.truth("attention_bias", False),
        "add_bias_linear": r.truth("mlp_bias", False),
    }


def _olmo2(r: Reader) -> Values:
    """transformers ``olmo2``: norms after each part instead of before, queries and keys normed over all heads."""
    return {**gated(r), "qk_layernorm": True, "qk_layernorm_all_heads": True}


def _olmo3(r: Reader) -> Values:
    layers = r.needed("num_hidden_layers")
    size = r.integer("sliding_window") if r.has("sliding_window") else 4096
    return {**_olmo2(r), **windows(r, size, [bool((i + 1) % 4) for i in range(layers)])}


def exaone4(r: Reader) -> Values:
    """``exaone/exaone4/exaone4_bridge.py``: norms after each part; windows where ``sliding_window_pattern`` says L."""
    layers, size = r.needed("num_hidden_layers"), r.integer("sliding_window")
    return {**gated(r), "qk_layernorm": True, **windows(r, size, exaone_pattern(r, layers, size))}


def exaone_pattern(r: Reader, layers: int, size: int | None) -> list[bool]:
    """``LLLG`` (local and global layers, repeated), or N: every N-th layer is global."""
    if size is None:
        return [False] * layers
    pattern = r.config.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        return [pattern[i % len(pattern)] == "L" for i in range(layers)]
    if isinstance(pattern, str):
        r.refuse("sliding_window_pattern", f"is {pattern!r}: it must be a number, or L and G as in LLLG")
    every = r.integer("sliding_window_pattern", default=4) or 4
    return [bool((i + 1) % every) for i in range(layers)]


def _ernie(r: Reader) -> Values:
    """transformers ``ernie4_5``: embeddings are tied, heads are 128 wide unless the config says otherwise."""
    head = r.integer("head_dim", default=128)
    return {**gated(r, tied=True), "kv_channels": head, "add_bias_linear": r.truth("use_bias", False)}


def _cohere(r: Reader) -> Values:
    """transformers ``cohere``: attention and feed-forward read one normed input; a norm of its own for each head."""
    return {
        **gated(r, tied=True),
        "normalization": "LayerNorm",
        "norms_per_layer": 1,
        "max_position_embeddings": r.integer("model_max_length", "max_position_embeddings"),
        "qk_layernorm": r.truth("use_qk_norm", False),
        "qk_layernorm_all_heads": r.truth("use_qk_norm", False),
    }


def _cohere2(r: Reader) -> Values:
    layers, every = r.needed("num_hidden_layers"), r.integer("sliding_window_pattern", default=4) or 4
    size = r.integer("sliding_window") if r.has("sliding_window") else 4096
    return {**_cohere(r), **windows(r, size, [bool((i + 1) % every) for i in range(layers)])}


def _starcoder2(r: Reader) -> Values:
    """transformers ``starcoder2``: LayerNorm, biases, no gate, a window on all layers."""
    size = r.integer("sliding_window")
    return {
        **common(r, tied=True, norm="LayerNorm"),
        "add_bias_linear": r.truth("use_bias", True),
        **windows(r, size, [size is not None] * r.needed("num_hidden_layers")),
    }


DENSE: dict[str, Callable[[Reader], Values]] = {
    "llama": gated,
    "mistral": _mistral,
    "ministral3": _ministral3,
    "qwen2": qwen2,
    "mimo": _mimo,
    "qwen3": qwen3,
    "phi3": _phi3,
    "nemotron": _nemotron,
    "olmo2": _olmo2,
    "olmo3": _olmo3,
    "exaone4": exaone4,
    "ernie4_5": _ernie,
    "granite": gated,
    "cohere": _cohere,
    "cohere2": _cohere2,
    "starcoder2": _starcoder2,
}
