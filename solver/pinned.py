"""Pins and limits, as words, to rules; pinned switches to settings, a pinned MTP depth to a change of the model."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from constraints.errors import RequestError, elsewhere
from constraints.layout import Layout, Settings
from constraints.partition.kinds import runs_of
from constraints.pins import Limit, Pin, PinCount, PinRecompute
from constraints.problem import Origin, Problem
from constraints.recompute import METHODS
from constraints.rule import Rule
from constraints.spelling import canonical_name
from constraints.values import read_value
from solver.request import Request

__all__ = ["Pinned", "pinned_words", "refuse_impossible_counts", "similar"]

DECISIONS = {
    "tp": "tp",
    "pp": "pp",
    "vpp": "vpp",
    "cp": "cp",
    "ep": "ep",
    "etp": "etp",
    "dp": "dp",
    "edp": "edp",
    "mbs": "micro_batch_size",
    "m": "num_microbatches",
    "sp": "sequence_parallel",
}
"""Short names of the decisions that can be pinned; Megatron's names are accepted too (``constraints.spelling``)."""

SWITCHES = tuple(f.name for f in fields(Settings))
COUNTED = {"recompute_method": "method", "recompute_num_layers": "num_layers"}
"""How full recompute goes: the name of a pin, and what it is called there."""
PINNABLE = (*DECISIONS, "recompute", *COUNTED, "mtp_num_layers", *SWITCHES)
LARGEST = 9_999_999

_LIMIT = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=|<|>)\s*(-?\d{1,8})\s*")


@dataclass
class Pinned:
    """``rules`` of stratum ``pin``; ``switches`` for the settings; ``model_fields`` that replace the catalog's;
    ``origins`` of the latter two."""

    rules: list[Rule] = field(default_factory=list)
    switches: dict[str, Any] = field(default_factory=dict)
    model_fields: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)


def pinned_words(request: Request) -> Pinned:
    """What the request's ``pin`` and ``limit`` words mean.

    Raises :class:`~constraints.errors.RequestError` for a key that cannot be pinned, a value that it cannot have, and two
    pins that contradict each other.
    """
    pinned = Pinned()
    given: dict[str, tuple[Any, str]] = {}
    for word in request.pin:
        name, text = _split(request, word)
        value = _value(request, word, name, text)
        if name in given and given[name][0] != value:
            other = given[name][1]
            there, here = request.origin("pin", other), request.origin("pin", word)
            raise _error(request, word, f"contradicts {other}{elsewhere(there, here)}")
        if name not in given:
            given[name] = value, word
            _keep(pinned, request, word, name, value)
    granularity, by = given.get("recompute", ("full", ""))
    for name in COUNTED:
        if name in given and granularity != "full":
            raise _error(request, given[name][1], f"is about recompute=full, and contradicts {by}")
    pinned.rules += [_limit(request, word) for word in request.limit]
    return pinned


def refuse_impossible_counts(problem: Problem) -> None:
    """Raise :class:`~constraints.errors.RequestError` where nothing that ``solve`` may recompute goes as the pins say."""
    words = [pin for pin in problem.pins if isinstance(pin, PinCount)]
    pins = [pin for pin in problem.pins if pin.scope == ("recompute",)]
    options = (*problem.recompute_options, *problem.counted(1))
    if not words or any(all(pin.holds(problem, Layout(recompute=one)) for pin in pins) for one in options):
        return
    model, word = problem.model, words[-1]
    one_by_one = "recompute_method=uniform recompute_num_layers=1"
    if any(isinstance(pin.value, int) and pin.value > model.num_layers for pin in words):
        message = f"is more than the {model.num_layers} layers of {model.name}"
    elif runs_of(model) is None:
        message = f"cannot be: kinds of layers alternate in {model.name}, where solve knows only {one_by_one}"
    elif any(pin.value == "block" for pin in words):
        message = f"is every layer of {model.name}: {one_by_one} says so"
    else:
        message = f"cannot be: MTP layers of {model.name} are recomputed one by one only, recompute_num_layers=1"
    raise RequestError("pin", word.text, word.origin, message)


def similar(word: object, choices: Iterable[str]) -> str:
    """``; did you mean X?`` for the closest choice, or nothing."""
    close = difflib.get_close_matches(str(word), list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _keep(pinned: Pinned, request: Request, word: str, name: str, value: Any) -> None:
    origin = request.origin("pin", word)
    if name in DECISIONS:
        pinned.rules.append(Pin(name, DECISIONS[name], value, origin))
    elif name == "recompute":
        pinned.rules.append(PinRecompute(value, origin))
    elif name in COUNTED:
        pinned.rules.append(PinCount(COUNTED[name], value, origin))
    else:
        pinned.origins[name] = origin
        if name == "mtp_num_layers":
            pinned.model_fields[name] = value or None
        elif value is not None:
            pinned.switches[name] = value


def _split(request: Request, word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise _error(request, word, "must be KEY=VALUE, as in tp=4")
    name = canonical_name(key.strip())
    if name not in PINNABLE:
        raise _error(request, word, f"{key.strip()} cannot be pinned{similar(key, PINNABLE)}")
    return name, value.strip()


def _value(request: Request, word: str, name: str, text: str) -> Any:
    if name == "recompute":
        if text not in ("none", "selective", "full"):
            raise _error(request, word, "recompute is none, selective or full")
        return text
    if name == "recompute_method":
        if text not in METHODS:
            raise _error(request, word, f"recompute_method is {' or '.join(METHODS)}")
        return text
    if name == "vpp" and text.lower() in ("null", "none", "1"):
        return None
    if name == "sp":
        if text.lower() not in ("true", "false", "1", "0"):
            raise _error(request, word, "must be true or false")
        return text.lower() in ("true", "1")
    if name in (*DECISIONS, "recompute_num_layers", "mtp_num_layers"):
        least = 0 if name == "mtp_num_layers" else 1
        if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) < least:
            raise _error(request, word, f"must be a whole number from {least} to {LARGEST}")
        return int(text)
    try:
        return read_value(name, text)
    except ValueError as error:
        raise _error(request, word, str(error)) from None


def _limit(request: Request, word: str) -> Rule:
    origin = request.origin("limit", word)
    matched = _LIMIT.fullmatch(word)
    if matched is None:
        raise RequestError("limit", word, origin, "must be KEY<=NUMBER (or >=, <, >), as in 'tp<=4'")
    name = canonical_name(matched[1])
    sized = [decision for decision in DECISIONS if decision != "sp"]
    if name not in sized:
        raise RequestError("limit", word, origin, f"{matched[1]} has no size to limit{similar(matched[1], sized)}")
    return Limit(name, DECISIONS[name], matched[2], int(matched[3]), origin)


def _error(request: Request, word: str, message: str) -> RequestError:
    return RequestError("pin", word, request.origin("pin", word), message)
