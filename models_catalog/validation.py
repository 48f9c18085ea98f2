"""Entries that come from outside, checked before they become objects. The one place that imports pydantic for the catalog.

Types are pydantic's (strict: ``true`` is not 1, ``8.0`` is not 8); what follows is what types cannot say. Megatron's own
laws (heads over groups, say) are not repeated here: the rules judge them, with their sources.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from models_catalog.documents import Places
from models_catalog.errors import InvalidEntry
from models_catalog.loader import gpu_fields, layer_pattern, model_fields
from models_catalog.model_checks import PATTERNS, entry_faults, faults
from models_catalog.schema import HYBRID_SYMBOLS, GpuSpec, ModelSpec

__all__ = ["model_from_mapping", "shape_of", "validated_gpu", "validated_model"]

LARGEST = {"num_layers": 10_000, "num_moe_experts": 1_000_000, "mtp_num_layers": 100}
LARGEST_SIZE = 100_000_000
LARGEST_COUNT = 10**15
RATES = ("_bytes_per_second", "_flops")
LEAST_RATE, LARGEST_RATE = 10**8, 10**18
"""A rate below is somebody's GB/s or TFLOP/s; products of a rate above would leave 64 bits."""

DEFAULT_VOCABULARY = 128256
"""For an inline model that names none: its embedding is then only roughly sized, and a warning says so."""

RENAMED = {"hybrid_layer_pattern": "hybrid_override_pattern"}
"""Megatron's newer names of the same field."""

_FIELDS = tuple(f.name for f in fields(ModelSpec))


@cache
def shape_of(spec: type) -> type[BaseModel]:
    """The fields of a catalog dataclass as a strict pydantic model."""
    hints = get_type_hints(spec)
    shape: dict[str, Any] = {
        f.name: (hints[f.name], ... if f.default is MISSING else f.default) for f in fields(spec) if f.init
    }
    return create_model(spec.__name__, __config__=ConfigDict(strict=True, extra="forbid"), **shape)


