"""The end of a zoo on one page: how many jobs came to what on which cluster, why some have no layout, what is undecided."""

from __future__ import annotations

from collections.abc import Sequence

import click

from cli.text.page import Page
from cli.text.table import Column, table
from solver.zoo.outcome import Group, Totals

__all__ = ["zoo_text"]

MOST_ROWS = 14
MOST_REASONS = 6
MOST_NAMED = 4
COLUMNS = (
    Column("cluster"),
    Column("GPUs", right=True),
    Column("jobs", right=True),
    Column("solved", right=True),
    Column("infeasible", right=True),
    Column("undecided", right=True),
    Column("failed", right=True),
)


def zoo_text(totals: Totals, out: str, width: int | None = None) -> str:
    """The whole page; tables of many rows are cut to the first ones, and say so."""
    page = Page(width)
    _title(page, totals, out)
    page.line()
    groups = totals.groups if len(totals.groups) <= MOST_ROWS else totals.merged()
    rows = [_row(group) for group in groups[:MOST_ROWS]]
    page.line(table(COLUMNS, rows, page.width).rstrip("\n"))
    _more(page, len(groups) - MOST_ROWS, "clusters")
    _reasons(page, totals)
    _named(page, "undecided", "yellow", totals.undecided)
    _named(page, "failed", "red", [f"{failure.job}: {failure.reason}" for failure in totals.failures])
    page.line()
    rest = "; --resume tries what failed again" if totals.failures else ""
    page.entry("results", f"{out}: a folder for each job, summary.csv, manifest.jsonl{rest}")
    return page.text()


def _title(page: Page, totals: Totals, out: str) -> None:
    count = {name: totals.count(name) for name in ("solved", "infeasible", "undecided", "failed")}
    colours = {"solved": "green", "infeasible": "cyan", "undecided": "yellow", "failed": "red"}
    words = [
        click.style(f"{number:,} {name}", fg=colours[name], bold=True)
        for name, number in count.items()
        if number or name == "solved"
    ]
    page.line(click.style(f"{totals.jobs:,} jobs", bold=True) + ": " + ", ".join(words))
    notes = [f"{totals.reused:,} of them are the same as another, and were solved with it"] if totals.reused else []
    notes += [f"{totals.kept:,} were finished before"] if totals.kept else []
    if notes:
        page.entry("", "; ".join(notes))
    ran = totals.done - totals.kept
    if ran and totals.seconds:
        page.entry("took", f"{totals.seconds:,.1f} s, {ran / totals.seconds:.1f} jobs a second")


def _row(group: Group) -> list[str]:
    counts = [group.jobs, group.solved, group.infeasible, group.undecided, group.failed]
    return [group.cluster, group.gpus, *(f"{count:,}" if count else "-" for count in counts)]


def _reasons(page: Page, totals: Totals) -> None:
    if not totals.reasons:
        return
    page.line()
    page.line(click.style("why there is none", bold=True))
    ordered = sorted(totals.reasons.items(), key=lambda item: (-item[1].count, item[0]))
    for rules, reason in ordered[:MOST_REASONS]:
        page.entry(f"{reason.count:>7,}", " + ".join(rules) or "not narrowed down in the time given")
        page.entry("", f"e.g. {reason.example}")
    _more(page, len(ordered) - MOST_REASONS, "reasons")


def _named(page: Page, label: str, colour: str, lines: Sequence[str]) -> None:
    if not lines:
        return
    page.line()
    for number, line in enumerate(lines[:MOST_NAMED]):
        page.entry(label if number == 0 else "", line, fg=colour)
    _more(page, len(lines) - MOST_NAMED, "jobs: summary.csv has them all")


def _more(page: Page, count: int, what: str) -> None:
    if count > 0:
        page.entry("", f"and {count:,} more {what}")
