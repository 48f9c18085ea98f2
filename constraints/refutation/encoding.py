"""Problems as JSON and back, so that a certificate says whole what it is about; one canonical text, and its digest.

A model or GPU of the catalog is named, with a digest of the entry; what differs from the entry, or is not in the catalog,
is written out and validated as any entry from outside.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache, lru_cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from constraints.layout import Settings
from constraints.pins import Limit, Pin, PinCount, PinRecompute
from constraints.problem import Origin, Problem
from constraints.recompute import METHODS
from constraints.rule import Rule
from models_catalog import loader
from models_catalog.errors import CatalogError
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["InvalidEncoding", "canonical", "decoded", "decoded_changes", "digest", "encoded", "encoded_changes"]

PLAIN = tuple(f.name for f in fields(Problem) if f.name not in ("model", "gpu", "settings", "pins", "origins"))
"""Fields of a problem that JSON holds as they are."""
LARGEST_COUNTS = {"gpus": 10**6, "gpus_per_node": 10**6, "nvlink_domain": 10**6, "seq_length": 10**8}
LARGEST_COUNTS |= {"global_batch_size": 10**8, "budget_bytes": 10**16, "imbalance_percent": 10**5}
LARGEST_PINNED = 9_999_999
MOST_PINS = 100
FROM_FILE = Origin("file", "certificate")
DECISIONS = (
    *("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp"),
    *("micro_batch_size", "num_microbatches", "sequence_parallel"),
)


class InvalidEncoding(ValueError):
    """What stands there is no problem; the message says where."""


def canonical(value: Any) -> str:
    """The one text that stands for a JSON value: sorted keys, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def encoded(problem: Problem) -> dict[str, Any]:
    """``problem`` as JSON holds it; where its values came from is left out."""
    out: dict[str, Any] = {name: _plain(getattr(problem, name)) for name in PLAIN}
    out["model"], out["gpu"] = _entry(problem.model), _entry(problem.gpu)
    out["settings"] = {name: _plain(value) for name, value in problem.settings.changed().items()}
    out["pins"] = [_word(pin) for pin in problem.pins]
    return out


def encoded_changes(asked: Problem, changed: Problem) -> dict[str, Any]:
    """What differs in ``changed``, field by field."""
    before, after = encoded(asked), encoded(changed)
    return {name: after[name] for name in after if after[name] != before[name]}


def decoded(data: Any) -> Problem:
    """The problem that ``data`` says. Raises :class:`InvalidEncoding`."""
    names = {f.name for f in fields(Problem)} - {"origins"}
    if not isinstance(data, Mapping) or set(data) != names:
        raise InvalidEncoding("the request has other keys than a problem")
    hints = get_type_hints_of(Problem)
    values = {name: _typed(name, hints[name], data[name]) for name in PLAIN}
    for name, largest in LARGEST_COUNTS.items():
        if values.get(name) is not None and not 1 <= values[name] <= largest:
            raise InvalidEncoding(f"{name} must be from 1 to {largest}")
    model, gpu = _model(data["model"]), _gpu(data["gpu"])
    return Problem(model=model, gpu=gpu, settings=_settings(data["settings"]), pins=_words(data["pins"]), **values)


def decoded_changes(asked: Mapping[str, Any], changes: Any) -> Problem:
    """The problem ``asked`` (encoded) with ``changes``. Raises :class:`InvalidEncoding`."""
    if not isinstance(changes, Mapping) or not set(changes) <= set(asked):
        raise InvalidEncoding("a way out changes something that is not of the request")
    return decoded({**asked, **changes})


# -- entries of the catalog


@lru_cache(maxsize=256)
def _entry(spec: ModelSpec | GpuSpec) -> Mapping[str, Any]:
    known = _catalogued(spec.name, type(spec))
    whole = {f.name: _plain(getattr(spec, f.name)) for f in fields(spec)}
    if known is None:
        defaults = {f.name: _plain(f.default) for f in fields(spec)}
        return {"fields": {name: v for name, v in whole.items() if name not in defaults or v != defaults[name]}}
    theirs = {f.name: _plain(getattr(known, f.name)) for f in fields(known)}
    changes = {name: value for name, value in whole.items() if value != theirs[name]}
    return {"catalog": spec.name, "digest": digest(theirs), **({"changes": changes} if changes else {})}


def _catalogued(name: str, kind: type) -> Any:
    names = loader.model_names() if kind is ModelSpec else loader.gpu_names()
    if name not in names:
        return None
    return loader.load_model(name) if kind is ModelSpec else loader.load_gpu(name)


def _model(data: Any) -> ModelSpec:
    known, values = _known_entry(data, ModelSpec)
    if known is not None and not values:
        model: ModelSpec = known
        return model
    from models_catalog.validation import model_from_mapping

    try:
        read, warnings = model_from_mapping(_merged(known, values), "certificate")
    except CatalogError as error:
        raise InvalidEncoding(str(error)) from None
    if warnings:
        raise InvalidEncoding(warnings[0])
    return read


def _gpu(data: Any) -> GpuSpec:
    known, values = _known_entry(data, GpuSpec)
    if known is not None and not values:
        gpu: GpuSpec = known
        return gpu
    from models_catalog.validation import validated_gpu

    try:
        return validated_gpu(_merged(known, values), "certificate")
    except CatalogError as error:
        raise InvalidEncoding(str(error)) from None


