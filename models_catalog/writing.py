"""An entry as the YAML that :mod:`models_catalog.loader` reads back: the same model or GPU, field for field."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["entry_text", "pattern_text"]

FIRST = ("name", "hf_id", "family", "aliases")
LAST = ("total_parameters", "active_parameters", "parameters_exact", "parameters_include_mtp", "sources", "note")
MOST_RUNS = 6
WIDTH = 116


def entry_text(spec: ModelSpec | GpuSpec) -> str:
    """The entry: names first, then what differs from the schema's defaults, then counts and sources; no other words."""
    from dataclasses import MISSING, fields

    stated = {
        f.name: getattr(spec, f.name)
        for f in fields(spec)
        if f.default is MISSING or getattr(spec, f.name) != f.default
    }
    if isinstance(spec, ModelSpec) and spec.is_hybrid:
        stated.pop("num_layers")  # the pattern says it
    order = [*FIRST, *(name for name in stated if name not in FIRST + LAST), *LAST]
    return "".join(_line(name, stated[name]) for name in order if name in stated)


def pattern_text(pattern: Sequence[int]) -> str | list[int]:
    """A layer pattern in Megatron's short form if it has few runs, else the list.

    >>> pattern_text((0, 1, 1, 1))
    '([0]*1+[1]*3)'
    """
    runs = [(value, len(list(run))) for value, run in groupby(pattern)]
    if len(runs) > MOST_RUNS:
        return list(pattern)
    return "(" + "+".join(f"[{value}]*{length}" for value, length in runs) + ")"


def _line(name: str, value: Any) -> str:
    import yaml

    if name == "moe_layer_freq" and isinstance(value, tuple):
        value = pattern_text(value)
    if isinstance(value, list | tuple) and name != "sources":
        value = [list(item) if isinstance(item, tuple) else item for item in value]
        return f"{name}: {yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=WIDTH)}"
    value = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump({name: value}, default_flow_style=False, allow_unicode=True, width=WIDTH)
    return text
