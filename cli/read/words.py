"""The words after MODEL in ``check``: short names, Bridge overrides, Megatron-LM flags, files; as one mapping."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from constraints.errors import LayoutError
from constraints.problem import Origin
from constraints.spelling import spelling_of

__all__ = ["read_words"]

Words = tuple[dict[str, Any], dict[str, Origin]]


def read_words(words: Iterable[str]) -> Words:
    """(word to value, word to origin). A word is ``KEY=VALUE``, ``--flag VALUE``, ``--flag=VALUE`` or ``@FILE``.

    Raises :class:`~constraints.errors.LayoutError` for anything else, and for a key that two places give differently.
    """
    reader = _Words()
    reader.line(list(words), Origin("command line", "command line"))
    return reader.raw, reader.origins


class _Words:
    def __init__(self) -> None:
        self.raw: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}

    def line(self, words: list[str], origin: Origin) -> None:
        position = 0
        while position < len(words):
            word = words[position]
            position += 1
            if word.startswith("@"):
                self.file(word[1:])
            elif word.startswith("--"):
                position += self._flag(word, words[position : position + 1], words[position:], origin)
            elif "=" in word:
                key, value = word.split("=", 1)
                self._add(key.lstrip("+~").strip(), value, origin)
            else:
                raise LayoutError(word, None, origin, "is not KEY=VALUE, a --flag or @FILE")

    def _flag(self, word: str, following: list[str], rest: list[str], origin: Origin) -> int:
        """Take one flag; returns how many of the following words were its values."""
        if "=" in word:
            flag, value = word.split("=", 1)
            self._add(flag, value, origin)
            return 0
        spelling = spelling_of(word)
        if spelling is not None and spelling.kind in ("strs", "ints"):
            values = []
            for item in rest:
                if item.startswith("--"):
                    break
                values.append(item)
            self._add(word, values, origin)
            return len(values)
        if not following or following[0].startswith(("--", "@")):
            self._add(word, True, origin)
            return 0
        if spelling is not None and spelling.kind == "bool":
            self._add(word, True, origin)
            return 0
        self._add(word, following[0], origin)
        return 1

    def _add(self, key: str, value: Any, origin: Origin) -> None:
        if key in self.raw and self.raw[key] != value:
            message = f"is also given as {self.raw[key]} ({self.origins[key]})"
            raise LayoutError(key, value, origin, message)
        self.raw[key] = value
        self.origins[key] = origin

    def file(self, path: str) -> None:
        """A JSON report of ``solve``, a YAML or JSON mapping, or pasted overrides and flags."""
        from models_catalog.documents import read_text

        text = read_text(path)
        origin = Origin("file", path)
        if not text.strip():
            raise LayoutError("file", path, origin, "is empty")
        if _is_pasted(text):
            self.line(_pasted_words(text, origin), origin)
            return
        from models_catalog.documents import parse_document

        data = parse_document(text, path)
        self._mapping(data, path)

    def _mapping(self, data: Any, path: str) -> None:
        origin = Origin("file", path)
        if isinstance(data, dict) and isinstance(data.get("layouts"), list):
            if not data["layouts"]:
                raise LayoutError("layouts", None, origin, "is empty: that request had no layout")
            data = data["layouts"][0]
        if isinstance(data, dict) and isinstance(data.get("layout"), dict):
            data = data["layout"]
        if not isinstance(data, dict):
            raise LayoutError("file", path, origin, "holds no mapping of layout words to values")
        for key, value in data.items():
            if isinstance(value, dict) and key not in ("recompute", "memory", "time", "communication"):
                for inner, item in value.items():
                    self._add(f"{key}.{inner}", item, origin)
            else:
                self._add(str(key), value, origin)


def _pasted_words(text: str, origin: Origin) -> list[str]:
    """Shell words of pasted lines: comments and continuation backslashes go, so does the launch command before them."""
    words: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        try:
            parts = shlex.split(line, comments=True)
        except ValueError as error:
            raise LayoutError("line", line[:60], origin, f"cannot be split into words: {error}") from None
        starts = [i for i, part in enumerate(parts) if part.endswith((".py", ".sh"))]
        words += parts[starts[-1] + 1 :] if starts else parts
    return words


def _is_pasted(text: str) -> bool:
    """True if the first line that says anything is an override, a flag, or a command."""
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            first = line.split()[0]
            return "=" in first.split(":")[0] or first.startswith("--") or ".py" in line or first == "torchrun"
    return False
