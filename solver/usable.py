"""Which GPU counts have a layout at all: one model in which the count is a decision. Imports ortools.

Of a range in which few counts have a layout this is several times as fast as asking about each, for a pipeline shape is
built once for all of them; where most have one it costs about as much (ortools 9.15.6755, one core, H100: deepseek-v3 on
90 to 130, none: 0.6 s against 3.7; llama-3.1-405b on 1 to 130, eight: 3.3 against 11.6; llama-3.1-70b on 90 to 130, 34:
4.6 against 2.0, of the 14 that the best layouts then take).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.space import values_of_decisions
from constraints.registry import enforced_rules
from constraints.rule import Rule
from solver.model import Decisions, Model
from solver.search import Disagreement, new_solver, run

__all__ = ["Undecided", "largest_usable", "smallest_usable", "usable_counts"]

FIRST_WINDOW, LARGEST_WINDOW = 16, 256
"""Counts of one model: few first, for the nearest one is mostly near."""


class Undecided(Exception):
    """Time or work ran out. ``usable`` are the counts that were found to have a layout before."""

    def __init__(self, usable: Iterable[int] = ()) -> None:
        super().__init__("whether there are usable GPU counts was not decided in the time given")
        self.usable = frozenset(usable)


def usable_counts(problem: Problem, counts: Iterable[int], *, deadline: float = float("inf")) -> frozenset[int]:
    """Those of ``counts`` on which ``problem`` has a layout; its own count does not matter.

    Raises :class:`Undecided` when ``deadline`` (of ``time.monotonic``) has passed, and
    :class:`~solver.search.Disagreement` if a rule outside the solver refuses a layout.
    """
    usable: set[int] = set()
    for window in _windows(sorted(set(counts)), LARGEST_WINDOW):
        question = _Question(problem, window, deadline)
        try:
            while (count := question.one()) is not None:
                usable.add(count)
                question.leave_out(count)
        except Undecided:
            raise Undecided(usable) from None
    return frozenset(usable)


def largest_usable(problem: Problem, at_most: int, *, step: int = 1, deadline: float = float("inf")) -> int | None:
    """The most GPUs, of ``at_most``, on which there is a layout, going down by ``step``; ``None`` if there is none on any.

    Raises as :func:`usable_counts` does.
    """
    return _first(problem, range(at_most, 0, -step), deadline, lambda count: count * -1)


def smallest_usable(
    problem: Problem, at_least: int, at_most: int, *, step: int = 1, deadline: float = float("inf")
) -> int | None:
    """The fewest GPUs from ``at_least`` to ``at_most`` on which there is a layout, going up by ``step``. Raises likewise."""
    return _first(problem, range(at_least, at_most + 1, step), deadline, lambda count: count)


def _first(problem: Problem, counts: Sequence[int], deadline: float, cost: Callable[[Any], Any]) -> int | None:
    for window in _windows(counts, FIRST_WINDOW):
        count = _Question(problem, window, deadline).one(cost)
        if count is not None:
            return count
    return None


def _windows(counts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    start = 0
    while start < len(counts):
        yield counts[start : start + size]
        start, size = start + size, min(2 * size, LARGEST_WINDOW)


class _Question:
    """A model of ``problem`` on any of ``counts``."""

    def __init__(self, problem: Problem, counts: Sequence[int], deadline: float) -> None:
        self.problem, self.deadline = problem, deadline
        self.rules = enforced_rules(problem)
        self.model = _AnyCount(problem, counts)
        self.model.post(self.rules)

    def one(self, cost: Callable[[Any], Any] | None = None) -> int | None:
        """A count with a layout, the one of least ``cost`` if that is given; ``None`` if none is left."""
        if not self.model.shapes:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Undecided
        solver = new_solver(min(left, 1e6))
        if cost is None:
            solver.parameters.stop_after_first_solution = True
        else:
            self.model.cp.minimize(cost(self.model.count.expression()))
        status = run(self.model.cp, solver)
        if status == cp_model.INFEASIBLE:
            return None
        if status != cp_model.OPTIMAL and (cost is not None or status != cp_model.FEASIBLE):
            raise Undecided
        layout = self.model.layout(solver.value)
        problem = replace(self.problem, gpus=layout.gpus)
        broken = [rule.id for rule in self.rules if not rule.holds(problem, layout)]
        if broken:
            raise Disagreement(f"the layout of a usable count breaks {', '.join(broken)}: {layout}")
        return layout.gpus

    def leave_out(self, count: int) -> None:
        self.model.cp.add(self.model.count.expression() != count)


class _AnyCount(Model):
    """A model in which the GPU count is one of several; rules that read it are posted for each of them."""

    def __init__(self, problem: Problem, counts: Sequence[int]) -> None:
        self._counts = sorted(counts)
        super().__init__(replace(problem, gpus=self._counts[-1]))

    def _decide(self) -> Decisions:
        on_each = [values_of_decisions(replace(self.problem, gpus=gpus), wide=False) for gpus in self._counts]
        self._domains = {
            name: sorted(set[int]().union(*(values[name] for values in on_each))) for name in self._domains
        }
        self.count = self.arithmetic.variable(self._counts, "gpus")
        return super()._decide()

    def post(self, rules: Iterable[Rule]) -> None:
        rules = tuple(rules)
        super().post(rule for rule in rules if "gpus" not in rule.reads)
        literals = []
        for gpus in self._counts:
            literal = self.cp.new_bool_var(f"gpus={gpus}")
            self.cp.add(self.count.expression() == gpus).only_enforce_if(literal)
            literals.append(literal)
            self._literal = literal
            for rule in rules:
                if "gpus" in rule.reads:
                    rule.post(self, replace(self.problem, gpus=gpus))
            self._literal = None
        self.cp.add_exactly_one(literals)

    def layout(self, value: Callable[[Any], int]) -> Layout:
        return replace(super().layout(value), gpus=value(self.count.expression()))
