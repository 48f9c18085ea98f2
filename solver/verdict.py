"""Judging a layout that somebody already has: every broken rule in one pass, and the numbers. No ortools here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.registry import rules_of
from constraints.rule import Fact, Rule, Stratum
from solver.answer import Answer, answer_of, communication_mapping, memory_mapping
from solver.schema import SCHEMA

__all__ = ["Verdict", "Violation", "check"]

BINDING = (Stratum.LAW, Stratum.FRAMEWORK)
"""Strata whose rules make a layout illegal."""

"""The rule that ``check`` reports as ``memory`` and not among the warnings."""

EXPERT_MESH = "mesh.world-expert"


@dataclass(frozen=True)
class Violation:
    """A broken rule with the numbers that break it."""

    rule: Rule
    fact: Fact

    def to_mapping(self) -> dict[str, Any]:
        rule = self.rule
        return {
            "rule": rule.id,
            "stratum": str(rule.stratum),
            "statement": rule.statement,
            "reason": self.fact.text,
            "facts": {
                name: {"value": plain(value), "origin": str(self.fact.origins[name])}
                for name, value in self.fact.values.items()
            },
            "enforced": str(rule.noticed),
            "source": str(rule.source) if rule.source else None,
        }


@dataclass(frozen=True)
class Verdict:
    """What ``check`` found. ``legal``: no law or framework rule is broken. ``advice``: legal, but known to be bad."""

    problem: Problem
    layout: Layout
    violations: tuple[Violation, ...]
    advice: tuple[Violation, ...]
    notes: tuple[str, ...]
    answer: Answer | None

    @property
    def legal(self) -> bool:
        return not self.violations

    @property
    def fits(self) -> bool:
        """False only if the layout's layers are placed and its memory is beyond the budget."""
        return self.answer is None or self.answer.memory.verdict != "does not fit"

    @property
    def warnings(self) -> list[str]:
        return [*self.notes, *(f"{broken.rule.id}: {broken.fact.text}" for broken in self.advice)]

    def to_mapping(self, *, relief: bool = False) -> dict[str, Any]:
        """The JSON of ``check``; ``relief``: with what would lower the memory, which costs more than the verdict."""
        answer = self.answer
        ways = answer.relief if answer and relief else None
        return {
            "schema": SCHEMA,
            "legal": self.legal,
            "violations": [violation.to_mapping() for violation in self.violations],
            "warnings": self.warnings,
            "memory": memory_mapping(answer.memory, ways) if answer else None,
            "time": answer.timing.to_mapping() if answer else None,
            "communication": communication_mapping(answer.communication_ns) if answer else None,
        }


def check(problem: Problem, layout: Layout, notes: Iterable[str] = (), *, figures: bool = True) -> Verdict:
    """Judge ``layout``: laws and framework rules decide legality, memory and advice are reported beside it.

    ``figures=False`` leaves out memory and communication, which cost more than all rules together.
    """
    violations: list[Violation] = []
    advice: list[Violation] = []
    for rule in (*rules_of(problem.megatron), *problem.pins):
        if rule.id == CAPACITY or rule.holds(problem, layout) or _implied(problem, layout, rule):
            continue
        fact = rule.why(problem, layout)
        assert fact is not None, f"{rule.id} is broken and has nothing to say"
        (violations if rule.stratum in BINDING else advice).append(Violation(rule, fact))
    answer = answer_of(problem, layout) if figures else None
    return Verdict(problem, layout, tuple(violations), tuple(advice), tuple(notes), answer)


def _implied(problem: Problem, layout: Layout, rule: Rule) -> bool:
    """True for the expert mesh of a dense model left at its defaults: it breaks only where the dense mesh does too."""
    follows = layout.edp == max(1, problem.gpus // (layout.etp * layout.ep * layout.pp))
    default = not problem.model.is_moe and layout.ep == 1 and layout.etp == layout.tp and follows
    return rule.id == EXPERT_MESH and default


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it."""
    return value if isinstance(value, int | float | str | bool | None | list | dict) else str(value)
