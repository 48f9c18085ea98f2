"""The words of a layout as values under one name each: spellings resolved, text parsed, contradictions refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from constraints.asked import asked_of
from constraints.errors import LayoutError, elsewhere
from constraints.problem import Origin
from constraints.spelling import known_words, spelling_of
from constraints.values import read_value

__all__ = ["WordValues"]

REPORTED = frozenset(
    {"rank", "gpus_used", "gpus_idle", "memory", "time", "communication", "warnings", "pipeline_stages"}
)
"""What ``solve --format json`` writes beside the layout itself."""

FORMS = ("even", "account", "first-last", "layout")
LAYERS_A_CHUNK = ("--num-layers-per-virtual-pipeline-stage", "num_layers_per_virtual_pipeline_stage")
SELECTIVE = ("--recompute-activations", "recompute_activations")
RECOMPUTE_KEYS = ("granularity", "method", "num_layers", "modules")

SURELY_A_SLIP = 0.94
"""Likeness (difflib) from which an unknown override or flag is taken for a misspelt word."""


class WordValues:
    """``values`` by canonical name (``constraints.spelling``), ``words`` how each was written.

    Raises :class:`~constraints.errors.LayoutError`, naming the word and its place, for a value of the wrong type, two words
    that contradict each other, and a word that is none. Other settings of Bridge and Megatron-LM go to ``ignored``.
    """

    def __init__(self, raw: Mapping[str, Any], origins: Mapping[str, Origin]) -> None:
        self.origins = origins
        self.words: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.ignored: list[str] = []
        self.form: str | None = None
        self.layers_a_chunk: int | None = None
        self.asks = False
        """True if some words are about the request or the model (``constraints.asked``)."""
        for word, value in raw.items():
            spelling = spelling_of(word)
            if spelling is not None:
                self._set(spelling.name, word, value)
            elif asked_of(word) is not None:
                self.asks = True
            else:
                self._other(word, value)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of ``name``, ``default`` where it is unset."""
        value = self.values.get(name)
        return default if value is None else value

    def origin(self, word: str) -> Origin:
        """Where ``word`` was written."""
        return self.origins.get(word) or self.origins.get(word.split(".")[0]) or Origin("layout", "layout")

    def error(self, word: str, value: Any, message: str) -> LayoutError:
        """What is wrong with ``word``."""
        return LayoutError(word, value, self.origin(word), message)

    def _other(self, word: str, value: Any) -> None:
        """A word that is no plain spelling of a decision or a switch."""
        if word in LAYERS_A_CHUNK:
            self.layers_a_chunk = self._read("pp", word, value)
            self.words["vpp"] = word
        elif word in SELECTIVE:
            if value not in (False, "false", None):
                self._set("recompute_granularity", word, "selective")
        elif word == "recompute":
            self._recompute(value)
        elif word == "pipeline_form":
            if value not in FORMS:
                raise self.error(word, value, f"must be one of {', '.join(FORMS)}")
            self.form = value
        elif word not in REPORTED:
            self._foreign(word)

    def _foreign(self, word: str) -> None:
        """Another setting of Bridge or Megatron-LM; a slip of the pen raises."""
        foreign = "." in word or word.startswith("-")
        likeness, close = _closest(word)
        other = likeness < SURELY_A_SLIP or word.startswith(close) or close.startswith(word)
        if foreign and other:
            self.ignored.append(word)
            return
        hint = f"; did you mean {close}?" if close else ""
        raise self.error(word, None, f"is not a word of a layout{hint}")

    def _set(self, name: str, word: str, value: Any) -> None:
        spelling = spelling_of(name)
        assert spelling is not None
        read = self._read(name, word, value)
        if read is not None and word == spelling.unflag:
            read = not read
        if read == 1 and word == spelling.flag and name == "vpp":
            read = None  # the Megatron-LM command line makes 1 unset
        if name in self.words and self.values.get(name) != read:
            other = self.words[name]
            given = "" if other in LAYERS_A_CHUNK else f"={self.values[name]}"
            raise self.error(
                word, value, f"contradicts {other}{given}{elsewhere(self.origin(other), self.origin(word))}"
            )
        self.words[name], self.values[name] = word, read
        if read and word == spelling.flag and name == "cpu_offloading_num_layers":
            self.values.setdefault("cpu_offloading", True)  # the Megatron-LM command line has no other switch for it

    def _read(self, name: str, word: str, value: Any) -> Any:
        try:
            return read_value(name, value)
        except ValueError as error:
            raise self.error(word, None, str(error)) from None

    def _recompute(self, value: Any) -> None:
        """``recompute=none|selective|full``, or the mapping that ``solve`` writes."""
        if isinstance(value, Mapping):
            for key in RECOMPUTE_KEYS:
                if value.get(key) not in (None, [], ()):
                    self._set(f"recompute_{key}", f"recompute.{key}", value[key])
            for key in value:
                if key not in RECOMPUTE_KEYS:
                    raise self.error(f"recompute.{key}", None, f"is none of {', '.join(RECOMPUTE_KEYS)}")
            return
        if value not in ("none", "selective", "full", None):
            raise self.error("recompute", value, "must be none, selective or full")
        self._set("recompute_granularity", "recompute", value)
        if value == "full":
            self.values.setdefault("recompute_method", "uniform")
            self.values.setdefault("recompute_num_layers", 1)


@lru_cache(maxsize=4096)
def _closest(word: str) -> tuple[float, str]:
    """How like the closest known word of the same form is, and which it is ("" if none is)."""
    close = difflib.get_close_matches(word, known_words(word), n=1, cutoff=0.5)
    if not close:
        return 0.0, ""
    return difflib.SequenceMatcher(None, word, close[0]).ratio(), close[0]