def _merged(known: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    if known is None:
        return dict(values)
    own = {f.name: _plain(getattr(known, f.name)) for f in fields(known) if getattr(known, f.name) != f.default}
    return {name: value for name, value in (own | dict(values)).items() if value is not None}


def _known_entry(data: Any, kind: type) -> tuple[Any, Mapping[str, Any]]:
    """(the catalog's entry or ``None``, the fields written out)."""
    if isinstance(data, Mapping) and set(data) == {"fields"} and isinstance(data["fields"], Mapping):
        return None, data["fields"]
    if not isinstance(data, Mapping) or not {"catalog", "digest"} <= set(data) <= {"catalog", "digest", "changes"}:
        raise InvalidEncoding("a model or GPU is an entry of the catalog, or fields")
    name, changes = data["catalog"], data.get("changes", {})
    known = _catalogued(name, kind) if isinstance(name, str) else None
    if known is None:
        raise InvalidEncoding(f"the catalog has no {str(name)[:60]!r}")
    if digest({f.name: _plain(getattr(known, f.name)) for f in fields(known)}) != data["digest"]:
        raise InvalidEncoding(f"the catalog's {name} is not the entry that the certificate was made with")
    if not isinstance(changes, Mapping):
        raise InvalidEncoding("changes of an entry are a mapping")
    return known, changes


# -- switches and the user's words


def _settings(data: Any) -> Settings:
    hints = get_type_hints_of(Settings)
    if not isinstance(data, Mapping) or not set(data) <= set(hints):
        raise InvalidEncoding("settings are switches by name")
    return replace(Settings(), **{name: _typed(name, hints[name], value) for name, value in data.items()})


def _word(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, PinRecompute):
        return {"recompute": rule.granularity}
    if isinstance(rule, PinCount):
        return {rule.name: rule.value}
    if isinstance(rule, Limit):
        return {"limit": rule.name, "decision": rule.decision, "comparison": rule.comparison, "value": rule.value}
    assert isinstance(rule, Pin), "a word of the user is a pin or a limit"
    return {"pin": rule.name, "decision": rule.decision, "value": rule.value}


def _words(data: Any) -> tuple[Rule, ...]:
    if not isinstance(data, list) or len(data) > MOST_PINS:
        raise InvalidEncoding("pins are a list of sensible length")
    rules = tuple(_rule(word) for word in data)
    return rules


def _rule(word: Any) -> Rule:
    if not isinstance(word, Mapping):
        raise InvalidEncoding("a pin is a mapping")
    if set(word) == {"recompute"} and word["recompute"] in (None, "selective", "full"):
        return PinRecompute(word["recompute"] or "none", FROM_FILE)
    if set(word) == {"recompute_method"} and word["recompute_method"] in METHODS:
        return PinCount("method", word["recompute_method"], FROM_FILE)
    count = word.get("recompute_num_layers")
    if set(word) == {"recompute_num_layers"} and type(count) is int and 1 <= count <= LARGEST_PINNED:
        return PinCount("num_layers", count, FROM_FILE)
    decision, value = word.get("decision"), word.get("value")
    number = type(value) is int and -LARGEST_PINNED * 10 <= value <= LARGEST_PINNED * 10
    limited = set(word) == {"limit", "decision", "comparison", "value"} and word["comparison"] in ("<=", ">=", "<", ">")
    if decision in DECISIONS and limited and type(value) is int and number and isinstance(word["limit"], str):
        return Limit(word["limit"][:40], decision, word["comparison"], value, FROM_FILE)
    if decision in DECISIONS and set(word) == {"pin", "decision", "value"} and isinstance(word["pin"], str):
        if decision == "sequence_parallel" and isinstance(value, bool):
            return Pin(word["pin"][:40], decision, value, FROM_FILE)
        if (type(value) is int and 1 <= value <= LARGEST_PINNED and decision != "sequence_parallel") or (
            value is None and decision == "vpp"
        ):
            return Pin(word["pin"][:40], decision, value, FROM_FILE)
    raise InvalidEncoding("a pin names a decision and a value that it can have")


# -- types


@cache
def get_type_hints_of(kind: type) -> dict[str, Any]:
    from constraints import rule as rules

    names = {"ModelSpec": ModelSpec, "GpuSpec": GpuSpec, "Rule": rules.Rule, "Mapping": Mapping}
    return get_type_hints(kind, localns=names)


def _plain(value: Any) -> Any:
    """Tuples as lists, sets as sorted lists."""
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _typed(name: str, hint: Any, value: Any) -> Any:
    """``value`` as the field's type wants it. Raises :class:`InvalidEncoding`."""
    for option in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        try:
            return _converted(option, value)
        except TypeError:
            continue
    raise InvalidEncoding(f"{name} has a value of the wrong type")


def _converted(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (tuple, frozenset):
        if not isinstance(value, list) or len(value) > 10_000:
            raise TypeError
        inner = get_args(hint)
        hints = [inner[0]] * len(value) if origin is frozenset or inner[-1] is Ellipsis else list(inner)
        if len(hints) != len(value):
            raise TypeError
        return origin(_converted(h, item) for h, item in zip(hints, value, strict=True))
    if hint is type(None):
        hint = None
    if hint is float and type(value) is int:
        return float(value)
    if value is None and hint is None:
        return None
    if hint is None or type(value) is not hint or (type(value) in (int, float) and abs(value) > 10**16):
        raise TypeError
    return value
