"""Layer patterns as Megatron writes them: ``([0]*3+[1]*58)``, ``[0,1]*24``, ``([1]*3+[0]*1)*12``, a list, or a number.

Megatron-LM evaluates such text as Python (``megatron/training/arguments.py::moe_freq_type``); here it is parsed::

    pattern := term ("+" term)*
    term    := ("[" digits "]" | "(" pattern ")") ("*" count)*
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

__all__ = ["PatternError", "parse_pattern", "pattern_text"]

LONGEST = 10_000
LONGEST_PERIOD = 8
MOST_RUNS = 4

_TOKEN = re.compile(r"\s*(\[[\s01,]*\]|\(|\)|\+|\*\s*\d{1,5})")


class PatternError(ValueError):
    """Text that is not a pattern, or one longer than any model."""


def parse_pattern(text: str) -> tuple[int, ...] | int:
    """The layers that ``text`` describes, 0 or 1 for each, or the number it is. Raises :class:`PatternError`.

    >>> parse_pattern("([0]*1+[1]*3)")
    (0, 1, 1, 1)
    >>> parse_pattern("[0,1]*2")
    (0, 1, 0, 1)
    """
    if re.fullmatch(r"\s*\d{1,4}\s*", text):
        return int(text)
    tokens = _tokens(text)
    pattern, rest = _pattern(tokens)
    if rest:
        raise PatternError(text)
    return tuple(pattern)


def pattern_text(pattern: Sequence[int]) -> str | list[int]:
    """The shortest of Megatron's forms for ``pattern``, or the list itself if it has no short form.

    >>> pattern_text((0, 1, 1, 1)), pattern_text((0, 1) * 24), pattern_text((1, 1, 1, 0) * 12 + (1, 0))
    ('([0]*1+[1]*3)', '([0,1]*24)', '([1,1,1,0]*12+[1,0])')
    """
    whole = list(pattern)
    periods = range(2, min(len(whole) // 2, LONGEST_PERIOD) + 1)
    for period in periods:
        times, left = divmod(len(whole), period)
        if len(set(whole[:period])) == 2 and whole[: period * times] == whole[:period] * times:
            return f"({_bracketed(whole[:period])}*{times}{'+' if left else ''}{_bracketed(whole[period * times :])})"
    runs = [(value, len(list(run))) for value, run in groupby(whole)]
    if len(runs) > MOST_RUNS:
        return whole
    return "(" + "+".join(f"[{value}]*{length}" for value, length in runs) + ")"


def _bracketed(layers: list[int]) -> str:
    return f"[{','.join(map(str, layers))}]" if layers else ""


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    place = 0
    while text[place:].strip():
        matched = _TOKEN.match(text, place)
        if matched is None or len(tokens) > LONGEST:
            raise PatternError(text)
        tokens.append(matched[1])
        place = matched.end()
    return tokens


def _pattern(tokens: list[str], depth: int = 0) -> tuple[list[int], list[str]]:
    layers, rest = _term(tokens, depth)
    while rest and rest[0] == "+":
        more, rest = _term(rest[1:], depth)
        layers = layers + more
    return _short(layers), rest


def _term(tokens: list[str], depth: int) -> tuple[list[int], list[str]]:
    if not tokens or depth > 4:
        raise PatternError("no pattern")
    first, rest = tokens[0], tokens[1:]
    if first.startswith("["):
        layers = [int(digit) for digit in re.findall(r"[01]", first)]
    elif first == "(":
        layers, rest = _pattern(rest, depth + 1)
        if not rest or rest[0] != ")":
            raise PatternError("a bracket is not closed")
        rest = rest[1:]
    else:
        raise PatternError(first)
    while rest and rest[0].startswith("*"):
        layers, rest = _short(layers * int(rest[0][1:])), rest[1:]
    return layers, rest


def _short(layers: list[int]) -> list[int]:
    if len(layers) > LONGEST:
        raise PatternError(f"more than {LONGEST} layers")
    return layers
