"""The certificate: a file that lets anybody check, without the solver, what ``solve`` says of a request.

Compact JSON, either that there is no layout::

    {"schema": "meshwright-certificate/1", "request": ..., "request_digest": ..., "fewer": ...,
     "conflicts": [{"rules": [ids], "tree": ..., "leaves": {id: n}, "witnesses": {id: decisions}}, ...],
     "ways_out": [{"change": "--gpus 40", "request": {what changes}, "layout": decisions}, ...], "digest": ...}

or that there is no better one (``"optimum"`` in the place of the last two, :mod:`constraints.refutation.optimum`).
``tree`` excludes every layout by the rules of its conflict (:mod:`constraints.refutation.tree`); each witness keeps all of
them but one, so none can be spared; each way out comes with a layout that keeps every rule. ``fewer`` excludes the GPU
counts that would leave some idle, where the request allows that (:mod:`constraints.refutation.fewer`). Where ``solve``
puts the layers is a function of the model and the pipeline shape, so the decisions are the whole layout. ``digest`` is
over all the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from constraints.problem import Problem
from constraints.refutation.encoding import InvalidEncoding, decoded, decoded_changes, digest
from constraints.refutation.fewer import named_rules, verified_fewer
from constraints.refutation.file import (
    LARGEST_FILE,
    SCHEMA,
    BadFile,
    Refuted,
    layout_at,
    read_certificate,
    sealed,
    written,
)
from constraints.refutation.leaves import counted_leaves, level_of
from constraints.refutation.optimum import VerifiedOptimum, verified_optimum
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Broken
from constraints.registry import enforced_rules
from constraints.rule import Rule

__all__ = [
    "LARGEST_FILE",
    "SCHEMA",
    "BadFile",
    "Refuted",
    "Verified",
    "VerifiedOptimum",
    "read_certificate",
    "sealed",
    "verify",
    "written",
]

MOST_CONFLICTS, MOST_WAYS = 16, 32


@dataclass(frozen=True)
class Verified:
    """What was checked: ``problem`` has no layout; leaves by rule; how many witnesses, ways out and idle counts.

    ``level`` is what it proves by (:func:`~constraints.refutation.leaves.level_of`), ``over_partitions`` are those of the
    leaves that are about every partition of the layers.
    """

    problem: Problem
    conflicts: tuple[tuple[str, ...], ...]
    leaves: Mapping[str, int]
    witnesses: int
    ways_out: tuple[str, ...]
    fewer: tuple[int, ...]
    level: str
    over_partitions: int


def verify(data: Mapping[str, Any]) -> Verified | VerifiedOptimum:
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
    if "optimum" in data:
        return verified_optimum(problem, data["optimum"], data["fewer"])
    return _verified_refutation(problem, data)


def _verified_refutation(problem: Problem, data: Mapping[str, Any]) -> Verified:
    conflicts, ways = data["conflicts"], data["ways_out"]
    if not isinstance(conflicts, list) or not 1 <= len(conflicts) <= MOST_CONFLICTS:
        raise BadFile("has no conflicts, or too many")
    if not isinstance(ways, list) or len(ways) > MOST_WAYS:
        raise BadFile("has no list of ways out, or too many")
    space = Space(problem)
    leaves: dict[str, int] = {}
    witnesses = over_partitions = 0
    named = []
    for conflict in conflicts:
        rules = _rules(problem, conflict)
        witnesses += _verify_witnesses(space, rules, conflict["witnesses"])
        counted = counted_leaves(conflict, [Broken(rule) for rule in rules], space)
        for name, count in counted.by_reason.items():
            leaves[name] = leaves.get(name, 0) + count
        over_partitions += counted.over_partitions
        named.append(tuple(rule.id for rule in rules))
    if len(set(map(frozenset, named))) != len(named):
        raise Refuted("a conflict stands there twice")
    changes = tuple(_verify_way(data["request"], way) for way in ways)
    fewer = verified_fewer(problem, data["fewer"], range(1, problem.gpus))
    level = level_of(over_partitions + fewer.over_partitions)
    return Verified(problem, tuple(named), leaves, witnesses, changes, fewer.counts, level, over_partitions)


def _rules(problem: Problem, conflict: Any) -> list[Rule]:
    if not isinstance(conflict, Mapping) or set(conflict) != {"rules", "tree", "leaves", "witnesses"}:
        raise BadFile("a conflict has rules, a tree, leaves and witnesses")
    if not conflict["rules"]:
        raise Refuted("a conflict has rules")
    return named_rules(problem, conflict["rules"])


def _verify_witnesses(space: Space, rules: list[Rule], witnesses: Any) -> int:
    """Each rule has a layout that keeps all the others and breaks it."""
    if not isinstance(witnesses, Mapping) or set(witnesses) != {rule.id for rule in rules}:
        raise Refuted("not every rule of the conflict has a witness that it cannot be spared")
    for spared in rules:
        layout = layout_at(space, witnesses[spared.id], f"the witness for {spared.id}")
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
    layout = layout_at(Space(problem), way["layout"], f"the layout of {way['change'][:80]}")
    broken = [rule.id for rule in enforced_rules(problem) if not rule.holds(problem, layout)]
    if broken:
        raise Refuted(f"the layout of {way['change'][:80]} breaks {', '.join(broken)}")
    return way["change"]
