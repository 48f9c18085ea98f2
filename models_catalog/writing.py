"""An entry as the YAML that :mod:`models_catalog.loader` reads back: the same model or GPU, field for field."""

from __future__ import annotations

from typing import Any

from models_catalog.patterns import pattern_text
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["entry_text"]

FIRST = ("name", "hf_id", "family", "aliases")
LAST = ("total_parameters", "active_parameters", "parameters_exact", "parameters_include_mtp", "sources", "note")
PATTERNS = ("moe_layer_freq", "window_attn_skip_freq", "linear_attention_freq")
WIDTH = 116


def entry_text(spec: ModelSpec | GpuSpec) -> str:
    """The entry: names first, then what differs from the schema's defaults, then counts and sources; no other words."""
    from dataclasses import MISSING, fields

    stated = {
        f.name: getattr(spec, f.name)
        for f in fields(spec)
        if f.default is MISSING or getattr(spec, f.name) != f.default or _always(spec, f.name)
    }
    order = [*FIRST, *(name for name in stated if name not in FIRST + LAST), *LAST]
    return "".join(_line(name, stated[name]) for name in order if name in stated)


def _always(spec: ModelSpec | GpuSpec, name: str) -> bool:
    """Whether an entry has to say ``name`` even where it is the default."""
    return name == "moe_router_topk" and isinstance(spec, ModelSpec) and spec.is_moe


def _line(name: str, value: Any) -> str:
    import yaml

    if name in PATTERNS and isinstance(value, tuple):
        value = pattern_text(value)
    if isinstance(value, list | tuple) and name != "sources":
        value = [list(item) if isinstance(item, tuple) else item for item in value]
        return f"{name}: {yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=WIDTH)}"
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump({name: value}, default_flow_style=False, allow_unicode=True, width=WIDTH)
    return text
