"""Where no single change will do: the layout with the fewest changed degrees, then the least step time. Imports ortools."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY
from constraints.rule import Rule
from solver.arithmetic import BoundsError
from solver.model import Model
from solver.objectives import OBJECTIVES, post_tie_break
from solver.placing import placed_solution
from solver.search import ModelError, best_placed, new_solver, run
from solver.single_changes import DEGREES, Asked

__all__ = ["fewest_changes"]

MOST_BATCHES = 64


def fewest_changes(asked: Asked, rules: Iterable[Rule], judged: Layout, deadline: float) -> Layout | None:
    """The layout that keeps ``rules``, changes the fewest degrees of ``judged`` and is then the fastest.

    ``None`` if there is none, or none was found by ``deadline`` (of :func:`time.monotonic`). Where time runs out, or the
    times are beyond what the solver multiplies, it is one with the fewest changes. A free batch is brought as near to that of
    ``judged`` as the rules allow.
    """
    rules = list(rules)
    try:
        model = Model(asked)
        model.post(rules)
        if not model.shapes:
            return None
        changed = _changed(model, asked, judged)
        fitting = any(rule.id == CAPACITY for rule in rules)
        found = _least(model, changed, deadline, fitting)
        if found is None:
            return None
        fewest, layout = found
        model.cp.add(changed <= fewest)
        if fitting:
            layout = _fastest(model, deadline) or layout
    except (BoundsError, ModelError):  # numbers that no machine has, beyond what the solver can multiply
        return None
    if asked.etp_follows and not asked.model.is_moe:  # the solver leaves it at 1 for dense models
        etp = asked.etp_left_out(layout.tp, layout.ep)
        layout = replace(layout, etp=etp, edp=max(1, layout.gpus // (etp * layout.ep * layout.pp)))
    if asked.global_batch_size is None:
        layout = _with_batch_near(asked, rules, layout, judged.global_batch_size)
    return layout if all(rule.holds(asked, layout) for rule in rules) else None


def _least(model: Model, quantity: Any, deadline: float, fitting: bool) -> tuple[int, Layout] | None:
    """The least that ``quantity`` can be, as far as there was time, and a layout with it."""
    model.cp.minimize(quantity)
    least = 0

    def solve() -> Callable[[Any], int] | None:
        nonlocal least
        solver = new_solver(deadline - time.monotonic())
        if run(model.cp, solver) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        least = round(solver.objective_value)
        return solver.value

    layout = placed_solution(model, solve, fitting=fitting)
    return None if layout is None else (least, layout)


def _fastest(model: Model, deadline: float) -> Layout | None:
    """The fastest layout that the model leaves, ties as in ``solve``; ``None`` if that cannot be said."""
    try:
        step = OBJECTIVES["step-time"].post(model)
        order = post_tie_break(model)
    except BoundsError:
        return None
    return best_placed(model, "step-time", step, order, deadline)[1]


def _changed(model: Model, asked: Asked, judged: Layout) -> Any:
    """How many degrees differ from those of ``judged``, as one expression: one literal each, free only if true."""
    cp, x, literals = model.cp, model.x, []

    def differs(name: str) -> Any:
        literal = cp.new_bool_var(f"changed[{name}]")
        literals.append(literal)
        return literal.negated()

    def keep(name: str, value: int, *when: Any) -> None:
        cp.add(getattr(x, name).expression() == value).only_enforce_if([*when])

    for name in DEGREES:
        if name == "etp" and asked.etp_follows:
            if not asked.model.is_moe:
                continue
            kept, several = differs(name), model.above_one("ep")
            same = [kept, several.negated()] if asked.bridge_mends else [kept]
            cp.add(x.etp.expression() == x.tp.expression()).only_enforce_if(same)
            if asked.bridge_mends:
                keep(name, 1, kept, several)
            continue
        keep(name, getattr(judged, name) or 1, differs(name))
    split_over = [model.above_one("tp")] if judged.sequence_parallel and asked.bridge_mends else []
    keep("sequence_parallel", int(judged.sequence_parallel), differs("sequence_parallel"), *split_over)
    option = x.recompute.options.index(judged.recompute)
    cp.add_implication(differs("recompute"), x.recompute.literals[option])
    return sum(literals)


def _with_batch_near(asked: Asked, rules: list[Rule], layout: Layout, wanted: int) -> Layout:
    """The layout with the batch nearest to the one that was wanted and that its rules allow."""
    unit = layout.dp * layout.micro_batch_size
    count = max(1, round(wanted / unit))
    for step in range(MOST_BATCHES):
        for microbatches in dict.fromkeys((count - step, count + step)):
            if microbatches < 1:
                continue
            tried = replace(layout, num_microbatches=microbatches, global_batch_size=microbatches * unit)
            if all(rule.holds(asked, tried) for rule in rules):
                return tried
    return layout
