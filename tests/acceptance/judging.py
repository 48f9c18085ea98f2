"""What acceptance tests ask of the library: the verdict of ``check`` on words, and whether a sentence holds its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from constraints.reading import read_layout
from solver.request import Request
from solver.resolution import resolve
from solver.verdict import Verdict, check

__all__ = ["broken", "judge", "sentence"]


def judge(
    model: str, words: Mapping[str, Any] | str, *, fields: Mapping[str, Any] | None = None, **request: Any
) -> Verdict:
    """The verdict on ``words`` (a mapping, or ``tp=8 pp=4 ...``) for ``model``; H100 unless ``gpu`` says otherwise.

    ``fields`` changes the model: its number of layers, its heads.
    """
    if isinstance(words, str):
        words = dict(word.split("=", 1) for word in words.split())
    problem = resolve(Request(model=model, **({"gpu": "h100"} | request)))
    problem = replace(problem, model=replace(problem.model, **(fields or {})))
    reading = read_layout(words, problem)
    return check(problem, reading.layout, reading.warnings)


def broken(verdict: Verdict) -> set[str]:
    """Ids of the law and framework rules that the layout breaks."""
    return {violation.rule.id for violation in verdict.violations}


def sentence(verdict: Verdict, rule_id: str) -> str:
    """What the verdict says about ``rule_id``, be it a violation or advice. Fails if it says nothing."""
    said = [found.fact.text for found in (*verdict.violations, *verdict.advice) if found.rule.id == rule_id]
    assert said, f"nothing about {rule_id}: {broken(verdict)}, {[found.rule.id for found in verdict.advice]}"
    return said[0]
