"""The legal layout nearest to one that is not: fewest decisions changed, then by the least. Imports ortools.

What changes is counted in the words a person writes (tp, pp, vpp, cp, ep, etp, micro-batch, sequence parallelism,
recompute); dp and edp follow. A global batch stays as it is if any layout keeps it, switches stay unless a broken rule reads
them, the split stays if it still fits. Ties go the way that ``solve``'s do.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import NO_RECOMPUTE, Layout, PipelineSplit, Recompute, Settings
from constraints.pins import Pin
from constraints.problem import Origin, Problem
from constraints.registry import RULES
from constraints.rule import Rule
from solver.answer import Answer, answer_of
from solver.arithmetic import LARGEST, BoundsError
from solver.model import Model
from solver.objectives import post_tie_break
from solver.search import ModelError, new_solver, run
from solver.verdict import BINDING, CAPACITY, Verdict

__all__ = ["Nearest", "nearest_legal"]

COUNTED = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size")
CHANGED = 10_000
"""What one more changed decision weighs against all distances together."""
OCTAVE = 16
"""Steps of distance in a factor of two."""
SHOWN = (*COUNTED, "sequence_parallel", "global_batch_size", "recompute", "split")
MOST_BATCHES = 64
LARGEST_MICRO_BATCH = 256
DEFAULTS = Settings()


@dataclass(frozen=True)
class _Kept(Problem):
    """A problem in which what the layout recomputes is an option too."""

    kept: Recompute = NO_RECOMPUTE

    @property
    def recompute_options(self) -> tuple[Recompute, ...]:
        usual = super().recompute_options
        return usual if self.kept in usual else (*usual, self.kept)


@dataclass(frozen=True)
class Nearest:
    """A legal layout with its numbers; ``changes`` are (name, value in the judged layout, value here)."""

    answer: Answer
    changes: tuple[tuple[str, Any, Any], ...]

    @property
    def words(self) -> list[str]:
        """The changes as a person reads them: ``tp 8 -> 4``."""
        return [f"{name} {_shown(was)} -> {_shown(now)}" for name, was, now in self.changes]

    def to_mapping(self) -> dict[str, Any]:
        """The ``nearest`` of the JSON of ``check``: a layout as ``solve`` writes it, and what was changed."""
        entry = self.answer.to_mapping(1)
        del entry["rank"]
        return {"changes": {name: {"from": _plain(was), "to": _plain(now)} for name, was, now in self.changes}} | entry


def nearest_legal(verdict: Verdict, *, seconds: float = 10.0) -> Nearest | None:
    """The nearest layout that breaks no law and no framework rule and fits in memory.

    Where none fits, one that is legal alone (if the judged one is not); ``None`` if there is none, or none was found in
    time.
    """
    deadline = time.monotonic() + seconds
    for problem, rules in _questions(verdict):
        if time.monotonic() > deadline:
            break
        try:
            layout = _search(problem, rules, verdict.layout, deadline)
        except (BoundsError, ModelError):  # numbers that no machine has, beyond what the solver can multiply
            return None
        if layout is None:
            continue
        layout = _closer(problem, rules, layout, verdict.layout)
        answer = answer_of(problem, layout)
        if answer is not None:
            return Nearest(answer, tuple(_changes(verdict.layout, layout)))
    return None


def _questions(verdict: Verdict) -> Iterator[tuple[Problem, list[Rule]]]:
    """Ever less of what was asked: the batch is let go, then switches that broken rules read, then the memory."""
    layout = verdict.layout
    asked = replace(verdict.problem, pins=(), settings=layout.settings)
    binding = [rule for rule in RULES if rule.stratum in BINDING]
    fitting = [*binding, *(rule for rule in RULES if rule.id == CAPACITY)]
    plain = replace(asked, settings=_without(layout.settings, verdict))
    for rules in (fitting, binding) if verdict.violations else (fitting,):
        for problem in (asked, plain) if plain != asked else (asked,):
            yield _kept(problem, layout, layout.global_batch_size), rules
            yield _kept(problem, layout, None), rules


def _kept(problem: Problem, layout: Layout, batch: int | None) -> _Kept:
    """The problem with the layout's own values among those that a decision may take."""
    origin = Origin("layout", "layout")
    limits = {"vpp": problem.model.num_layers, "micro_batch_size": LARGEST_MICRO_BATCH}
    mine = {name: getattr(layout, name) for name in COUNTED}
    mine = {name: value for name, value in mine.items() if value and value <= limits.get(name, problem.gpus)}
    own = tuple(Pin(name, name, value, origin) for name, value in mine.items())
    values = {f.name: getattr(problem, f.name) for f in fields(Problem)}
    return _Kept(**values | {"pins": own, "global_batch_size": batch}, kept=layout.recompute)


