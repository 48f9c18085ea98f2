"""GPU counts that would leave some of the GPUs idle: for each a tree that excludes all of its layouts.

In a certificate ``{"rules": [ids], "trees": [[count, tree], ...]}``, or ``null`` where the request wants every GPU used, or
where the counts are too many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from constraints.problem import Problem
from constraints.refutation.file import BadFile, Refuted
from constraints.refutation.leaves import walked
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Broken
from constraints.refutation.tree import REFUTATION, Limits
from constraints.registry import enforced_rules
from constraints.rule import Rule

__all__ = ["TOGETHER", "Fewer", "named_rules", "verified_fewer"]

TOGETHER = Limits(40_000, 6_000)
"""What the trees of all counts may come to."""


def named_rules(problem: Problem, ids: Any) -> list[Rule]:
    """The rules that ``solve`` insists on for ``problem`` and that ``ids`` names. Raises :class:`Refuted`."""
    known = {rule.id: rule for rule in enforced_rules(problem)}
    if not isinstance(ids, list) or len(ids) != len(set(map(str, ids))):
        raise Refuted("the rules of a conflict are a list without repetition")
    unknown = [str(name)[:60] for name in ids if not isinstance(name, str) or name not in known]
    if unknown:
        raise Refuted(f"{unknown[0]} is not a rule that solve insists on for this request")
    return [known[name] for name in ids]


class Fewer(NamedTuple):
    """The counts without a layout, and how many leaves are about every partition of the layers."""

    counts: tuple[int, ...] = ()
    over_partitions: int = 0


def verified_fewer(problem: Problem, data: Any, counts: Iterable[int]) -> Fewer:
    """Check that ``data`` excludes every layout on each of ``counts`` GPUs; ``null`` claims nothing, of no count."""
    if data is None:
        return Fewer()
    if not isinstance(data, Mapping) or set(data) != {"rules", "trees"} or not isinstance(data["trees"], list):
        raise BadFile("what is said of fewer GPUs has rules and trees")
    reasons = [Broken(rule) for rule in named_rules(problem, data["rules"])]
    wanted, leaves, bounds, over_partitions = list(counts), 0, 0, 0
    if not problem.allow_idle or len(data["trees"]) != len(wanted):
        raise Refuted("not every count of GPUs that may be used has a tree, or some have no business there")
    for count, entry in zip(wanted, data["trees"], strict=True):
        if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not int or entry[0] != count:
            raise Refuted(f"{count} GPUs have no tree in their place")
        left = Limits(
            min(REFUTATION.leaves, TOGETHER.leaves - leaves), min(REFUTATION.bounds, TOGETHER.bounds - bounds)
        )
        done = walked(entry[1], reasons, Space(replace(problem, gpus=count)), left, where=f"on {count} GPUs")
        leaves, bounds = leaves + sum(done.leaves.values()), bounds + done.bounds
        over_partitions += done.over_partitions
    return Fewer(tuple(wanted), over_partitions)
