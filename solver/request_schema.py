"""What a request file (or a line of a batch) may hold: which keys, of which type; each value with its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from constraints.errors import RequestError
from constraints.problem import Origin
from solver.request import REPEATED, REQUEST_KEYS

__all__ = ["validated"]

Places = Mapping[str, tuple[int, int]]

_WHOLE = ("gpus", "gpus_per_node", "nvlink_domain", "seq_length", "global_batch_size", "top")
_NUMBERS = ("memory_gib", "time_limit", "routing_imbalance")
_SWITCHES = ("allow_borderline", "allow_idle", "fsdp", "packed", "expandable_segments", "pareto")
_PERCENT = ("offload_optimizer", "batch_tolerance")
BESIDE = ("layout",)
"""Keys that are not of the request, but stand beside it."""

PLURALS = {"pins": "pin", "limits": "limit"}


def validated(data: Any, source: str, places: Places | None = None) -> tuple[dict[str, Any], dict[str, Origin]]:
    """(values, origins) of a mapping under the names of :class:`~solver.request.Request`; ``null`` is "not given".

    Keys may have dashes or underscores; ``pin`` is a list of words or a mapping. ``source`` is named in errors, with the
    line and column of ``places``. Raises :class:`~constraints.errors.RequestError`.
    """
    reader = _Reader(source, places or {})
    if not isinstance(data, Mapping):
        raise RequestError("request", None, Origin("file", source), "must be a mapping of request keys to values")
    for key, value in data.items():
        reader.take(key, value)
    return reader.values, reader.origins


class _Reader:
    def __init__(self, source: str, places: Places) -> None:
        self.source, self.places = source, places
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}

    def take(self, key: str, value: Any) -> None:
        name = key.replace("-", "_")
        name = PLURALS.get(name, name)
        if name not in REQUEST_KEYS and name not in BESIDE:
            close = difflib.get_close_matches(name, [*REQUEST_KEYS, *BESIDE], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise RequestError(key, None, self._place(key), f"is not a key of a request{hint}")
        if name in self.values:
            raise RequestError(key, None, self._place(key), "is given twice, with a dash and with an underscore")
        if value is None:
            return
        self.origins[name] = self._place(key)
        self.values[name] = value if name in BESIDE else self._typed(name, key, value)

    def _typed(self, name: str, key: str, value: Any) -> Any:
        if name in REPEATED:
            return self._words(name, key, value)
        wanted, fits = _type_of(name)
        if not fits(value):
            quotes = ": put it in quotes" if wanted == "a word" and isinstance(value, int | float) else ""
            raise RequestError(key, value, self._place(key), f"must be {wanted}, not {_type_name(value)}{quotes}")
        return value

    def _words(self, name: str, key: str, value: Any) -> tuple[str, ...]:
        """Pins may be a mapping, the others a list; one word may stand alone."""
        if isinstance(value, Mapping) and name == "pin":
            words = [(f"{inner}={_scalar(item)}", f"{key}.{inner}", item) for inner, item in value.items()]
        elif isinstance(value, list):
            words = [(item, f"{key}.{index}", item) for index, item in enumerate(value)]
        else:
            words = [(value, key, value)]
        for word, path, item in words:
            if not isinstance(word, str) or isinstance(item, Mapping):
                raise RequestError(key, item, self._place(path), f"must hold words, not {_type_name(item)}")
            self.origins[f"{name} {word}"] = self._place(path)
        return tuple(word for word, _, _ in words)

    def _place(self, path: str) -> Origin:
        place = self.places.get(path)
        return Origin("file", f"{self.source}:{place[0]}:{place[1]}" if place else self.source)


def _type_of(name: str) -> tuple[str, Callable[[Any], bool]]:
    if name in _WHOLE:
        return "a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)
    if name in _NUMBERS:
        return "a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if name in _PERCENT:
        return "a percentage", lambda value: isinstance(value, int | float | str) and not isinstance(value, bool)
    if name in _SWITCHES:
        return "true or false", lambda value: isinstance(value, bool)
    return "a word", lambda value: isinstance(value, str)


def _type_name(value: Any) -> str:
    names = (
        (bool, "true or false"),
        (int, "a whole number"),
        (float, "a number"),
        (str, "text"),
        (Mapping, "a mapping"),
    )
    return next(
        (name for kind, name in names if isinstance(value, kind)), "a list" if isinstance(value, list) else "that"
    )


def _scalar(value: Any) -> str:
    """A pin's value as a word: YAML's true is ``true``, its null ``null``, a list ``a,b``."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
