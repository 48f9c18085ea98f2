"""Which GPU counts of a range can be used, how well each, and why the gaps are gaps. Imports ortools."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from solver.answer import Answer, answer_of
from solver.because import steps_of
from solver.explain import Exhausted, Oracle, may_do_without_interleaving
from solver.knobs import knobs_of
from solver.schema import SCHEMA
from solver.search import Disagreement, best_layouts
from solver.usable import Undecided, largest_usable, smallest_usable

__all__ = ["Count", "Counts", "Gap", "counts_between"]

FARTHEST = 8
"""The nearest usable count above a range is looked for up to this many times its end."""
LEAST_SECONDS = 1.0
PATIENCE = 3
"""Counts without a layout in a row after which the next usable one is asked for with the count as a decision."""


@dataclass(frozen=True)
class Gap:
    """Why a count has no layout: ``rules`` that conflict on it (their ids), and the same in sentences with the numbers."""

    rules: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Count:
    """One GPU count. ``status`` is that of ``solve``; ``answer`` is the best layout, ``gap`` says why there is none.

    ``below`` and ``above`` are the nearest usable counts, where this one is none and they are known.
    """

    gpus: int
    status: str
    answer: Answer | None = None
    gap: Gap | None = None
    below: int | None = None
    above: int | None = None

    def to_mapping(self, per_node: int) -> dict[str, Any]:
        """An entry of ``counts`` in the JSON."""
        out: dict[str, Any] = {"gpus": self.gpus, "whole_nodes": self.gpus % per_node == 0, "status": self.status}
        if self.answer is not None:
            mapping = self.answer.to_mapping(1)
            del mapping["rank"]
            return {**out, "layout": mapping}
        reason = self.gap.reason if self.gap else "not decided in the time given"
        rules = list(self.gap.rules) if self.gap else []
        return {**out, "reason": reason, "rules": rules, "nearest_below": self.below, "nearest_above": self.above}


@dataclass(frozen=True)
class Counts:
    """What ``counts`` came to, smallest count first. ``problem`` is the request, on the last of them."""

    problem: Problem
    counts: tuple[Count, ...]

    def on(self, gpus: int) -> Count | None:
        """What there is to say of one count."""
        return next((count for count in self.counts if count.gpus == gpus), None)

    @property
    def exit_code(self) -> int:
        """0 if some count has a layout, 1 if none has, 3 if that is not known of all."""
        if self.usable:
            return 0
        return 1 if all(count.status == "infeasible" for count in self.counts) else 3

    @property
    def usable(self) -> tuple[Count, ...]:
        return tuple(count for count in self.counts if count.answer is not None)

    def to_mapping(self, asked: int | None = None) -> dict[str, Any]:
        """The JSON of ``counts``; of ``asked``, one of them, also the nearest usable ones."""
        problem = self.problem
        count = self.on(asked) if asked is not None else None
        nearest = None
        if count is not None:
            usable = count.gpus if count.answer is not None else None
            nearest = {"gpus": asked, "largest_usable": usable or count.below, "smallest_usable": usable or count.above}
        return {
            "schema": SCHEMA,
            "model": problem.model.name,
            "gpu": problem.gpu.name,
            "objective": problem.objective,
            "asked": nearest,
            "usable": [count.gpus for count in self.usable],
            "counts": [count.to_mapping(problem.gpus_per_node) for count in self.counts],
        }


def counts_between(
    problem: Problem,
    counts: range,
    *,
    seconds: float = 60.0,
    progress: Callable[[Count], object] | None = None,
) -> Counts:
    """The best layout of ``problem`` on each of ``counts``, as ``solve`` finds it there, or why there is none.

    Nearest usable counts outside the range are looked for in its steps. ``seconds`` is for each count; each goes to
    ``progress`` as it is decided. Raises :class:`~solver.search.Disagreement`.

    >>> from solver import Request, resolve
    >>> found = counts_between(resolve(Request(model="llama-3.1-70b", gpus=1, gpu="h100")), range(96, 98))
    >>> [(count.gpus, count.status, count.below, count.above) for count in found.counts]
    [(96, 'optimal', None, None), (97, 'infeasible', 96, 98)]
    """
    found: list[Count] = []
    gaps, usable = 0, counts[0]
    for gpus in counts:
        asked = replace(problem, gpus=gpus)
        count = _gap(asked, seconds) if gpus < usable else _count(asked, seconds)
        if gpus == usable > counts[0] and count.status == "infeasible":
            raise Disagreement(f"{gpus} GPUs have a layout and have none")
        if progress is not None:
            progress(count)
        found.append(count)
        gaps = gaps + 1 if count.status == "infeasible" and gpus >= usable else 0
        if gaps == PATIENCE:
            usable, gaps = _next_usable(problem, gpus, counts, seconds), 0
    return Counts(replace(problem, gpus=counts[-1]), _with_neighbours(problem, found, counts.step, seconds))


def _next_usable(problem: Problem, after: int, counts: range, seconds: float) -> int:
    """The next of ``counts`` with a layout, their end if there is none, the first of them if that took too long."""
    deadline = time.monotonic() + seconds
    try:
        count = smallest_usable(problem, after + counts.step, counts[-1], step=counts.step, deadline=deadline)
    except Undecided:
        return counts[0]
    return count if count is not None else counts.stop


def _count(problem: Problem, seconds: float) -> Count:
    found = best_layouts(problem, seconds=seconds)
    if found.status == "infeasible":
        return _gap(problem, seconds)
    return Count(problem.gpus, found.status, answer_of(problem, found.layouts[0]) if found.layouts else None)


def _gap(problem: Problem, seconds: float) -> Count:
    return Count(problem.gpus, "infeasible", gap=gap_of(problem, seconds=seconds))


def gap_of(problem: Problem, *, seconds: float = 20.0) -> Gap:
    """Why ``problem``, which is known to have no layout, has none: one conflict, minimal as those of ``solve`` are.

    Unless the request asks for virtual stages it is a conflict among layouts without them; that those with them are none
    either is part of what is known. Raises :class:`~solver.search.Disagreement` if there is a layout.
    """
    deadline = time.monotonic() + max(LEAST_SECONDS, seconds)
    oracle = Oracle(problem, deadline, interleaving=not may_do_without_interleaving(problem))
    try:
        core = oracle.layout(oracle.rules)
        if isinstance(core, Layout):
            raise Disagreement(f"the search found no layout, the feasibility model found one: {core}")
        conflict = oracle.minimal(core, last=[name for knob in knobs_of(problem) for name in knob.rules])
    except Exhausted:
        return Gap((), "no layout; why was not narrowed down in the time given")
    reason = "; ".join(step.text for step in steps_of(problem, conflict))
    return Gap(tuple(sorted(conflict.ids)), reason)


def _with_neighbours(problem: Problem, counts: list[Count], step: int, seconds: float) -> tuple[Count, ...]:
    """The counts, the gaps among them with the nearest usable counts, which may be outside the range."""
    usable = [count.gpus for count in counts if count.answer is not None]
    gaps = [count.gpus for count in counts if count.status == "infeasible"]
    if not gaps:
        return tuple(counts)
    deadline = time.monotonic() + seconds
    below = above = None
    try:
        if gaps[0] < min(usable, default=gaps[0] + 1):
            below = largest_usable(problem, counts[0].gpus - step, step=step, deadline=deadline)
        if gaps[-1] > max(usable, default=gaps[-1] - 1):
            first = counts[-1].gpus + step
            above = smallest_usable(problem, first, FARTHEST * (first + step), step=step, deadline=deadline)
    except Undecided:
        pass
    known = sorted({*usable, *(count for count in (below, above) if count is not None)})
    return tuple(
        replace(
            count,
            below=max((gpus for gpus in known if gpus < count.gpus), default=None),
            above=min((gpus for gpus in known if gpus > count.gpus), default=None),
        )
        if count.status == "infeasible"
        else count
        for count in counts
    )
