"""Taking keys out of one config: what is missing, mistyped or out of range is refused by the name of the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from models_catalog.documents import Places
from models_catalog.errors import InvalidEntry

__all__ = ["Config", "Reader"]

Config = dict[str, Any]

LARGEST = 10**9
MOST = {"num_hidden_layers": 10_000, "n_layer": 10_000, "n_layers": 10_000, "num_nextn_predict_layers": 100}
"""What would be looped over: no config may make that long."""


class Reader:
    """One level of a config. ``null`` is "not set", as in transformers; ``prefix`` names the levels above in errors."""

    def __init__(self, config: Config, origin: str, places: Places | None = None, prefix: str = "") -> None:
        self.config, self.origin, self.places, self.prefix = config, origin, places or {}, prefix

    def refuse(self, name: str, message: str) -> NoReturn:
        """Raise :class:`~models_catalog.errors.InvalidEntry` for the key ``name`` of this level."""
        field = self.prefix + name
        where = self.origin
        if field in self.places:
            line, column = self.places[field]
            where = f"{self.origin}:{line}:{column}"
        raise InvalidEntry(where, field, message)

    def has(self, name: str) -> bool:
        """Whether the key is there, be it ``null``."""
        return name in self.config

    def integer(self, *names: str, default: int | None = None, least: int = 1) -> int | None:
        """The first of ``names`` that is set, a whole number of at least ``least``."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            most = MOST.get(name, LARGEST)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                self.refuse(name, f"is {_short(value)}: it must be a whole number from {least} to {most}")
            return value
        return default

    def needed(self, *names: str, default: int | None = None) -> int:
        """Like :meth:`integer`, but it must be there if the family has no default."""
        value = self.integer(*names, default=default)
        if value is None:
            self.refuse(names[0], "is missing")
        return value

    def count(self, *names: str, default: int = 0) -> int:
        """Like :meth:`integer`, but 0 is a number too."""
        return self.integer(*names, default=default, least=0) or 0

    def truth(self, name: str, default: bool) -> bool:
        value = self.config.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.refuse(name, f"is {_short(value)}: it must be true or false")
        return value

    def word(self, name: str) -> str | None:
        value = self.config.get(name)
        if value is not None and not isinstance(value, str):
            self.refuse(name, f"is {_short(value)}: it must be text")
        return value

    def integers(self, name: str, length: int | None = None) -> list[int] | None:
        """A list of whole numbers from 0 up, of ``length`` if that is given."""
        value = self.config.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= LARGEST for item in value):
            self.refuse(name, f"is {_short(value)}: it must be a list of whole numbers from 0 up")
        if length is not None and len(value) != length:
            self.refuse(name, f"has {len(value)} entries, the model has {length} layers")
        return value

    def words(self, name: str, known: Sequence[str], length: int | None) -> list[str] | None:
        """A list of words out of ``known``, one for each of ``length`` layers if that is given."""
        value = self.config.get(name)
        if value is None:
            return None
        if not isinstance(value, list):
            self.refuse(name, f"is {_short(value)}: it must be a list of {', '.join(known)}")
        for item in value:
            if item not in known:
                self.refuse(name, f"holds {_short(item)}: it must be a list of {', '.join(known)}")
        if length is not None and len(value) != length:
            self.refuse(name, f"has {len(value)} entries, the model has {length} layers")
        return list(value)

    def below(self, name: str) -> Reader:
        """The mapping that ``name`` holds."""
        value = self.config.get(name)
        if not isinstance(value, Mapping):
            self.refuse(name, "is missing" if value is None else f"is {_short(value)}: it must be a mapping")
        return Reader(dict(value), self.origin, self.places, f"{self.prefix}{name}.")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
