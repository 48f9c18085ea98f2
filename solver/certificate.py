"""Writing certificates: that there is no layout (a tree and witnesses for each conflict), or none that is better."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.certificate import SCHEMA, BadFile, Refuted, read_certificate, sealed, verify, written
from constraints.refutation.encoding import digest, encoded, encoded_changes
from constraints.refutation.objective import value_of
from constraints.refutation.partial import Space
from constraints.refutation.tree import TooLarge, grow, grow_optimum, leaf_numbers, renumbered
from constraints.registry import enforced_rules
from solver.explain import Minimal
from solver.idle import Excluded
from solver.proof import BLOCKS, COUNTS, Proof
from solver.search import Disagreement
from solver.ways_out import WayOut

__all__ = ["Certified", "LeftAside", "NotAConflict", "certified", "certified_optimum"]


class NotAConflict(Exception):
    """The rules leave a layout that the question about them left out."""


class LeftAside(Exception):
    """The request is about what proofs of an optimum leave aside."""


@dataclass(frozen=True)
class Certified:
    """A certificate that the checker has verified, and what it proves by."""

    certificate: Mapping[str, Any]
    proof: Proof


def certified(
    problem: Problem, conflicts: Iterable[Minimal], ways: Iterable[WayOut], fewer: Excluded | None = None
) -> Certified | None:
    """A verified certificate of those conflicts that are not too large for one; ``None`` if all are.

    ``fewer`` excludes the counts that leave GPUs idle.

    Raises :class:`NotAConflict` if a conflict is none in the whole space, and :class:`~solver.search.Disagreement` if the
    checker refutes what was written.
    """
    space = Space(problem)
    parts = [part for conflict in conflicts if (part := _part(space, conflict)) is not None]
    if not parts:
        return None
    content = {"conflicts": parts, "ways_out": [_way(problem, way) for way in ways]}
    return _verified(problem, content, fewer, "that there is no layout")


def certified_optimum(problem: Problem, layout: Layout, fewer: Excluded | None = None) -> Certified:
    """A verified certificate that no layout is better than ``layout``, by the objective of ``problem``.

    ``layout`` may use fewer GPUs than there are; ``fewer`` excludes the counts between. Raises
    :class:`~constraints.refutation.tree.TooLarge` if the proof has more leaves or bounds than a certificate may,
    :class:`LeftAside` where the user's words are about recompute by count, of which blocks are left aside, and
    :class:`~solver.search.Disagreement` if some layout is better after all, or the checker refutes what was written.
    """
    if problem.counts_asked:
        raise LeftAside("leaves aside how full recompute goes, which was asked for")
    used = replace(problem, gpus=layout.gpus)
    space, rules, value = Space(used), list(enforced_rules(used)), value_of(used, layout)
    tree = grow_optimum(rules, space, value)
    if tree is None:
        raise Disagreement(f"the checker finds a layout that may be better than {layout}")
    numbers = list(leaf_numbers(tree))
    needed = [number for number in range(len(rules)) if number in set(numbers)]
    places = {number: place for place, number in enumerate([*needed, len(rules)])}
    leaves = {rules[number].id: numbers.count(number) for number in needed} | {"objective": numbers.count(len(rules))}
    optimum = {
        "value": value,
        "layout": space.point(layout),
        "gpus": layout.gpus,
        "rules": [rules[number].id for number in needed],
        "tree": renumbered(tree, places),
        "leaves": leaves,
    }
    return _verified(problem, {"optimum": optimum}, fewer, "that no layout is better")


def _verified(problem: Problem, claim: Mapping[str, Any], fewer: Excluded | None, what: str) -> Certified:
    request = encoded(problem)
    counts = fewer.to_mapping() if fewer is not None else None
    content = {"schema": SCHEMA, "request": request, "request_digest": digest(request), "fewer": counts, **claim}
    try:
        certificate = read_certificate(written(sealed(content)))
        done = verify(certificate)
    except (Refuted, BadFile) as error:
        raise Disagreement(f"the checker does not agree {what}: {error}") from error
    steps, aside = sum(done.leaves.values()), ""
    if "optimum" in claim and problem.counted(1):
        aside = BLOCKS if problem.weighs_counts else COUNTS
    return Certified(certificate, Proof(done.level, steps, done.over_partitions, aside))


def _part(space: Space, conflict: Minimal) -> dict[str, Any] | None:
    rules = list(conflict.rules)
    try:
        tree = grow(rules, space)
    except TooLarge:
        return None
    if tree is None:
        raise NotAConflict(", ".join(sorted(conflict.ids)))
    leaves = dict.fromkeys((rule.id for rule in rules), 0)
    for number in leaf_numbers(tree):
        leaves[rules[number].id] += 1
    return {
        "rules": [rule.id for rule in rules],
        "tree": tree,
        "leaves": leaves,
        "witnesses": {name: space.point(layout) for name, layout in conflict.witnesses.items()},
    }


def _way(problem: Problem, way: WayOut) -> dict[str, Any]:
    changed = way.changed.problem
    return {
        "change": way.text,
        "request": encoded_changes(problem, changed),
        "layout": Space(changed).point(way.layout),
    }