def _without(settings: Settings, verdict: Verdict) -> Settings:
    """The switches, those that broken rules read at Megatron's defaults."""
    read = {name for violation in verdict.violations for name in violation.rule.reads}
    defaults: dict[str, Any] = {f.name: getattr(DEFAULTS, f.name) for f in fields(Settings) if f.name in read}
    return replace(settings, **defaults)


def _search(problem: Problem, rules: list[Rule], layout: Layout, deadline: float) -> Layout | None:
    model = Model(problem)
    model.post(rules)
    if not model.shapes:
        return None
    far, order = _distance(model, layout), post_tie_break(model)
    model.cp.minimize(far)
    solver = new_solver(deadline - time.monotonic())
    if run(model.cp, solver) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    if not isinstance(order, int) and order.high < LARGEST:
        model.cp.add(far <= round(solver.objective_value))
        model.cp.minimize(order.expression())
        ordered = new_solver(deadline - time.monotonic())
        if run(model.cp, ordered) in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            solver = ordered
    found = model.layout(solver.value)
    if problem.global_batch_size is None:
        found = _with_batch_near(problem, rules, found, layout.global_batch_size)
    return found if all(rule.holds(problem, found) for rule in rules) else None


def _distance(model: Model, layout: Layout) -> Any:
    """How far every decision is from the layout's, as one expression."""
    parts: list[Any] = []
    for name in COUNTED:
        quantity, was = getattr(model.x, name), getattr(layout, name) or 1
        costs = {value: _cost(was, value) for value in model.arithmetic.values_of(quantity)}
        cost = model.arithmetic.range(0, max(costs.values()), f"distance[{name}]")
        model.cp.add_allowed_assignments([quantity.expression(), cost.expression()], list(costs.items()))
        parts.append(cost.expression())
    shards = model.x.sequence_parallel.expression()
    parts.append(CHANGED * (1 - shards) if layout.sequence_parallel else CHANGED * shards)
    options, literals = model.x.recompute.options, model.x.recompute.literals
    parts.append(CHANGED * (1 - literals[options.index(layout.recompute)]))
    return sum(parts)


def _cost(was: int, now: int) -> int:
    return 0 if was == now else CHANGED + round(OCTAVE * abs(math.log2(now / was)))


def _with_batch_near(problem: Problem, rules: list[Rule], layout: Layout, wanted: int) -> Layout:
    """The layout with the batch nearest to the one that was wanted and that its rules allow."""
    unit = layout.dp * layout.micro_batch_size
    count = max(1, round(wanted / unit))
    for step in range(MOST_BATCHES):
        for microbatches in dict.fromkeys((count - step, count + step)):
            if microbatches < 1:
                continue
            tried = replace(layout, num_microbatches=microbatches, global_batch_size=microbatches * unit)
            if all(rule.holds(problem, tried) for rule in rules):
                return tried
    return layout


def _closer(problem: Problem, rules: list[Rule], found: Layout, judged: Layout) -> Layout:
    """``found`` with the judged layout's own split, if that is legal too."""
    if (found.pp, found.chunks_per_rank) != (judged.pp, judged.chunks_per_rank):
        return found
    tried = replace(found, split=judged.split)
    return tried if all(rule.holds(problem, tried) for rule in rules) else found


def _changes(judged: Layout, found: Layout) -> Iterator[tuple[str, Any, Any]]:
    for name in SHOWN:
        was, now = getattr(judged, name), getattr(found, name)
        if was != now and not (name == "vpp" and (was or 1) == (now or 1)):
            yield name, was, now
    for f in fields(Settings):
        was, now = getattr(judged.settings, f.name), getattr(found.settings, f.name)
        if was != now:
            yield f.name, was, now


def _shown(value: Any) -> str:
    plain = _plain(value)
    return json.dumps(plain) if isinstance(plain, bool | None) else str(plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Recompute):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return _split_words(value) if isinstance(value, PipelineSplit) else value


def _split_words(split: PipelineSplit) -> str:
    """``even``, a layout string, or the words that say it, as in ``first=3 last=4``."""
    if split.layout is not None:
        return split.layout
    words = {
        "first": split.first,
        "last": split.last,
        "account_for_embedding": split.account_for_embedding or None,
        "account_for_loss": split.account_for_loss or None,
    }
    return " ".join(f"{name}={value}" for name, value in words.items() if value is not None) or "even"
