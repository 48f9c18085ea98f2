"""Which GPU counts have a layout at all: one model in which the count is a decision. Imports ortools.

Where few counts have a layout, the nearest one is found several times as fast as by asking about each, for a pipeline shape
is built once for all of them (ortools 9.15.6755, one core, H100: deepseek-v3 on 130 down to 90, none: 0.6 s against 3.7;
from 60 down to 1, none: 0.4 against 3.5). Where the first or second has one, asking about each is faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.arithmetic import ceil_div
from constraints.layout import Layout, Recompute
from constraints.memory.spread import fewest_gpus
from constraints.problem import Problem
from constraints.refutation.space import values_of_decisions
from constraints.registry import enforced_rules
from constraints.rule import Rule
from solver.model import Decisions, Model
from solver.placing import placed_solution
from solver.search import Disagreement, last_resorts, new_solver, run

__all__ = ["Undecided", "largest_usable", "smallest_usable"]

FIRST_WINDOW, LARGEST_WINDOW = 16, 256
"""Counts of one model: few first, for the nearest one is mostly near."""
LONGEST_SECONDS = 86_400.0


class Undecided(Exception):
    """Time or work ran out before it was known."""


def largest_usable(problem: Problem, at_most: int, *, step: int = 1, deadline: float = float("inf")) -> int | None:
    """The most GPUs, of ``at_most``, on which there is a layout, going down by ``step``; ``None`` if there is none on any.

    The problem's own count does not matter. Raises :class:`Undecided` when ``deadline`` (of ``time.monotonic``) has passed,
    and :class:`~solver.search.Disagreement` if a rule outside the solver refuses a layout.
    """
    return _first(problem, range(at_most, fewest_gpus(problem) - 1, -step), deadline, lambda count: count * -1)


def smallest_usable(
    problem: Problem, at_least: int, at_most: int, *, step: int = 1, deadline: float = float("inf")
) -> int | None:
    """The fewest GPUs from ``at_least`` to ``at_most`` on which there is a layout, going up by ``step``. Raises likewise."""
    too_few = ceil_div(max(0, fewest_gpus(problem) - at_least), step)
    return _first(problem, range(at_least + too_few * step, at_most + 1, step), deadline, lambda count: count)


def _first(problem: Problem, counts: Sequence[int], deadline: float, cost: Callable[[Any], Any]) -> int | None:
    for window in _windows(counts, FIRST_WINDOW):
        count = _best(problem, window, deadline, cost)
        if count is not None:
            return count
    return None


def _windows(counts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    start = 0
    while start < len(counts):
        yield counts[start : start + size]
        start, size = start + size, min(2 * size, LARGEST_WINDOW)


def _best(problem: Problem, counts: Sequence[int], deadline: float, cost: Callable[[Any], Any]) -> int | None:
    """The count with a layout that costs least, of ``counts``: by recompute without counting, or in groups of layers (in
    blocks, where that is what is asked for)."""
    best = _best_by(problem, counts, deadline, cost)
    for stand_in in last_resorts(problem):
        nearer = counts if best is None else [count for count in counts if cost(count) < cost(best)]
        better = _best_by(problem, nearer, deadline, cost, stand_in) if nearer else None
        best = best if better is None else better
    return best


def _best_by(
    problem: Problem,
    counts: Sequence[int],
    deadline: float,
    cost: Callable[[Any], Any],
    counted: Recompute | None = None,
) -> int | None:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Undecided
    model, rules = _AnyCount(problem, counts, counted), enforced_rules(problem)
    model.post(rules)
    if not model.shapes:
        return None
    model.cp.minimize(cost(model.count.expression()))

    def solve() -> Callable[[Any], int] | None:
        solver = new_solver(min(deadline - time.monotonic(), LONGEST_SECONDS))
        status = run(model.cp, solver)
        if status == cp_model.INFEASIBLE:
            return None
        if status != cp_model.OPTIMAL:
            raise Undecided
        value: Callable[[Any], int] = solver.value
        return value

    layout = placed_solution(model, solve)
    if layout is None:
        return None
    asked = replace(problem, gpus=layout.gpus)
    broken = [rule.id for rule in rules if not rule.holds(asked, layout)]
    if broken:
        raise Disagreement(f"the layout of a usable count breaks {', '.join(broken)}: {layout}")
    return layout.gpus


class _AnyCount(Model):
    """A model in which the GPU count is one of several; rules that read it are posted for each of them."""

    def __init__(self, problem: Problem, counts: Sequence[int], counted: Recompute | None) -> None:
        self._counts = sorted(counts)
        super().__init__(replace(problem, gpus=self._counts[-1]), counted=counted)

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
