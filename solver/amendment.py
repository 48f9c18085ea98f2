"""What a layout says beside the layout: the request takes over what it does not say itself, the model is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from constraints.asked import Asked, Word
from constraints.errors import LayoutError
from constraints.problem import Origin
from constraints.word_values import WordValues
from models_catalog.errors import InvalidEntry
from models_catalog.schema import ModelSpec
from solver.request import Request

__all__ = ["amended_model", "amended_request"]

_NOT_MEGATRONS = ("hf_id", "family", "aliases", "total_parameters", "active_parameters", "sources", "note")


def amended_request(request: Request, asked: Asked, words: WordValues) -> Request:
    """``request`` with what only the layout says: sequence length, precision, batch and the like.

    The number of GPUs follows from tp, pp, cp and dp where dp is written down and the number is not.
    """
    added = {name: word for name, word in asked.request.items() if getattr(request, name) is None}
    values: dict[str, Any] = {name: word.value for name, word in added.items()}
    origins = {name: word.origin for name, word in added.items()}
    if request.gpus is None and "gpus" not in values and words.get("dp"):
        values["gpus"] = words.get("tp", 1) * words.get("pp", 1) * words.get("cp", 1) * words.get("dp")
        origins["gpus"] = Origin("derived", "tp*pp*cp*dp of the layout")
    if request.global_batch_size is None and words.get("gbs"):
        values["global_batch_size"] = words.get("gbs")
        origins["global_batch_size"] = words.origin(words.words["gbs"])
    return replace(request, **values, origins={**request.origins, **origins}) if values else request


def amended_model(model: ModelSpec, asked: Asked, kept: Mapping[str, Any]) -> tuple[ModelSpec, list[str]]:
    """``model`` with the fields that the layout sets, and a note for each; fields in ``kept`` (pins) stay.

    Raises :class:`~constraints.errors.LayoutError` for a value that the field cannot have.
    """
    changes = {name: word for name, word in asked.model.items() if name not in kept and not _same(model, name, word)}
    if not changes:
        return model, []
    from models_catalog.validation import model_from_mapping

    given = [f for f in fields(ModelSpec) if f.name not in _NOT_MEGATRONS and getattr(model, f.name) != f.default]
    data: dict[str, Any] = {f.name: _listed(getattr(model, f.name)) for f in given}
    data |= {name: word.value for name, word in changes.items()}
    first = next(iter(changes.values()))
    try:
        changed, _ = model_from_mapping(data, str(first.origin))
    except InvalidEntry as error:
        word = changes.get(error.field or "", first)
        at = f"{error.field} " if error.field and error.field not in changes else ""
        raise LayoutError(word.text, None, word.origin, at + error.message) from None
    notes = [
        f"{word.text}={word.value} ({word.origin}) replaces {model.name}'s {name}={getattr(model, name)}"
        for name, word in changes.items()
    ]
    return replace(changed, aliases=model.aliases, hf_id=model.hf_id, family=model.family), notes


def _same(model: ModelSpec, name: str, word: Word) -> bool:
    theirs = getattr(model, name)
    value = tuple(word.value) if isinstance(word.value, list) else word.value
    if name == "window_size" and isinstance(value, tuple) and value:
        value = value[0]
    return value == theirs or (not value and not theirs)


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
