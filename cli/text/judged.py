"""The text of ``check``: the verdict, every broken rule with its numbers, warnings, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.text.page import Page
from cli.text.solved import answer_entries, layout_entries, one_line
from cli.text.time import seconds
from constraints.registry import broken_rules
from constraints.rule import Stratum
from solver.verdict import Verdict

if TYPE_CHECKING:  # a layout that is fine does without them
    from solver.nearest import Nearest
    from solver.single_changes import SingleChange

__all__ = ["judged_text"]

MOST_SINGLE = 6
"""Single changes that are shown, the fastest; JSON holds them all."""


def judged_text(
    verdict: Verdict, nearest: Nearest | None = None, single: Sequence[SingleChange] = (), width: int | None = None
) -> str:
    """The whole verdict as text."""
    page = Page(width)
    problem, answer = verdict.problem, verdict.answer
    what = f"{problem.model.name} on {problem.gpus} x {problem.gpu.name}"
    if verdict.legal:
        fits = verdict.fits
        words = "legal" if fits else "legal, but does not fit in memory"
        page.line(click.style(f"{words}: ", fg="green" if fits else "red", bold=True) + what)
    else:
        count = len(verdict.violations)
        page.line(click.style(f"illegal: {count} rule{'s' * (count > 1)} broken: ", fg="red", bold=True) + what)
    for violation in verdict.violations:
        page.line()
        page.line(click.style(f"error[{violation.rule.id}]", fg="red", bold=True))
        page.entry("because", violation.fact.text)
        page.entry("law", violation.rule.statement)
        page.entry("noticed", str(violation.rule.noticed))
        if violation.rule.source:
            page.entry("source", str(violation.rule.source))
    if verdict.warnings:
        page.line()
    for text in verdict.warnings:
        page.entry("warning", text, fg="yellow")
    if answer is not None:
        page.line()
        if verdict.legal:
            answer_entries(page, answer)
        else:  # figures of a layout that cannot exist would mislead
            layout_entries(page, answer)
    if not (verdict.legal and verdict.fits):
        page.line()
        _nearest(page, nearest)
        _single(page, single)
    if verdict.violations:
        page.line()
        page.entry("more", f"meshwright rules {verdict.violations[0].rule.id}")
    return page.text()


def _nearest(page: Page, nearest: Nearest | None) -> None:
    if nearest is None:
        page.entry("nearest", "none was found: meshwright solve says whether there is any, and what to change if not")
        return
    answer = nearest.answer
    page.entry("nearest", click.style(one_line(answer), fg="green", bold=True))
    page.entry("", f"changed: {', '.join(nearest.words)}")
    memory = f"memory {answer.memory.verdict}" if answer.memory.verdict != "does not fit" else "it does not fit either"
    page.entry("", f"{seconds(answer.timing.step.step_ns)} a step; {memory}")
    broken = [rule for rule in broken_rules(answer.problem, answer.layout, Stratum.ADVICE) if rule.enforced_by_solve]
    if firm := ", ".join(rule.id for rule in broken if not rule.relaxable):
        page.entry("", f"solve would not take it: {firm}")
    elif relaxed := " ".join(f"--relax {rule.id}" for rule in broken):
        page.entry("", f"solve would not take it without {relaxed}")


def _single(page: Page, single: Sequence[SingleChange]) -> None:
    if not single:
        page.entry("alone", "no change of one thing makes it legal and lets it fit")
        return
    shown = [f"{one.change.typed} ({seconds(one.step_ns)} a step)" for one in single[:MOST_SINGLE]]
    more = f", and {len(single) - MOST_SINGLE} more" if len(single) > MOST_SINGLE else ""
    page.entry("alone", f"any one of these would do: {', '.join(shown)}{more}")
