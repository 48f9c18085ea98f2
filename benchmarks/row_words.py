"""What both kinds of measured rows say in the same words: what is recomputed, in which precision, of which family."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.rows import Skipped

__all__ = ["only_decoders", "precision_of", "recompute_words"]

NOT_DECODERS = ("bert", "t5", "biencoder")
WITH_TOWERS = ("mimo", "multimodal", "llava")


def recompute_words(value: str) -> dict[str, Any]:
    """``none``, ``full:uniform:1``, ``selective:moe_act,layernorm`` or ``selective:[a b]:``."""
    kind, _, rest = value.partition(":")
    if kind == "full":
        method, _, layers = rest.partition(":")
        return {
            "recompute_granularity": "full",
            "recompute_method": method or "uniform",
            "recompute_num_layers": int(layers) if layers.isdigit() else 1,
        }
    if kind == "selective":
        modules = re.findall(r"[a-z_]+", rest) or ["core_attn"]
        return {"recompute_granularity": "selective", "recompute_modules": modules}
    return {}


def precision_of(value: str) -> str:
    """The precision in our names, from a dtype or an fp8 recipe."""
    for word, name in (("tensorwise", "fp8_cs"), ("blockwise", "fp8_sc"), ("mxfp8", "fp8_mx"), ("nvfp4", "nvfp4")):
        if word in value:
            return name
    return "fp16" if value == "fp16" else "bf16"


def only_decoders(family: str, name: str) -> None:
    """Raise :class:`~benchmarks.rows.Skipped` for what is no decoder trained by itself."""
    if family.lower() in NOT_DECODERS:
        raise Skipped("encoder-decoder or BERT")
    if family.lower() in WITH_TOWERS or any(f"{word}_" in name.lower() for word in WITH_TOWERS):
        raise Skipped("a vision tower beside the language model")
    if "distill" in name.lower():
        raise Skipped("distillation: a teacher beside the student")
    if "grpo" in name.lower():
        raise Skipped("reinforcement learning: an inference engine's cache beside training")
