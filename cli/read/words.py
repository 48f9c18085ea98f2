"""The words after MODEL in ``check``: short names, Bridge overrides, Megatron-LM flags, files; as one mapping."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from constraints.errors import LayoutError, elsewhere
from constraints.problem import Origin
from constraints.spelling import flag_of, spelling_of

__all__ = ["LONGEST_LINE", "Words", "read_words", "split_line", "take_line"]

COMMAND_LINE = Origin("layout", "command line")
LONGEST_LINE = 100_000
LISTS = ("strs", "ints", "str or strs")


@dataclass
class Words:
    """Word to value and to origin. ``asked`` holds what a report of ``solve`` says of its request: less than a flag."""

    raw: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    asked_at: Origin = COMMAND_LINE

    def add(self, key: str, value: Any, origin: Origin) -> None:
        """Keep ``key``; raises :class:`~constraints.errors.LayoutError` if another place gives it differently."""
        if key in self.raw and self.raw[key] != value:
            message = f"is also given as {self.raw[key]}{elsewhere(self.origins[key], origin)}"
            raise LayoutError(key, value, origin, message)
        self.raw[key] = value
        self.origins[key] = origin


def read_words(words: Iterable[str]) -> Words:
    """A word is ``KEY=VALUE``, ``--flag VALUE``, ``--flag=VALUE``, ``-tp VALUE`` or ``@FILE``.

    Raises :class:`~constraints.errors.LayoutError` for anything else, and for a key that two places give differently.
    """
    found = Words()
    take_line(list(words), COMMAND_LINE, found)
    return found


def split_line(line: str, origin: Origin) -> list[str]:
    """The words of a line as a shell splits it, comments left out; raises :class:`~constraints.errors.LayoutError`."""
    if len(line) > LONGEST_LINE:
        raise LayoutError("line", None, origin, f"is longer than {LONGEST_LINE} characters")
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise LayoutError(line[:60], None, origin, f"cannot be split into words: {str(error).lower()}") from None


def take_line(words: list[str], origin: Origin, found: Words) -> None:
    """Add the words of one command line to ``found``."""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word.startswith("@"):
            from cli.read.files import take_file

            take_file(word[1:], found)
        elif word.startswith("-"):
            position += _take_flag(word, words[position:], origin, found)
        elif "=" in word:
            key, value = word.split("=", 1)
            key = key.strip().lstrip("+~")
            if key.isupper() and spelling_of(key.lower()) is not None:
                key = key.lower()
            if not key.isupper():  # CUDA_DEVICE_MAX_CONNECTIONS=1 is the environment, not the layout
                found.add(key, value, origin)
        else:
            raise LayoutError(word, None, origin, "is not KEY=VALUE, a --flag or @FILE")


def _take_flag(word: str, rest: list[str], origin: Origin, found: Words) -> int:
    """Take one flag; returns how many of the following words were its values."""
    if "=" in word:
        flag, value = word.split("=", 1)
        found.add(flag_of(flag), value, origin)
        return 0
    flag = flag_of(word)
    spelling = spelling_of(flag)
    values = _values(rest)
    if spelling is None:
        found.add(flag, values[0] if len(values) == 1 else values or True, origin)
        return len(values)
    if spelling.kind in LISTS:
        single = spelling.kind == "str or strs" and len(values) == 1
        found.add(flag, values[0] if single else values, origin)
        return len(values)
    if spelling.kind == "bool":
        found.add(flag, True, origin)
        return 0
    if not values:
        raise LayoutError(word, None, origin, "has no value")
    found.add(flag, values[0], origin)
    return 1


def _values(rest: list[str]) -> list[str]:
    """The words up to the next flag, override or file."""
    values: list[str] = []
    for word in rest:
        if word.startswith("@") or _is_flag(word) or _is_override(word):
            break
        values.append(word)
    return values


def _is_flag(word: str) -> bool:
    """True for ``--flag`` and ``-tp``, not for a negative number."""
    return word.startswith("-") and not word[1:2].isdigit() and word != "-"


def _is_override(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and key.lstrip("+~").replace(".", "").replace("_", "").isalnum()
