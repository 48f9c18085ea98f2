"""The certificate: a file that lets anybody check, without the solver, that a request has no layout.

Compact JSON::

    {"schema": "meshwright-certificate/1", "request": ..., "request_digest": ...,
     "conflicts": [{"rules": [ids], "tree": ..., "leaves": {id: n}, "witnesses": {id: decisions}}, ...],
     "ways_out": [{"change": "--gpus 40", "request": {what changes}, "layout": decisions}, ...], "digest": ...}

``tree`` excludes every layout by the rules of its conflict (:mod:`constraints.refutation.tree`); each witness keeps all of
them but one, so none can be spared; each way out comes with a layout that keeps every rule. Where ``solve`` puts the
layers is a function of the model and the pipeline shape, so the decisions are the whole layout. ``digest`` is over all
the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constraints.problem import Problem
from constraints.refutation.encoding import InvalidEncoding, canonical, decoded, decoded_changes, digest
from constraints.refutation.partial import Space
from constraints.refutation.tree import InvalidTree, TooLarge, verify_tree
from constraints.registry import enforced_rules
from constraints.rule import Rule

__all__ = ["SCHEMA", "BadFile", "Refuted", "Verified", "read_certificate", "sealed", "verify", "written"]

SCHEMA = "meshwright-certificate/1"
KEYS = {"schema", "request", "request_digest", "conflicts", "ways_out", "digest"}
LARGEST_FILE = 4 << 20
MOST_CONFLICTS, MOST_WAYS = 16, 32
DEEPEST = 60
"""Nesting of a certificate's JSON: thirteen decisions, two lists each, and what stands around them."""


class BadFile(ValueError):
    """It is no certificate: unreadable, too large, or of another form."""


class Refuted(Exception):
    """It is a certificate, and what it says is not so."""


