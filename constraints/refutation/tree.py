"""A proof as a tree: decisions are split into their values until something is the matter with every completion.

In JSON a leaf is the number of its reason (a rule of the conflict, or the objective); a node is ``[decision, [[values...],
child], ...]``. A leaf below several values stands below each of them. Every value of the decision occurs once, so the leaves
cover the space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from constraints.refutation.bounds import DEAR
from constraints.refutation.partial import Box, Space, asks_for
from constraints.refutation.reasons import Broken, NoBetter, Reason
from constraints.rule import Rule

__all__ = [
    "OPTIMUM",
    "REFUTATION",
    "InvalidTree",
    "Limits",
    "TooLarge",
    "Verification",
    "grow",
    "grow_optimum",
    "leaf_numbers",
    "renumbered",
    "verify_tree",
]

Tree = Any
"""A number, or ``[decision, [[values...], child], ...]``."""

FIRST = (
    *("pp", "tp", "cp", "dp", "etp", "ep", "edp", "micro_batch_size", "num_microbatches"),
    *("recompute", "sequence_parallel", "vpp"),
)
"""The order in which decisions are split: pinned ones before all others, then those that cheap rules ask for."""
BEST_FIRST = (
    *("pp", "tp", "cp", "dp", "micro_batch_size", "num_microbatches", "etp", "ep", "edp"),
    *("vpp", "recompute", "sequence_parallel"),
)
"""The order in which decisions are split where a bound on the objective is what closes most leaves."""
SAMPLED = 4
"""Every so many questions a completion is put to the reason itself too: a bound that says otherwise would be wrong."""
FIRST_BOUNDS = 400
"""Dear questions, about a millisecond each, that one order of the decisions may ask before another is tried."""


@dataclass(frozen=True)
class Limits:
    """The most leaves of a tree, and the most of them whose reasons are dear."""

    leaves: int
    bounds: int

    def __str__(self) -> str:
        return f"more than {self.bounds} bounds or {self.leaves} leaves"


REFUTATION, OPTIMUM = Limits(20_000, 1500), Limits(60_000, 20_000)
BATCH_FROM = ("pp", "vpp", "dp", "micro_batch_size")
ASKED_FOR_OPTIMUM = 2
"""Dear questions that may be asked for each one that closes a leaf."""


class InvalidTree(Exception):
    """The tree does not prove what it says."""


class TooLarge(Exception):
    """More leaves than a certificate holds."""


@dataclass
class Verification:
    """Leaves that were verified, by rule number; how many of them are of dear rules, and how many are about every partition
    of the layers."""

    leaves: Counter[int] = field(default_factory=Counter)
    bounds: int = 0
    over_partitions: int = 0


def verify_tree(tree: Tree, reasons: Sequence[Reason], space: Space, limits: Limits = REFUTATION) -> Verification:
    """Check that ``tree`` excludes every layout of ``space`` by ``reasons``. Raises :class:`InvalidTree`."""
    verifier = _Verifier(reasons, space, limits)
    verifier.verify(tree, space.root)
    return verifier.done


class _Verifier:
    def __init__(self, reasons: Sequence[Reason], space: Space, limits: Limits) -> None:
        self.reasons, self.space, self.limits = reasons, space, limits
        self.done = Verification()
        self.asked: Counter[int] = Counter()

    def verify(self, tree: Tree, box: Box) -> None:
        if isinstance(tree, int) and not isinstance(tree, bool):
            self._verify_leaf(tree, box)
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
            if isinstance(child, list) or not self._verified_together(child, box, decision, values):
                for value in values:
                    self.verify(child, self.space.narrowed(box, decision, value))
        if sorted(covered) != sorted(box[decision]):
            raise InvalidTree(f"the branches of {decision} do not cover its values, each once")

    def _verified_together(self, number: Tree, box: Box, decision: str, values: list[int]) -> bool:
        """True if the reason excludes all of the values at once: as good as one by one, and for a dear one less work."""
        if len(values) < 2 or type(number) is not int or not 0 <= number < len(self.reasons):
            return False
        inner = self.space.narrowed(box, decision, *sorted(values))
        if not self.reasons[number].dear or not self.reasons[number].excludes(self.space, inner):
            return False
        self._done(number, inner, len(values))
        return True

    def _verify_leaf(self, number: int, box: Box) -> None:
        if not 0 <= number < len(self.reasons):
            raise InvalidTree(f"a leaf names rule {number}, which is not in the conflict")
        if not self.reasons[number].excludes(self.space, box):
            self._refuse(number, box)
        self._done(number, box, 1)

    def _done(self, number: int, box: Box, leaves: int) -> None:
        """Note leaves that are excluded; now and then the other way about is asked as well."""
        reason, done = self.reasons[number], self.done
        done.leaves[number] += leaves
        self.asked[number] += 1
        done.bounds += reason.dear * leaves
        done.over_partitions += reason.places(self.space, box) * leaves
        if done.bounds > self.limits.bounds or sum(done.leaves.values()) > self.limits.leaves:
            raise TooLarge(str(self.limits))
        if self.asked[number] % SAMPLED == 1 and reason.contradicted(self.space, box):
            self._refuse(number, box)

    def _refuse(self, number: int, box: Box) -> NoReturn:
        reason = self.reasons[number]
        shown = ", ".join(f"{name}={values[0]}" for name, values in box.items() if len(values) == 1)
        raise InvalidTree(f"{reason.id} is not shown to {reason.what} everywhere on {shown or 'the whole space'}")


def leaf_numbers(tree: Tree, times: int = 1) -> Iterator[int]:
    """The reason of each leaf, once for every value that it stands below."""
    if isinstance(tree, int):
        yield from [tree] * times
        return
    for values, child in tree[1:]:
        yield from leaf_numbers(child, len(values))


def renumbered(tree: Tree, numbers: Mapping[int, int]) -> Tree:
    """``tree`` with other numbers for its reasons."""
    if isinstance(tree, int):
        return numbers[tree]
    return [tree[0], *([values, renumbered(child, numbers)] for values, child in tree[1:])]


def grow(rules: Sequence[Rule], space: Space, most_bounds: int | None = None) -> Tree | None:
    """A tree that excludes the whole space by ``rules``, or ``None`` if they leave a layout.

    Two orders of the decisions are tried, with little work allowed and then with more (or with ``most_bounds`` dear
    questions alone). Raises :class:`TooLarge`.
    """
    orders, reasons = list(_orders(rules, space)), [Broken(rule) for rule in rules]
    allowed = (FIRST_BOUNDS, REFUTATION.bounds) if most_bounds is None else (most_bounds,)
    for most, order in [(most, order) for most in allowed for order in orders]:
        try:
            return _Grower(reasons, space, order, Limits(REFUTATION.leaves, most)).grown(space.root)
        except TooLarge:
            continue
    raise TooLarge(str(REFUTATION))


def grow_optimum(rules: Sequence[Rule], space: Space, value: int) -> Tree | None:
    """A tree by ``rules`` and, as the last reason, "counts as no less than ``value``"; ``None`` if a layout is better.

    Raises :class:`TooLarge`.
    """
    reasons: list[Reason] = [*(Broken(rule) for rule in rules), NoBetter(value)]
    order = tuple(name for name in dict.fromkeys([*_pinned(rules), *BEST_FIRST]) if name in space.root)
    asked = Limits(OPTIMUM.leaves, OPTIMUM.bounds * ASKED_FOR_OPTIMUM)
    try:
        tree = _Grower(reasons, space, order, asked).grown(space.root)
    except TooLarge:
        raise TooLarge(str(OPTIMUM)) from None
    if tree is not None and sum(reasons[number].dear for number in leaf_numbers(tree)) > OPTIMUM.bounds:
        raise TooLarge(str(OPTIMUM))
    return tree


def _pinned(rules: Sequence[Rule]) -> list[str]:
    """Pinned decisions; which virtual stages there are depends on pp."""
    pinned = [rule.scope[0] for rule in rules if rule.stratum == "pin"]
    return ["pp", *pinned] if "vpp" in pinned else pinned


def _orders(rules: Sequence[Rule], space: Space) -> Iterator[tuple[str, ...]]:
    """Pinned decisions first; then those that cheap rules ask for, or those that a stage's memory depends on most."""
    pinned = _pinned(rules)
    plain = {name for rule in rules if len(rule.scope) < DEAR for name in asks_for(rule, space)}
    first = [*pinned, *(name for name in FIRST if name in plain)]
    yield tuple(name for name in dict.fromkeys([*first, *FIRST]) if name in space.root)
    if any(len(rule.scope) >= DEAR for rule in rules):
        yield tuple(name for name in dict.fromkeys([*pinned, *FIRST]) if name in space.root)


