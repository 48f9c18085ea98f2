"""The text of ``solve`` where there is no layout: what clashes, why, what comes closest, what to type instead."""

from __future__ import annotations

from pathlib import Path

import click

from cli.text.page import LABEL, Page
from cli.text.proof import steps_of
from cli.text.time import seconds
from constraints.memory.budget import MemoryReport, memory_report
from constraints.problem import GIB, Problem
from constraints.rule import Rule, Stratum
from constraints.timing.played import reported_step
from solver.because import degree_words
from solver.refutation import Blamed, Refutation
from solver.ways_out import WayOut

__all__ = ["refuted_text"]

MOST_CONFLICTS = 3
"""Conflicts that are told step by step; of others the rules are named."""
MUCH = 0.5
"""From which share of the memory on what is too much is told as a multiple of it."""


def refuted_text(page: Page, refutation: Refutation) -> None:
    """Write the whole explanation on ``page``."""
    problem = refutation.problem
    what = f"no layout of {problem.model.name} on {problem.gpus} x {problem.gpu.name}"
    if not refutation.explained:
        page.line(click.style(f"error: {what}", fg="red", bold=True))
        page.line()
        page.entry("conflict", "(not narrowed down in the time given)")
        return
    code = refutation.explained[0].steps[-1].rules[0].id
    page.line(click.style(f"error[{code}]: {what}", fg="red", bold=True))
    page.line()
    for blamed in refutation.blamed:
        _where(page, blamed)
    for number, explained in enumerate(refutation.explained[:MOST_CONFLICTS]):
        page.line()
        page.line(click.style(_heading(refutation, number), bold=True))
        for place, step in enumerate(explained.steps, start=1):
            page.entry(f"{place:>6}.", step.text)
            page.entry("", f"[{'; '.join(_source(rule) for rule in step.rules)}]")
    for explained in refutation.explained[MOST_CONFLICTS:]:
        page.entry("besides", ", ".join(rule.id for rule in explained.minimal.rules))
    if not refutation.exhausted:
        page.entry("", "there may be more conflicts than these: the search for them stopped at its limit")
    _miss(page, refutation)
    _ways(page, refutation)
    for text in refutation.ways.useless:
        page.entry("no help", text)
    if refutation.innocent:
        page.entry("innocent", f"{', '.join(refutation.innocent)}: in no conflict")
    page.line()
    _proof(page, refutation)
    rules = (refutation.explained[0].steps[-1].rules[0], *refutation.core)
    told = next((rule.id for rule in rules if rule.stratum is not Stratum.PIN), None)  # the user's words have no page
    if told is not None:
        page.entry("more", f"meshwright rules {told}")


def _heading(refutation: Refutation, number: int) -> str:
    """Conflicts that share no word of the user's and no rule are independent; others are said to stand besides."""
    if number == 0:
        return "because"
    seen = set[str]().union(*(explained.minimal.ids for explained in refutation.explained[:number]))
    return "and besides" if seen & refutation.explained[number].minimal.ids else "and independently"


def _source(rule: Rule) -> str:
    """The rule's id and its place in Megatron, short; `meshwright rules ID` has it whole."""
    source = rule.source
    if source is None:
        return rule.id
    repository, file = source.repository.rpartition("/")[2], source.path.rpartition("/")[2]
    return f"{rule.id}: {repository}@{source.commit} {file}::{source.function}"


def _where(page: Page, blamed: Blamed) -> None:
    origin = blamed.origin
    excerpt = _excerpt(str(origin)) if origin.kind == "file" else None
    if excerpt is None:
        note = ", ".join(part for part in (_place(blamed), blamed.note) if part)
        page.entry("-->", f"{blamed.text}  ({note})" if note else blamed.text)
        return
    line, column = excerpt
    page.raw("-->", f"{origin}  ({blamed.note})" if blamed.note else str(origin))
    page.raw("", f"  {line}")
    page.raw("", f"  {' ' * column}{click.style('^' * max(1, _width(line, column)), fg='red')}")


def _place(blamed: Blamed) -> str:
    """Where it comes from, unless its own words or the note say so."""
    words = str(blamed.origin)
    told = blamed.origin.kind == "default" or words.startswith("catalog ") or words.split()[0] in blamed.text
    return "" if told else words


