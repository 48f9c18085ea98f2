"""Words in a layout that belong to the request or the model: a sequence length, a precision, ``model.num_layers``.

Pasted overrides and flags say them together with the layout. They are told apart here; the request takes over what it
does not say itself (``solver.amendment``), and a layout that contradicts its request is an error (``constraints.reading``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from constraints.errors import LayoutError, elsewhere
from constraints.precision_names import PRECISION_FIELDS, precision_of
from constraints.problem import Origin
from constraints.spelling import spelling_of
from constraints.values import plain_value
from models_catalog.schema import ModelSpec

__all__ = ["MODEL_FIELDS", "Asked", "Word", "asked_of", "asked_words"]

_CATALOG_FIELDS = {"name", "hf_id", "family", "aliases", "total_parameters", "active_parameters", "sources", "note"}
MODEL_FIELDS = frozenset(f.name for f in fields(ModelSpec)) - _CATALOG_FIELDS
"""Megatron's fields of the model that a layout may say too."""

NULLABLE = frozenset(f.name for f in fields(ModelSpec) if f.default is None) & MODEL_FIELDS
"""Fields that an override may unset, as ``model.mtp_num_layers=null`` does."""

_SEQUENCE = ("seq_length", "model.seq_length", "--seq-length", "-sl")
_ONLY_REQUEST = ("gpus", "gpu", "task", "gpus_per_node", "nvlink_domain", "memory_gib", "megatron")
_WHOLE = ("seq_length", "gpus", "gpus_per_node", "nvlink_domain")
_PRECISION_WORDS = {
    **{name: name for name in PRECISION_FIELDS},
    **{f"{section}.{name}": name for section in ("model", "mixed_precision") for name in PRECISION_FIELDS[2:]},
    "--bf16": "bf16",
    "--fp16": "fp16",
    "--fp8-format": "fp8",
    "--fp8-recipe": "fp8_recipe",
    "--fp4-format": "fp4",
}
_MODEL_FLAGS: dict[str, tuple[str, Any]] = {
    "--num-experts": ("num_moe_experts", None),
    "--hybrid-layer-pattern": ("hybrid_override_pattern", None),
    "model.hybrid_layer_pattern": ("hybrid_override_pattern", None),
    "--swiglu": ("gated_linear_unit", True),
    "--disable-bias-linear": ("add_bias_linear", False),
    "--untie-embeddings-and-output-weights": ("share_embeddings_and_output_weights", False),
}
"""Words of another name than the field: (field, value that the word alone means, ``None``: the value given)."""


@dataclass(frozen=True)
class Word:
    """One word about the request or the model, as written, and its value. ``weak``: it speaks of more than it fixes
    (``bf16=true`` is said beside fp8 too)."""

    text: str
    value: Any
    origin: Origin
    weak: bool = False


@dataclass(frozen=True)
class Asked:
    """What a layout says of the request (by request key) and of the model (by field)."""

    request: dict[str, Word] = field(default_factory=dict)
    model: dict[str, Word] = field(default_factory=dict)


@cache
def asked_of(word: str) -> tuple[str, str, Any] | None:
    """("request", "precision" or "model"; the name there; the value that the word alone means), or ``None``."""
    if spelling_of(word) is not None:
        return None
    if word in _SEQUENCE:
        return "request", "seq_length", None
    if word in _ONLY_REQUEST:
        return "request", word, None
    if word in _PRECISION_WORDS:
        return "precision", _PRECISION_WORDS[word], None
    if word in _MODEL_FLAGS:
        return ("model", *_MODEL_FLAGS[word])
    bare = word.removeprefix("--").replace("-", "_") if word.startswith("--") else word.removeprefix("model.")
    return ("model", bare, None) if bare in MODEL_FIELDS else None


def asked_words(raw: Mapping[str, Any], origins: Mapping[str, Origin]) -> Asked:
    """Everything that ``raw`` says of the request and the model; ``null`` unsets a field or says nothing.

    Raises :class:`~constraints.errors.LayoutError` for a value of the wrong type and for words that contradict each other.
    """
    asked = Asked()
    precision: dict[str, Any] = {}
    for word, value in raw.items():
        found = asked_of(word)
        if found is None:
            continue
        kind, name, meant = found
        origin = origins.get(word, Origin("layout", "layout"))
        value = plain_value(value) if meant is None else meant if value is not False else not meant
        if value is None and name not in NULLABLE:
            continue
        if kind == "precision":
            precision[name] = value
            _keep(asked.request, "precision", Word(word, None, origin), replace=True)
        elif kind == "request":
            _keep(asked.request, name, Word(word, _request_value(word, name, value, origin), origin))
        else:
            _keep(asked.model, name, Word(word, value, origin))
    _settle_precision(asked, precision)
    return asked


def _keep(words: dict[str, Word], name: str, word: Word, *, replace: bool = False) -> None:
    other = words.get(name)
    if other is not None and other.value != word.value and not replace:
        message = f"contradicts {other.text}={other.value}{elsewhere(other.origin, word.origin)}"
        raise LayoutError(word.text, word.value, word.origin, message)
    words[name] = word


def _request_value(word: str, name: str, value: Any, origin: Origin) -> Any:
    if name in _WHOLE and (isinstance(value, bool) or not isinstance(value, int)):
        raise LayoutError(word, value, origin, "must be a whole number")
    if name not in (*_WHOLE, "memory_gib") and not isinstance(value, str):
        raise LayoutError(word, value, origin, "must be a word")
    return value


def _settle_precision(asked: Asked, said: Mapping[str, Any]) -> None:
    word = asked.request.pop("precision", None)
    if word is None:
        return
    try:
        precision = precision_of(said)
    except ValueError as error:
        own = word.text.rpartition(".")[2]  # that word may be the one that is not known, or stand beside it
        raise LayoutError(word.text, None, word.origin, str(error).removeprefix(f"{own} ")) from None
    if precision is not None:
        weak = not said.keys() - {"bf16", "fp16"}
        asked.request["precision"] = Word(word.text, precision, word.origin, weak)
