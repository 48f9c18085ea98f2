"""What a precision is called: here, in Megatron Bridge's recipes, and as Megatron's fp8 and fp4 fields.

Sources: NVIDIA-NeMo/Megatron-Bridge@067f987 ``src/megatron/bridge/training/mixed_precision.py``;
NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/transformer/transformer_config.py`` (``fp8_recipe``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["FP8_RECIPES", "MIXED_PRECISION", "PRECISIONS", "PRECISION_FIELDS", "RECIPE_SWITCHES", "precision_of"]

MIXED_PRECISION = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "fp8_cs": "bf16_with_fp8_current_scaling_mixed",
    "fp8_ds": "bf16_with_fp8_delayed_scaling_mixed",
    "fp8_sc": "bf16_with_fp8_subchannel_scaling_mixed",
    "fp8_mx": "bf16_with_mxfp8_mixed",
    "nvfp4": "bf16_with_nvfp4_mixed",
}
"""Precision to the recipe that Bridge calls it by."""

PRECISIONS = tuple(MIXED_PRECISION)

_OTHER_RECIPES = {
    "fp16_with_fp8_current_scaling_mixed": "fp8_cs",
    "fp16_with_fp8_delayed_scaling_mixed": "fp8_ds",
    "fp16_with_fp8_subchannel_scaling_mixed": "fp8_sc",
    "fp16_with_mxfp8_mixed": "fp8_mx",
    "nemotron_h_bf16_with_fp8_current_scaling_mixed": "fp8_cs",
    "nanov2_bf16_with_fp8_current_scaling_mixed": "fp8_sc",
    "nemotron_3_super_bf16_with_nvfp4_mixed": "nvfp4",
}
_OF_RECIPE = {recipe: name for name, recipe in MIXED_PRECISION.items()} | _OTHER_RECIPES

_ENDS_IN_BF16 = {"first_last_layers_bf16": True, "num_layers_at_start_in_bf16": 1, "num_layers_at_end_in_bf16": 1}
_NO_GATHER = {"grad_reduce_in_fp32": True, "fp8_param_gather": False, "first_last_layers_bf16": False}
RECIPE_SWITCHES: dict[str, dict[str, Any]] = {
    "bf16": _NO_GATHER,
    "fp16": _NO_GATHER | {"grad_reduce_in_fp32": False},
    "fp8_cs": _NO_GATHER | {"fp8_param_gather": True} | _ENDS_IN_BF16,
    "fp8_ds": _NO_GATHER | {"fp8_param_gather": True},
    "fp8_sc": _NO_GATHER,
    "fp8_mx": _NO_GATHER | {"fp8_param_gather": True, "reuse_grad_buf_for_mxfp8_param_ag": True},
    "nvfp4": _NO_GATHER,
}
"""Precision to the switches that Bridge's recipe of that name sets itself, and lays over those of the model and ddp."""

FP8_RECIPES = {"fp8_cs": "tensorwise", "fp8_ds": "delayed", "fp8_sc": "blockwise", "fp8_mx": "mxfp8"}
"""Precision to Megatron's ``fp8_recipe``."""

PRECISION_FIELDS = ("precision", "mixed_precision", "fp4", "fp8", "fp8_recipe", "fp16", "bf16")
"""Every word that says something about the precision."""


def precision_of(words: Mapping[str, Any]) -> str | None:
    """The precision that ``words`` (of :data:`PRECISION_FIELDS`) mean together, ``None`` if they say nothing.

    Bridge lays its recipe over the model's own fields, so ``mixed_precision`` goes before them; ``fp8`` without a recipe
    is delayed scaling, Megatron-Core's default. Raises ``ValueError`` for a name that neither Bridge nor Megatron knows.

    >>> precision_of({"fp8": "hybrid", "fp8_recipe": "tensorwise", "bf16": True})
    'fp8_cs'
    """
    given = {name: value for name, value in words.items() if value not in (None, False, "", "null", "none")}
    if "precision" in given:
        return _known(given["precision"], {name: name for name in PRECISIONS}, "precision")
    if "mixed_precision" in given:
        return _known(str(given["mixed_precision"]).replace("-", "_"), _OF_RECIPE, "mixed_precision")
    if "fp4" in given:
        return "nvfp4"
    if "fp8" in given:
        recipes = {recipe: name for name, recipe in FP8_RECIPES.items()}
        return _known(given.get("fp8_recipe", "delayed"), recipes, "fp8_recipe")
    return "fp16" if "fp16" in given else "bf16" if "bf16" in given else None


def _known(value: Any, names: Mapping[str, str], field: str) -> str:
    if not isinstance(value, str) or value not in names:
        import difflib

        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f"; did you mean {close[0]}?" if close else f": it is none of {', '.join(names)}"
        raise ValueError(f"{field} {str(value)[:60]!r} is not known{hint}")
    return names[value]
