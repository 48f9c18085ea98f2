"""What another generation of Megatron would say of the same words: a note where its verdict is the opposite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from constraints.generations import GENERATIONS
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.registry import rules_of
from constraints.rule import Rule
from solver.verdict import BINDING, Verdict

__all__ = ["other_generations"]


def other_generations(problem: Problem, verdict: Verdict, read: Callable[[Problem], Layout]) -> list[str]:
    """One note for each generation that accepts what this one refuses, or refuses what it accepts; newest first.

    ``read`` makes a layout of the words as a generation understands them: defaults differ too.
    """
    notes = []
    for generation in reversed(GENERATIONS):
        if generation == problem.megatron:
            continue
        other = replace(problem, megatron=generation)
        broken = _broken(other, read(other), verdict)
        if verdict.legal and broken:
            notes.append(
                f"legal on Megatron {problem.megatron}, not on {generation}: {', '.join(rule.id for rule in broken)}"
            )
        elif not verdict.legal and not broken:
            notes.append(f"not legal on Megatron {problem.megatron}, but on {generation}")
    return notes


def _broken(problem: Problem, layout: Layout, verdict: Verdict) -> list[Rule]:
    """Laws and framework rules that ``layout`` breaks in the problem's generation; what is judged already is not again."""
    judged = set(rules_of(verdict.problem.megatron)) if layout == verdict.layout else set()
    known = [violation.rule for violation in verdict.violations if violation.rule in judged]
    asked = replace(problem, settings=layout.settings)
    rules = [rule for rule in rules_of(problem.megatron) if rule not in judged and rule.stratum in BINDING]
    kept = [rule for rule in known if rule.in_force(problem.megatron)]
    return [*kept, *(rule for rule in rules if not rule.holds(asked, layout))]