@dataclass(frozen=True)
class Verified:
    """What was checked: ``problem`` has no layout; leaves by rule; how many witnesses and ways out."""

    problem: Problem
    conflicts: tuple[tuple[str, ...], ...]
    leaves: Mapping[str, int]
    witnesses: int
    ways_out: tuple[str, ...]


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with its digest."""
    body = {name: value for name, value in content.items() if name != "digest"}
    return {**body, "digest": digest(body)}


def read_certificate(text: str) -> dict[str, Any]:
    """The certificate in ``text``, or in the report of ``solve`` that ``text`` is. Raises :class:`BadFile`."""
    if len(text) > LARGEST_FILE:
        raise BadFile(f"has more than {LARGEST_FILE >> 20} MiB: no certificate is so large")
    _not_too_deep(text)
    try:
        data = json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"is not JSON: {str(error)[:100]}") from None
    if isinstance(data, dict) and isinstance(data.get("explanation"), dict):
        data = data["explanation"].get("certificate")
        if data is None:
            raise BadFile("is a report without a certificate")
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BadFile(f"is not a certificate: its schema is not {SCHEMA}")
    if set(data) != KEYS:
        raise BadFile("has other keys than a certificate")
    return data


def _not_too_deep(text: str) -> None:
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > DEEPEST:
                raise BadFile("is nested too deeply for a certificate")
        elif character in "]}":
            depth -= 1


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _integer(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 20 digits")
    return int(text)


def verify(data: Mapping[str, Any]) -> Verified:
    """Check every claim of a certificate.

    Raises :class:`Refuted` with the first claim that does not hold, :class:`BadFile` if it is not whole.
    """
    if data["digest"] != digest({name: value for name, value in data.items() if name != "digest"}):
        raise Refuted("its digest is not that of its content: it was changed or cut after it was written")
    if data["request_digest"] != digest(data["request"]):
        raise Refuted("the digest of the request is not that of the request in it")
    try:
        problem = decoded(data["request"])
    except InvalidEncoding as error:
        raise Refuted(f"its request cannot be taken: {error}") from None
    conflicts, ways = data["conflicts"], data["ways_out"]
    if not isinstance(conflicts, list) or not 1 <= len(conflicts) <= MOST_CONFLICTS:
        raise BadFile("has no conflicts, or too many")
    if not isinstance(ways, list) or len(ways) > MOST_WAYS:
        raise BadFile("has no list of ways out, or too many")
    space = Space(problem)
    leaves: dict[str, int] = {}
    witnesses = 0
    named = []
    for conflict in conflicts:
        rules = _rules(problem, conflict)
        witnesses += _verify_witnesses(space, rules, conflict["witnesses"])
        for name, count in _verify_conflict(space, rules, conflict).items():
            leaves[name] = leaves.get(name, 0) + count
        named.append(tuple(rule.id for rule in rules))
    if len(set(map(frozenset, named))) != len(named):
        raise Refuted("a conflict stands there twice")
    changes = tuple(_verify_way(data["request"], way) for way in ways)
    return Verified(problem, tuple(named), leaves, witnesses, changes)


def _rules(problem: Problem, conflict: Any) -> list[Rule]:
    if not isinstance(conflict, Mapping) or set(conflict) != {"rules", "tree", "leaves", "witnesses"}:
        raise BadFile("a conflict has rules, a tree, leaves and witnesses")
    ids, known = conflict["rules"], {rule.id: rule for rule in enforced_rules(problem)}
    if not isinstance(ids, list) or not ids or len(ids) != len(set(map(str, ids))):
        raise Refuted("the rules of a conflict are a list without repetition")
    unknown = [str(name)[:60] for name in ids if not isinstance(name, str) or name not in known]
    if unknown:
        raise Refuted(f"{unknown[0]} is not a rule that solve insists on for this request")
    return [known[name] for name in ids]


def _verify_conflict(space: Space, rules: list[Rule], conflict: Mapping[str, Any]) -> dict[str, int]:
    try:
        done = verify_tree(conflict["tree"], rules, space)
    except InvalidTree as error:
        raise Refuted(str(error)) from None
    except TooLarge as error:
        raise BadFile(f"has {error}") from None
    counted = {rule.id: done.leaves[number] for number, rule in enumerate(rules)}
    if conflict["leaves"] != counted:
        raise Refuted("its leaves are not as many as it says")
    return counted


def _verify_witnesses(space: Space, rules: list[Rule], witnesses: Any) -> int:
    """Each rule has a layout that keeps all the others and breaks it."""
    if not isinstance(witnesses, Mapping) or set(witnesses) != {rule.id for rule in rules}:
        raise Refuted("not every rule of the conflict has a witness that it cannot be spared")
    for spared in rules:
        layout = _layout(space, witnesses[spared.id], f"the witness for {spared.id}")
        broken = [rule.id for rule in rules if not rule.holds(space.problem, layout)]
        if broken != [spared.id]:
            raise Refuted(f"the witness for {spared.id} breaks {', '.join(broken) or 'nothing'}")
    return len(rules)


def _verify_way(request: Mapping[str, Any], way: Any) -> str:
    """The layout of a way out keeps every rule of the changed request."""
    if (
        not isinstance(way, Mapping)
        or set(way) != {"change", "request", "layout"}
        or not isinstance(way["change"], str)
    ):
        raise BadFile("a way out has a change, the request then and a layout")
    if not way["request"]:
        raise Refuted(f"{way['change'][:80]} changes nothing")
    try:
        problem = decoded_changes(request, way["request"])
    except InvalidEncoding as error:
        raise Refuted(f"the way out {way['change'][:80]} cannot be taken: {error}") from None
    layout = _layout(Space(problem), way["layout"], f"the layout of {way['change'][:80]}")
    broken = [rule.id for rule in enforced_rules(problem) if not rule.holds(problem, layout)]
    if broken:
        raise Refuted(f"the layout of {way['change'][:80]} breaks {', '.join(broken)}")
    return way["change"]


def _layout(space: Space, point: Any, what: str) -> Any:
    if not isinstance(point, Mapping) or not all(type(value) is int for value in point.values()):
        raise Refuted(f"{what} is no layout")
    try:
        return space.layout(point)
    except ValueError as error:
        raise Refuted(f"{what} is not of the space: {error}") from None


def written(data: Mapping[str, Any]) -> str:
    """The certificate as a file holds it."""
    return canonical(data) + "\n"