def _behind_batch(scope: Sequence[str], space: Space) -> tuple[str, ...]:
    """What a batch follows from that is not fixed, for a reason that reads it."""
    fixed = "num_microbatches" in space.root
    return () if fixed or not {"global_batch_size", "num_microbatches"} & set(scope) else BATCH_FROM


class _Grower:
    def __init__(self, reasons: Sequence[Reason], space: Space, order: tuple[str, ...], limits: Limits) -> None:
        self.reasons, self.space, self.order, self.limits = reasons, space, order, limits
        self.leaves = self.bounds = 0
        ordered = sorted(range(len(reasons)), key=lambda i: (reasons[i].dear, len(reasons[i].scope), i))
        scopes = [{*reason.scope, *_behind_batch(reason.scope, space)} for reason in reasons]
        self.asked = {name: [i for i in ordered if reasons[i].dear or name in scopes[i]] for name in order}
        self.asked["pp"] = [
            i for i in ordered if i in {*self.asked["pp"], *self.asked["vpp"]}
        ]  # vpp is narrowed with it
        self.ordered = ordered

    def grown(self, box: Box, narrowed: str | None = None) -> Tree | None:
        """``narrowed`` is the decision that was just taken: reasons that do not read it have been asked before."""
        for number in self.ordered if narrowed is None else self.asked[narrowed]:
            self._count(self.reasons[number])
            if self.reasons[number].excludes(self.space, box):
                self.leaves += 1
                return number
        decision = next((name for name in self.order if len(box[name]) > 1), None)
        if decision is None:
            return None
        closed: dict[int, list[int]] = {}
        branches: list[Tree] = []
        for value in box[decision]:
            child = self.grown(self.space.narrowed(box, decision, value), decision)
            if child is None:
                return None
            if isinstance(child, int):
                closed.setdefault(child, []).append(value)
            else:
                branches.append([[value], child])
        return [decision, *([values, number] for number, values in closed.items()), *branches]

    def _count(self, reason: Reason) -> None:
        self.bounds += reason.dear
        if self.bounds > self.limits.bounds or self.leaves > self.limits.leaves:
            raise TooLarge(str(self.limits))
