"""Gemma: wide heads, tied embeddings, and since the second generation a norm before and after each part."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import Values, gated, windows

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


GEMMA: dict[str, Callable[[Reader], Values]] = {"gemma": _gemma, "gemma2": _gemma2, "gemma3_text": _gemma3}
