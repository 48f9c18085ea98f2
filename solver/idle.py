"""GPU counts that would leave some GPUs idle: those without a layout are excluded by trees. No ortools here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.refutation.fewer import TOGETHER
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Broken
from constraints.refutation.tree import TooLarge, grow, leaf_numbers, renumbered
from constraints.registry import enforced_rules
from constraints.rule import Rule, Stratum

__all__ = ["USUAL", "Excluded", "excluded", "tree_of"]

QUICK = 100
"""Bounds after which a solver is asked instead."""
USUAL = 400
"""The same where only the usual suspects are asked: few rules make small trees."""


@dataclass(frozen=True)
class Excluded:
    """Counts of GPUs without a layout: for each the tree that excludes all, its leaves numbering the enforced rules."""

    problem: Problem
    trees: Mapping[int, Any]

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that some leaf names."""
        numbers = {number for tree in self.trees.values() for number in leaf_numbers(tree)}
        return tuple(rule.id for number, rule in enumerate(enforced_rules(self.problem)) if number in numbers)

    def to_mapping(self) -> dict[str, Any]:
        """``fewer`` of a certificate."""
        used = self.rules
        places = {number: used.index(r.id) for number, r in enumerate(enforced_rules(self.problem)) if r.id in used}
        return {"rules": list(used), "trees": [[n, renumbered(self.trees[n], places)] for n in sorted(self.trees)]}


def tree_of(problem: Problem, gpus: int, most_bounds: int | None = QUICK, usual: int = USUAL) -> Any | None:
    """A tree that excludes every layout on ``gpus`` GPUs; ``None`` if there may be one, or the tree would be too large.

    ``usual`` dear questions are asked of the usual suspects, ``most_bounds`` of all rules.
    """
    fewer = replace(problem, gpus=gpus)
    rules = enforced_rules(fewer)
    everything = tuple(range(len(rules)))
    tries = [(_usual(fewer, rules), usual), (everything, most_bounds)]
    for numbers, most in tries if most_bounds is None else reversed(tries):  # the cheaper first
        try:
            tree = grow([rules[number] for number in numbers], Space(fewer), most)
        except TooLarge:
            continue
        if tree is not None:
            return renumbered(tree, dict(enumerate(numbers)))
    return None


def _usual(problem: Problem, rules: tuple[Rule, ...]) -> tuple[int, ...]:
    """What most often leaves nothing: one of the meshes, the memory, and the user's own words."""
    usual = ("mesh.world-expert" if problem.model.is_moe else "mesh.world-dense", CAPACITY)
    return tuple(number for number, rule in enumerate(rules) if rule.id in usual or rule.stratum is Stratum.PIN)


def excluded(problem: Problem, counts: Iterable[int]) -> Excluded | None:
    """All of ``counts`` excluded.

    ``None`` if there are none, one of them is not excluded, or the trees together are more than a certificate holds.
    """
    trees: dict[int, Any] = {}
    dear = {number for number, rule in enumerate(enforced_rules(problem)) if Broken(rule).dear}
    leaves = bounds = 0
    for count in counts:
        tree = tree_of(problem, count, None)
        if tree is None:
            return None
        trees[count] = tree
        numbers = list(leaf_numbers(tree))
        leaves, bounds = leaves + len(numbers), bounds + sum(number in dear for number in numbers)
        if leaves > TOGETHER.leaves or bounds > TOGETHER.bounds:
            return None
    return Excluded(problem, trees) if trees else None
