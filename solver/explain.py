"""Which rules conflict: a smallest set of rules that no layout satisfies together.

The model is built once more for feasibility alone, every rule under a literal, over wider domains, without presolve
(google/or-tools#5141: with it, cores may name what was never assumed). So it is a second opinion as well: if it finds a
layout where the search found none, nothing is answered. CP-SAT's core is only a seed: rules are dropped one by one,
advice and laws first, so that the user's own words and resources survive; none of what stays can be spared.
"""

from __future__ import annotations

import time
from typing import Any

from ortools.sat.python import cp_model

from constraints.problem import Problem
from constraints.registry import enforced_rules
from constraints.rule import Rule, Stratum
from solver.model import Model
from solver.search import Disagreement, new_solver, run

__all__ = ["conflict"]

DROP_ORDER = (Stratum.ADVICE, Stratum.LAW, Stratum.FRAMEWORK, Stratum.RESOURCE, Stratum.PIN)


def conflict(problem: Problem, *, seconds: float = 20.0) -> tuple[Rule, ...]:
    """A minimal conflicting set among the rules that ``solve`` enforces; empty if none was proved in time.

    Raises :class:`solver.search.Disagreement` if the rules can be satisfied together after all.

    If time runs out while minimising, the set is still a conflict, but may hold more rules than needed.
    """
    deadline = time.monotonic() + seconds
    model = Model(problem, explain=True)
    rules = {rule.id: rule for rule in enforced_rules(problem)}
    model.post(rules.values())
    core = _infeasible(model, list(rules), deadline)
    if core is None:
        if time.monotonic() < deadline:
            raise Disagreement("the search found no layout, the feasibility model found one")
        return ()
    for rule_id in sorted(core, key=lambda name: DROP_ORDER.index(rules[name].stratum)):
        if rule_id not in core:
            continue
        without = [name for name in core if name != rule_id]
        smaller = _infeasible(model, without, deadline)
        if smaller is not None:
            core = smaller
    return tuple(rule for name, rule in rules.items() if name in core)


def _infeasible(model: Model, assumed: list[str], deadline: float) -> list[str] | None:
    """The part of ``assumed`` that CP-SAT says conflicts, or ``None`` if it is satisfiable or time ran out."""
    if time.monotonic() > deadline:
        return None
    by_index: dict[int, str] = {model.literals[name].index: name for name in assumed}
    model.cp.clear_assumptions()
    model.cp.add_assumptions([model.literals[name] for name in assumed])
    solver: Any = new_solver(deadline - time.monotonic())
    status = run(model.cp, solver)
    if status != cp_model.INFEASIBLE:
        return None
    named = [by_index[i] for i in solver.sufficient_assumptions_for_infeasibility() if i in by_index]
    return named or assumed