def validated_model(data: dict[str, Any], origin: str, places: Places | None = None) -> ModelSpec:
    """A model from an entry: every key must be a field, and what the entry says must be whole.

    Raises :class:`~models_catalog.errors.InvalidEntry` naming the field at fault and its place.
    """
    places = places or {}
    data = {RENAMED.get(name, name): value for name, value in data.items()}
    for name in data:
        if name not in _FIELDS:
            close = difflib.get_close_matches(name, _FIELDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InvalidEntry(_where(origin, name, places), name, f"is not a field of a model{hint}")
    _needed(data, origin)
    model = _model(data, origin, places)
    for name, message in entry_faults(model, {name for name, value in data.items() if value is not None}):
        raise InvalidEntry(_where(origin, name, places), name, message)
    return model


def model_from_mapping(data: dict[str, Any], origin: str) -> tuple[ModelSpec, list[str]]:
    """An inline model: any Megatron provider field may stand there; unknown ones are ignored, each with a warning.

    ``None`` is "not set". Raises :class:`~models_catalog.errors.InvalidEntry`.
    """
    warnings, known = [], {}
    for key, value in data.items():
        name = RENAMED.get(key, key)
        if name not in _FIELDS:
            warnings.append(f"model field {key} is not known here and ignored")
        elif value is not None:
            known[name] = value
    _own_window(known)
    if "vocab_size" not in known:
        known["vocab_size"] = DEFAULT_VOCABULARY
        warnings.append(f"model.vocab_size is not given: {DEFAULT_VOCABULARY} assumed")
    known.setdefault("name", "inline")
    _needed(known, origin)
    return _model(known, origin, {}), warnings


def _own_window(values: dict[str, Any]) -> None:
    """Megatron writes ``(left, right)``, without the token itself; -1 is no window."""
    window = values.get("window_size")
    if isinstance(window, list | tuple) and window and type(window[0]) is int:
        if window[0] < 0:
            del values["window_size"]
        else:
            values["window_size"] = window[0] + 1


def _needed(data: dict[str, Any], origin: str) -> None:
    for name in ("num_layers", "hidden_size", "num_attention_heads", "vocab_size"):
        if data.get(name) is None and not (name == "num_layers" and data.get("hybrid_override_pattern")):
            raise InvalidEntry(origin, name, "is missing")


def validated_gpu(data: dict[str, Any], origin: str, places: Places | None = None) -> GpuSpec:
    """A GPU from a mapping. Raises :class:`~models_catalog.errors.InvalidEntry`."""
    places, known = places or {}, [f.name for f in fields(GpuSpec)]
    for name in data:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InvalidEntry(_where(origin, name, places), name, f"is not a field of a GPU{hint}")
    for f in fields(GpuSpec):
        if f.default is MISSING and f.name not in data:
            raise InvalidEntry(origin, f.name, "is missing (or write like: NAME, to take it from a GPU of the catalog)")
    data = {name: _plain_number(value) if name.endswith(RATES) else value for name, value in data.items()}
    try:
        values = gpu_fields(data)
    except (TypeError, ValueError):
        where = _where(origin, "collective_efficiency", places)
        raise InvalidEntry(where, "collective_efficiency", "must be pairs, as in [[2, 0.5], [8, 0.7]]") from None
    gpu: GpuSpec = _typed(GpuSpec, values, origin, places)
    _gpu_contradictions(gpu, origin, places)
    return gpu


def _plain_number(value: Any) -> Any:
    """``450e9`` is text in YAML and ``4.5e11`` a float: both are meant as whole numbers."""
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?e\+?\d{1,2}", value, re.IGNORECASE):
        value = float(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _gpu_contradictions(gpu: GpuSpec, origin: str, places: Places) -> None:
    def refuse(name: str, message: str) -> None:
        raise InvalidEntry(_where(origin, name, places), name, message)

    for field in fields(GpuSpec):
        value = getattr(gpu, field.name)
        if not isinstance(value, int | float):
            continue
        if not 0 < value <= LARGEST_RATE:
            refuse(field.name, f"is {value}: it must be above 0, at most {LARGEST_RATE:.0e}")
        if field.name.endswith(RATES) and value < LEAST_RATE:
            refuse(field.name, f"is {value}: it is counted in single bytes or operations per second, as in 450e9")
    if gpu.usable_gib > gpu.label_gib:
        refuse("usable_gib", f"is {gpu.usable_gib}, more than the label's {gpu.label_gib}")
    if gpu.network_efficiency > 1:
        refuse("network_efficiency", f"is {gpu.network_efficiency}: it is a share, at most 1")
    sizes = [size for size, _ in gpu.collective_efficiency]
    if not sizes or sizes != sorted(set(sizes)) or sizes[0] < 2:
        refuse("collective_efficiency", "must name rising group sizes from 2 up, as in [[2, 0.5], [8, 0.7]]")
    if not all(0 < share <= 1 for _, share in gpu.collective_efficiency):
        refuse("collective_efficiency", "has a share that is not above 0 and at most 1")


def _model(data: dict[str, Any], origin: str, places: Places) -> ModelSpec:
    _types_of_patterns(data, origin, places)
    values = model_fields(data, origin)
    pattern = values.get("hybrid_override_pattern")
    if pattern is not None:
        values["num_layers"] = _hybrid_layers(
            values.get("num_layers"), pattern, _where(origin, "hybrid_override_pattern", places)
        )
    model: ModelSpec = _typed(ModelSpec, values, origin, places)
    for field in fields(ModelSpec):
        value = getattr(model, field.name)
        if value != field.default:
            _size(field.name, value, _where(origin, field.name, places))
    for name, message in faults(model):
        raise InvalidEntry(_where(origin, name, places), name, message)
    return model


def _types_of_patterns(data: dict[str, Any], origin: str, places: Places) -> None:
    """Patterns are unfolded before pydantic sees them, so their own types come first."""
    for name in PATTERNS:
        value, where = data.get(name), _where(origin, name, places)
        if isinstance(value, list) and not all(type(item) is int and item in (0, 1) for item in value):
            raise InvalidEntry(where, name, "must be a list of 0 and 1")
        if isinstance(value, str):
            layer_pattern(value, name, where)
    pattern = data.get("hybrid_override_pattern")
    if pattern is not None and not isinstance(pattern, str):
        where = _where(origin, "hybrid_override_pattern", places)
        raise InvalidEntry(where, "hybrid_override_pattern", "must be text")


def _typed(spec: type, values: dict[str, Any], origin: str, places: Places) -> Any:
    try:
        shape_of(spec).model_validate(values)
        _one_line(values, origin, places)
        return spec(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else None
        message = str(first["msg"]).removeprefix("Input should be ")
        shown = repr(first.get("input"))[:60]
        raise InvalidEntry(_where(origin, name, places), name, f"is {shown}: it must be {message}") from None


def _one_line(values: dict[str, Any], origin: str, places: Places) -> None:
    """Names reach terminals and scripts: no text but notes and sources may hold a line break or another control character."""
    for name, value in values.items():
        words = value if isinstance(value, tuple) else (value,)
        several = "\n\t" if name in ("note", "sources") else ""
        for word in words:
            if isinstance(word, str) and not all(c.isprintable() or c in several for c in word):
                message = f"is {word[:60]!r}: it must be text in one line, without control characters"
                raise InvalidEntry(_where(origin, name, places), name, message)


def _where(origin: str, name: str | None, places: Places) -> str:
    if name is None or name not in places:
        return origin
    line, column = places[name]
    return f"{origin}:{line}:{column}"


def _size(name: str, value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        return
    largest = LARGEST_COUNT if name.endswith("parameters") else LARGEST.get(name, LARGEST_SIZE)
    least = (
        0 if name in ("mtp_num_layers", "num_moe_experts", "moe_latent_size", "q_lora_rank", "moe_layer_freq") else 1
    )
    if not least <= value <= largest:
        raise InvalidEntry(where, name, f"is {value}: it must be from {least} to {largest}")


def _hybrid_layers(given: Any, pattern: str, where: str) -> int:
    main = pattern.split("/")[0].replace("|", "")
    unknown = sorted(set(re.sub(r"[|/]", "", pattern)) - set(HYBRID_SYMBOLS))
    if unknown:
        known = " ".join(HYBRID_SYMBOLS)
        raise InvalidEntry(where, "hybrid_override_pattern", f"has {unknown[0]!r}: the symbols are {known}, | and /")
    if given is not None and given != len(main):
        raise InvalidEntry(where, "num_layers", f"is {given}, the hybrid pattern has {len(main)} symbols")
    return len(main)
