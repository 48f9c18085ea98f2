"""Models around a language model - vision, audio - and where in their configs the language model is."""

from __future__ import annotations

from collections.abc import Container

from models_catalog.huggingface.reader import Reader

__all__ = ["language_part"]

LEVELS = ("text_config", "llm_config", "language_config")
"""Keys under which the language model's own config stands (``thinker_config`` of the omni models holds one more level)."""

TEXT_TYPES = {
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen3_omni_moe_text": "qwen3_moe",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen2_5_omni_text": "qwen2",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "mistral3": "mistral",
    "kimi_k25": "kimi_k2",
    "glm4v_moe": "glm4_moe",
    "glm4v_moe_text": "glm4_moe",
    "exaone4_5": "exaone4",
    "exaone4_5_text": "exaone4",
    "granitemoeshared_text": "granitemoeshared",
}
"""``model_type`` of a wrapper, or of the text inside one, to the family whose layers it has."""

OUTER = {"minimax_m3_vl": "minimax_m3_vl_text"}
"""Wrappers that say what is inside better than the inside does: MiniMax-M3's text calls itself ``minimax_m2``."""

OWN_EMBEDDINGS = ("mistral3",)
"""Wrappers whose ``tie_word_embeddings`` is that of the language part (``ministral3/ministral3_bridge.py``)."""


def language_part(r: Reader, families: Container[str]) -> tuple[Reader, str | None]:
    """The language model inside, under the ``model_type`` of its family, and a note that says so; ``r`` itself if it is one.

    Embeddings are tied as the outer config says where it says so: the inner one often repeats a default
    (``qwen_vl/qwen3_vl_bridge.py``).
    """
    outer = r.word("model_type")
    if outer in families:
        return r, None
    inner = _inside(r)
    if inner is None:
        flat = TEXT_TYPES.get(outer or "", OUTER.get(outer or ""))
        return (_as(r, flat), _note(outer)) if flat else (r, None)
    kind = inner.word("model_type") or outer or ""
    family = OUTER.get(outer or "", TEXT_TYPES.get(kind, kind))
    part = _as(inner, family)
    if r.config.get("tie_word_embeddings") is not None and outer not in OWN_EMBEDDINGS:
        part.config["tie_word_embeddings"] = r.truth("tie_word_embeddings", False)
    return part, _note(outer) if family in families else None


def _inside(r: Reader) -> Reader | None:
    if isinstance(r.config.get("thinker_config"), dict):
        r = r.below("thinker_config")
    for name in LEVELS:
        if isinstance(r.config.get(name), dict):
            return r.below(name)
    return None


def _as(r: Reader, kind: str) -> Reader:
    return Reader({**r.config, "model_type": kind}, r.origin, r.places, r.prefix)


def _note(outer: str | None) -> str:
    return f"the language part of {outer or 'a model around it'} only: its other towers are left out"
