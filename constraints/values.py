"""The value of a layout word: text is parsed, ready values are checked, and what comes out has one type."""

from __future__ import annotations

import json
import re
from typing import Any

from constraints.spelling import Spelling, spelling_of

__all__ = ["plain_value", "read_value"]

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
LONGEST_TEXT = 10_000
MOST_ITEMS = 10_000


def read_value(name: str, value: Any) -> Any:
    """``value`` as the word's kind: text is parsed, ready values are checked. ``None`` and "null" mean "not set".

    Raises ``ValueError`` with a message that says what was expected.

    >>> read_value("tp", "8"), read_value("sp", "true"), read_value("recompute_modules", "mlp,moe")
    (8, True, ('mlp', 'moe'))
    """
    spelling = spelling_of(name)
    if spelling is None:
        raise KeyError(name)
    if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none", "")):
        return None
    return _READERS[spelling.kind](spelling, value)


def plain_value(value: Any) -> Any:
    """Text of a command line as YAML would read it: a number, true, false, null, a list, or text.

    >>> plain_value("61"), plain_value("True"), plain_value("[0, 1]"), plain_value("silu")
    (61, True, [0, 1], 'silu')
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    constants = {"true": True, "false": False, "null": None, "none": None, "": None}
    if text.lower() in constants:
        return constants[text.lower()]
    if text.startswith("[") and len(text) <= LONGEST_TEXT:
        try:
            return json.loads(text.replace("'", '"'))
        except (ValueError, RecursionError):
            return text
    if len(text) <= 18 and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float8": "fp8", "uint8": "fp8"}
"""PyTorch's names of number formats, as Bridge writes them, to Megatron-LM's; fp8 moments are stored as bytes."""


def _dtype(spelling: Spelling, value: Any) -> str:
    name = str(value).strip().strip("'\"").removeprefix("torch.").lower()
    name = DTYPES.get(name, name)
    if name not in DTYPES.values():
        raise ValueError(f"must be one of {', '.join(dict.fromkeys(DTYPES.values()))}, not {_shown(value)}")
    return name


def _integer(spelling: Spelling, value: Any) -> int:
    if isinstance(value, str):
        text = value.strip()
        if not (text.isascii() and text.removeprefix("-").isdigit()) or len(text) > 18:
            raise ValueError(f"must be a whole number, not {_shown(value)}")
        value = int(text)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {_shown(value)}")
    if not spelling.least <= value <= spelling.most:
        raise ValueError(f"must be from {spelling.least} to {spelling.most}, not {_shown(value)}")
    return value


def _float(spelling: Spelling, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"must be a number, not {_shown(value)}") from None
    if isinstance(value, bool) or not abs(number) <= 1e9:
        raise ValueError(f"must be a number of sensible size, not {_shown(value)}")
    return number


def _boolean(spelling: Spelling, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0"):
        return value.strip().lower() in ("true", "1")
    if type(value) is int and value in (0, 1):
        return bool(value)
    raise ValueError(f"must be true or false, not {_shown(value)}")


def _version_2(spelling: Spelling, value: Any) -> bool:
    """Megatron FSDP is version 1 or 2."""
    if isinstance(value, bool):
        return value
    if str(value).strip() not in ("1", "2"):
        raise ValueError(f"must be 1 or 2, not {_shown(value)}")
    return str(value).strip() == "2"


def _text(spelling: Spelling, value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"must be a word, not {_shown(value)}")
    word = _unquoted(value)
    if not word.isprintable():  # it may be emitted as a comment of a script
        raise ValueError(f"must be a word without control characters, not {_shown(value)}")
    return word


def _unquoted(text: str) -> str:
    """Hydra keeps quotes around values that its grammar would misread; they are no part of the value."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        text = _unquoted(value)
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"must be a list of sensible length, not {_shown(value)}")
        value = _bracketed(text) if text.startswith("[") else text.replace(",", " ").split()
    if not isinstance(value, list | tuple) or len(value) > MOST_ITEMS:
        raise ValueError(f"must be a list, not {_shown(value)}")
    return [_unquoted(item) if isinstance(item, str) else item for item in value]


def _bracketed(text: str) -> list[Any]:
    """A list in JSON, Python or Hydra: words need no quotes, lists may hold lists.

    >>> _bracketed("[[embedding, decoder], ['decoder', loss]]")
    [['embedding', 'decoder'], ['decoder', 'loss']]
    """
    stack: list[list[Any]] = [[]]
    word = ""
    for character in text:
        if character not in "[],":
            word += character
            continue
        if word.strip():
            stack[-1].append(_unquoted(word))
        word = ""
        if character == "[":
            stack.append([])
        elif character == "]":
            if len(stack) == 1:
                raise ValueError(f"has a bracket too many: {_shown(text)}")
            closed = stack.pop()
            stack[-1].append(closed)
    if len(stack) != 1 or len(stack[0]) != 1 or word.strip():
        raise ValueError(f"has brackets that do not match: {_shown(text)}")
    inner: list[Any] = stack[0][0]
    return inner


def _integers(spelling: Spelling, value: Any) -> tuple[int, ...]:
    return tuple(_integer(spelling, item) for item in _items(value))


def _texts(spelling: Spelling, value: Any) -> tuple[str, ...]:
    return tuple(_text(spelling, item) for item in _items(value))


def _text_or_texts(spelling: Spelling, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and not _unquoted(value).startswith("["):
        return _text(spelling, value)
    return _texts(spelling, value)


_TOKENS = {"embedding": "E", "decoder": "t", "mtp": "m", "loss": "L"}


def _layout(spelling: Spelling, value: Any) -> str:
    """A layout string, or Megatron's nested lists of layer names as one."""
    if isinstance(value, str) and not _unquoted(value).startswith("["):
        return _text(spelling, value)
    chunks = []
    for chunk in _items(value):
        names = chunk if isinstance(chunk, list | tuple) else [chunk]
        unknown = [name for name in names if not isinstance(name, str) or name not in _TOKENS]
        if unknown:
            raise ValueError(f"has {_shown(unknown[0])}: a chunk is a list of {', '.join(_TOKENS)}")
        chunks.append("".join(_TOKENS[name] for name in names))
    return "|".join(chunks)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_READERS = {
    "int": _integer,
    "float": _float,
    "bool": _boolean,
    "dtype": _dtype,
    "version 2": _version_2,
    "str": _text,
    "ints": _integers,
    "strs": _texts,
    "str or strs": _text_or_texts,
    "layout": _layout,
}
