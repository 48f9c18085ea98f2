"""Writing certificates: for each conflict a tree that excludes every layout, its witnesses, and the ways out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from constraints.problem import Problem
from constraints.refutation.certificate import SCHEMA, BadFile, Refuted, read_certificate, sealed, verify, written
from constraints.refutation.encoding import digest, encoded, encoded_changes
from constraints.refutation.partial import Space
from constraints.refutation.tree import TooLarge, grow
from solver.explain import Minimal
from solver.search import Disagreement
from solver.ways_out import WayOut

__all__ = ["Certified", "NotAConflict", "certified"]


class NotAConflict(Exception):
    """The rules leave a layout that the question about them left out."""


@dataclass(frozen=True)
class Certified:
    """A certificate that the checker has verified, and how many leaves it has."""

    certificate: Mapping[str, Any]
    leaves: int


def certified(problem: Problem, conflicts: Iterable[Minimal], ways: Iterable[WayOut]) -> Certified | None:
    """A verified certificate of those conflicts that are not too large for one; ``None`` if all are.

    Raises :class:`NotAConflict` if a conflict is none in the whole space, and :class:`~solver.search.Disagreement` if the
    checker refutes what was written.
    """
    space = Space(problem)
    parts = [part for conflict in conflicts if (part := _part(space, conflict)) is not None]
    if not parts:
        return None
    request = encoded(problem)
    content = {
        "schema": SCHEMA,
        "request": request,
        "request_digest": digest(request),
        "conflicts": parts,
        "ways_out": [_way(problem, way) for way in ways],
    }
    try:
        certificate = read_certificate(written(sealed(content)))
        done = verify(certificate)
    except (Refuted, BadFile) as error:
        raise Disagreement(f"the checker does not agree that there is no layout: {error}") from error
    return Certified(certificate, sum(done.leaves.values()))


def _part(space: Space, conflict: Minimal) -> dict[str, Any] | None:
    rules = list(conflict.rules)
    try:
        tree = grow(rules, space)
    except TooLarge:
        return None
    if tree is None:
        raise NotAConflict(", ".join(sorted(conflict.ids)))
    leaves = dict.fromkeys((rule.id for rule in rules), 0)
    for number in _numbers(tree):
        leaves[rules[number].id] += 1
    return {
        "rules": [rule.id for rule in rules],
        "tree": tree,
        "leaves": leaves,
        "witnesses": {name: space.point(layout) for name, layout in conflict.witnesses.items()},
    }


def _numbers(tree: Any, times: int = 1) -> Iterable[int]:
    """The rule of each leaf, once for every value that it stands below."""
    if isinstance(tree, int):
        yield from [tree] * times
        return
    for values, child in tree[1:]:
        yield from _numbers(child, len(values))


def _way(problem: Problem, way: WayOut) -> dict[str, Any]:
    changed = way.changed.problem
    return {
        "change": way.text,
        "request": encoded_changes(problem, changed),
        "layout": Space(changed).point(way.layout),
    }