def _excerpt(place: str) -> tuple[str, int] | None:
    """The line of ``file:line:column`` and the column from 0; ``None`` if it cannot be read any more."""
    path, _, rest = place.rpartition(":")
    path, _, number = path.rpartition(":")
    if not (path and number.isdigit() and rest.isdigit()):
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    if not 1 <= int(number) <= len(lines):
        return None
    line = lines[int(number) - 1].replace("\t", " ")
    return line[:200].rstrip(), min(int(rest) - 1, len(line))


def _width(line: str, column: int) -> int:
    return len(line[column:].split(" #")[0].rstrip())


def _miss(page: Page, refutation: Refutation) -> None:
    miss = refutation.miss
    if miss is None:
        return
    page.line()
    page.entry("closest", miss.words)
    for rule, text in miss.violations[:4]:
        page.entry("", f"{text} [{rule.id}]")
    if miss.over_gib is not None:
        share = miss.over_gib * GIB / refutation.problem.budget_bytes
        much = f"{1 + share:.1f} times what there is" if share >= MUCH else f"{100 * share:.1f}% more than there is"
        page.entry("", f"{miss.over_gib:.1f} GiB too much: {much}")


def _ways(page: Page, refutation: Refutation) -> None:
    page.line()
    if not refutation.ways.ways:
        page.entry(
            "ways out",
            "none found: no change of a pin, the batch, the GPUs or the memory that was tried leaves a layout",
        )
        return
    ways = refutation.ways.ways
    page.entry("ways out", _tried(refutation))
    mixed = any(way.best for way in ways) and not all(way.best for way in ways)
    for letter, way in zip("abcdefgh", ways, strict=False):
        _way(page, refutation.problem, letter, way, mixed=mixed)


def _tried(refutation: Refutation) -> str:
    """What is true of all the layouts that are shown."""
    if any(way.best for way in refutation.ways.ways):
        return f"each tried: its best layout for {refutation.problem.objective}, which passes every rule"
    return "each tried: a layout that passes every rule, not searched for the best"


def _way(page: Page, asked: Problem, letter: str, way: WayOut, *, mixed: bool) -> None:
    instead = [edit.instead for edit in way.changed.edits if edit.instead and edit.text]
    note = f"instead of {' '.join(instead)}" if instead else ""
    note = "; ".join(part for part in (note, way.note) if part)
    note = f"({note})" if note else ""
    fits = len(way.text) + 2 + len(note) <= page.width - LABEL
    page.raw(f"{letter:>6}.", click.style(way.text, fg="green", bold=True) + (f"  {note}" if note and fits else ""))
    if note and not fits:
        page.entry("", note)
    report = memory_report(way.changed.problem, way.layout)
    memory = f", {_memory(report)}" if report else ""
    plain = " (not searched for the best)" if mixed and not way.best else ""
    time = f", {seconds(reported_step(way.changed.problem, way.layout).step_ns)} a step" if way.best else ""
    page.entry("", f"{degree_words(asked, way.layout)}{time}{memory}{plain}")


def _memory(report: MemoryReport) -> str:
    """What the fullest stage needs of what there is."""
    low, high, budget = (size / GIB for size in (report.low_bytes, report.high_bytes, report.budget_bytes))
    if report.verdict == "borderline":
        return f"borderline: {low:.1f} to {high:.1f} of {budget:.1f} GiB"
    return f"up to {high:.1f} of {budget:.1f} GiB"


def _proof(page: Page, refutation: Refutation) -> None:
    proof = refutation.proof
    if not proof.steps:
        page.entry("proof", "solver: CP-SAT alone says so; too large for a certificate")
        return
    if refutation.problem.allow_idle:
        _idle(page, refutation)
    page.entry(
        "proof",
        f"{proof.level}: every layout is excluded in {steps_of(proof)}, checked without the solver; "
        "--certificate FILE keeps them, meshwright verify FILE checks them again",
    )


def _idle(page: Page, refutation: Refutation) -> None:
    gpus, idle = refutation.problem.gpus, refutation.idle
    if gpus == 1:
        return
    if idle is None:
        page.entry("idle", "with some GPUs idle there is none either, says the search; the proof is for all of them")
        return
    counts = f"1 to {gpus - 1}" if gpus > 2 else "1"
    page.entry("idle", f"nor is there one on {counts} of the GPUs, the others idle: {', '.join(idle.rules)}")
