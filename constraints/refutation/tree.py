"""A refutation as a tree: decisions are split into their values until some rule fails on every completion.

In JSON a leaf is the rule's number in the conflict; a node is ``[decision, [[values...], child], ...]``. A leaf below several
values stands below each of them. Every value of the decision occurs once, so the leaves cover the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from constraints.refutation.bounds import DEAR, excludes, holds_at_the_end
from constraints.refutation.partial import Box, Space, asks_for
from constraints.rule import Rule

__all__ = ["InvalidTree", "TooLarge", "Verification", "grow", "verify_tree"]

Tree = Any
"""A number, or ``[decision, [[values...], child], ...]``."""

FIRST = (
    *("pp", "tp", "cp", "dp", "etp", "ep", "edp", "micro_batch_size", "num_microbatches"),
    *("recompute", "sequence_parallel", "vpp"),
)
"""The order in which decisions are split: pinned ones before all others, then those that cheap rules ask for."""
SAMPLED = 4
"""Every so many leaves a completion is put to the rule's own ``holds`` too: a bound that says otherwise would be wrong."""
MOST_LEAVES = 20_000
MOST_BOUNDS = (400, 1500)
"""Questions to dear rules, some milliseconds each: at first, and at most."""


class InvalidTree(Exception):
    """The tree does not prove what it says."""


class TooLarge(Exception):
    """More leaves than a certificate holds."""


@dataclass
class Verification:
    """Leaves that were verified, by rule number, and how many of them are of dear rules."""

    leaves: Counter[int] = field(default_factory=Counter)
    bounds: int = 0


def verify_tree(tree: Tree, rules: list[Rule], space: Space) -> Verification:
    """Check that ``tree`` excludes every layout of ``space`` by ``rules``. Raises :class:`InvalidTree`."""
    done = Verification()
    _verify(tree, rules, space, space.root, done)
    return done


def _verify(tree: Tree, rules: list[Rule], space: Space, box: Box, done: Verification) -> None:
    if isinstance(tree, int) and not isinstance(tree, bool):
        _verify_leaf(tree, rules, space, box, done)
        return
    if not isinstance(tree, list) or len(tree) < 2 or not isinstance(tree[0], str):
        raise InvalidTree("a node is a decision and what becomes of its values")
    decision, *branches = tree
    if decision not in box or len(box[decision]) < 2:
        raise InvalidTree(f"{decision} is not open here")
    if decision == "vpp" and len(box["pp"]) != 1:
        raise InvalidTree("vpp is split before pp")
    covered: list[int] = []
    for branch in branches:
        if not isinstance(branch, list) or len(branch) != 2 or not isinstance(branch[0], list):
            raise InvalidTree("a branch is a list of values and a child")
        values, child = branch
        if not values or not all(type(value) is int for value in values):
            raise InvalidTree("a branch has whole numbers as values")
        if not isinstance(child, int) and len(values) != 1:
            raise InvalidTree("only a leaf stands below several values")
        covered += values
        if len(covered) > len(box[decision]):
            raise InvalidTree(f"{decision} has more branches than values")
        if not set(values) <= set(box[decision]):
            raise InvalidTree(f"{decision} has no value {sorted(set(values) - set(box[decision]))[0]} here")
        for value in values:
            _verify(child, rules, space, space.narrowed(box, decision, value), done)
    if sorted(covered) != sorted(box[decision]):
        raise InvalidTree(f"the branches of {decision} do not cover its values, each once")


def _verify_leaf(number: int, rules: list[Rule], space: Space, box: Box, done: Verification) -> None:
    if not 0 <= number < len(rules):
        raise InvalidTree(f"a leaf names rule {number}, which is not in the conflict")
    done.leaves[number] += 1
    done.bounds += len(rules[number].scope) >= DEAR
    if done.bounds > MOST_BOUNDS[-1] or sum(done.leaves.values()) > MOST_LEAVES:
        raise TooLarge(f"more than {MOST_BOUNDS[-1]} bounds or {MOST_LEAVES} leaves")
    rule, sampled = rules[number], done.leaves[number] % SAMPLED == 1
    if not excludes(rule, space, box) or (sampled and holds_at_the_end(rule, space, box)):
        shown = ", ".join(f"{name}={values[0]}" for name, values in box.items() if len(values) == 1)
        raise InvalidTree(f"{rule.id} is not shown to fail everywhere on {shown or 'the whole space'}")


def grow(rules: list[Rule], space: Space) -> Tree | None:
    """A tree that excludes the whole space by ``rules``, or ``None`` if they leave a layout.

    Two orders of the decisions are tried, with little work allowed and then with more. Raises :class:`TooLarge`.
    """
    orders = list(_orders(rules, space))
    for most, order in [(most, order) for most in MOST_BOUNDS for order in orders]:
        try:
            return _Grower(rules, space, order, most).grown(space.root)
        except TooLarge:
            continue
    raise TooLarge(f"more than {MOST_BOUNDS[-1]} bounds or {MOST_LEAVES} leaves")


def _orders(rules: list[Rule], space: Space) -> Iterator[tuple[str, ...]]:
    """Pinned decisions first; then those that cheap rules ask for, or those that a stage's memory depends on most."""
    pinned = [rule.scope[0] for rule in rules if rule.stratum == "pin"]
    pinned = ["pp", *pinned] if "vpp" in pinned else pinned
    plain = {name for rule in rules if len(rule.scope) < DEAR for name in asks_for(rule, space)}
    first = [*pinned, *(name for name in FIRST if name in plain)]
    yield tuple(name for name in dict.fromkeys([*first, *FIRST]) if name in space.root)
    if any(len(rule.scope) >= DEAR for rule in rules):
        yield tuple(name for name in dict.fromkeys([*pinned, *FIRST]) if name in space.root)


class _Grower:
    def __init__(self, rules: list[Rule], space: Space, order: tuple[str, ...], most_bounds: int) -> None:
        self.rules, self.space, self.order, self.most_bounds = rules, space, order, most_bounds
        self.leaves = self.bounds = 0
        self.cheap_first = sorted(range(len(rules)), key=lambda i: (len(rules[i].scope), i))

    def grown(self, box: Box) -> Tree | None:
        for number in self.cheap_first:
            self._count(self.rules[number])
            if excludes(self.rules[number], self.space, box):
                self.leaves += 1
                return number
        decision = next((name for name in self.order if len(box[name]) > 1), None)
        if decision is None:
            return None
        closed: dict[int, list[int]] = {}
        branches: list[Tree] = []
        for value in box[decision]:
            child = self.grown(self.space.narrowed(box, decision, value))
            if child is None:
                return None
            if isinstance(child, int):
                closed.setdefault(child, []).append(value)
            else:
                branches.append([[value], child])
        return [decision, *([values, number] for number, values in closed.items()), *branches]

    def _count(self, rule: Rule) -> None:
        self.bounds += len(rule.scope) >= DEAR
        if self.bounds > self.most_bounds or self.leaves > MOST_LEAVES:
            raise TooLarge
