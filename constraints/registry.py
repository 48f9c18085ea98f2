"""All rules, in the order in which a launched job would meet them: meshes, widths, layers, sequence, batch, switches."""

from __future__ import annotations

from functools import cache

from constraints import (
    attention,
    batch,
    chunks,
    context,
    dispatch,
    exchange,
    experts,
    feedforward,
    hybrid,
    interleaving,
    known,
    mesh,
    optimizer,
    precision,
    recompute,
    recurrent,
    routing,
    sequence,
    stages,
    topology,
)
from constraints.layout import Layout
from constraints.memory import budget
from constraints.problem import Problem
from constraints.rule import Rule, Stratum

__all__ = ["RULES", "broken_rules", "enforced_rules", "rule_named", "rules_of"]

RULES: tuple[Rule, ...] = (
    *known.RULES,
    *mesh.RULES,
    *attention.RULES,
    *feedforward.RULES,
    *experts.RULES,
    *routing.RULES,
    *stages.RULES,
    *chunks.RULES,
    *interleaving.RULES,
    *sequence.RULES,
    *context.RULES,
    *exchange.RULES,
    *batch.RULES,
    *dispatch.RULES,
    *recompute.RULES,
    *optimizer.RULES,
    *precision.RULES,
    *hybrid.RULES,
    *recurrent.RULES,
    *topology.RULES,
    *budget.RULES,
)


@cache
def _by_id() -> dict[str, Rule]:
    return {rule.id: rule for rule in RULES}


def rule_named(rule_id: str) -> Rule | None:
    """The rule with that id, or ``None``."""
    return _by_id().get(rule_id)


@cache
def rules_of(generation: str) -> tuple[Rule, ...]:
    """The rules in force for that generation of Megatron, in the same order."""
    return tuple(rule for rule in RULES if rule.in_force(generation))


def enforced_rules(problem: Problem) -> tuple[Rule, ...]:
    """What ``solve`` insists on: laws, framework and resource rules, enforced advice that is not relaxed, and pins."""
    kept = [
        rule
        for rule in rules_of(problem.megatron)
        if rule.stratum is not Stratum.ADVICE or (rule.enforced_by_solve and rule.id not in problem.relaxed)
    ]
    return (*kept, *problem.pins)


def broken_rules(problem: Problem, layout: Layout, *strata: Stratum) -> tuple[Rule, ...]:
    """Every rule of the given strata that ``layout`` breaks, in one pass; pins count where they are asked for."""
    rules = (*rules_of(problem.megatron), *problem.pins)
    return tuple(rule for rule in rules if rule.stratum in strata and not rule.holds(problem, layout))
