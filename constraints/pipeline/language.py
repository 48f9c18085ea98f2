"""Megatron's layout language: ``E`` embedding, ``t`` decoder layer, ``m`` MTP layer, ``L`` loss, ``|`` a chunk's end.

``x*n`` repeats a token and ``(...)*n`` a group (which may hold ``|``); groups do not nest; commas and spaces are
ignored. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/transformer/pipeline_parallel_layer_layout.py::parse_str_to_list``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

__all__ = ["LayoutSyntaxError", "format_layout", "parse_layout"]

MAX_TOKENS = 100_000
"""More tokens than any model has layers: a repeat count beyond this is a slip or an attack, not a layout."""

_TOKEN = re.compile(r"([EtmL|])(?:\*(\d+))?")
_GROUP = re.compile(r"\(([^()]*)\)(?:\*(\d+))?")


class LayoutSyntaxError(ValueError):
    """A layout string that Megatron's parser would not accept. ``text`` is the string, ``problem`` says what is wrong."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"layout string {text!r}: {problem}")
        self.text = text
        self.problem = problem


@lru_cache(maxsize=4096)
def parse_layout(text: str) -> tuple[str, ...]:
    """The chunks of a layout string, each a string over ``E t m L``, in chunk order.

    >>> parse_layout("Et*2|(tt|)*2mL")
    ('Ett', 'tt', 'tt', 'mL')

    Raises :class:`LayoutSyntaxError`.
    """
    stripped = re.sub(r"[\s,]", "", text)
    expanded = _GROUP.sub(lambda group: _repeat(text, _expand(text, group[1]), group[2]), stripped)
    if "(" in expanded or ")" in expanded:
        raise LayoutSyntaxError(text, "parentheses do not match, or are nested")
    return tuple(_expand(text, expanded).split("|"))


def _expand(text: str, body: str) -> str:
    out: list[str] = []
    position = 0
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            raise LayoutSyntaxError(text, f"{body[position]!r} is not one of E t m L | or a repeat '*n'")
        out.append(_repeat(text, token[1], token[2]))
        position = token.end()
    return "".join(out)


def _repeat(text: str, body: str, count: str | None) -> str:
    times = 1 if count is None else int(count[:9])
    if times * len(body) > MAX_TOKENS:
        raise LayoutSyntaxError(text, f"repeats to more than {MAX_TOKENS} tokens")
    return body * times


def format_layout(chunks: Sequence[str]) -> str:
    """The layout string of ``chunks``, runs folded.

    >>> format_layout(["Ett", "tt", "mL"])
    'Et*2|t*2|mL'
    """
    return "|".join(
        "".join(token if (n := len(list(run))) == 1 else f"{token}*{n}" for token, run in groupby(chunk))
        for chunk in chunks
    )
