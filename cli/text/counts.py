"""The text of ``counts``: a row for each count, what stands out, and why the gaps are gaps."""

from __future__ import annotations

from collections.abc import Iterable

import click

from cli.text.page import Page
from cli.text.solved import one_line
from cli.text.table import Column, table
from constraints.problem import GIB
from solver.counts import Count, Counts

__all__ = ["counts_text", "ranges"]

COLUMNS = (
    Column("GPUs", right=True),
    Column("nodes", right=True),
    Column("tokens/s/GPU", right=True),
    Column("tokens/s", right=True, optional=True),
    Column("GiB", right=True, optional=True),
    Column("layout"),
)
MOST_RANGES = 12


def counts_text(found: Counts, asked: int | None = None) -> str:
    """The whole answer; ``asked`` is the count that the nearest usable ones are told of."""
    page, problem = Page(), found.problem
    _title(page, found)
    page.line()
    rows = [_row(count, problem.gpus_per_node) for count in found.counts]
    page.line(table(COLUMNS, rows, page.width).rstrip("\n"))
    page.line()
    _best(page, found)
    gap = found.on(asked) if asked is not None else None
    if gap is not None and gap.status == "infeasible":
        page.entry(f"for {asked}", _instead(gap))
    _gaps(page, found)
    unknown = [count.gpus for count in found.counts if count.status == "unknown"]
    if unknown:
        page.entry("undecided", f"{ranges(unknown)}: give a longer --time-limit", fg="yellow")
    return page.text()


def _title(page: Page, found: Counts) -> None:
    problem, counts = found.problem, found.counts
    first, last = counts[0].gpus, counts[-1].gpus
    span = f"{first} to {last}" if first < last else str(first)
    whole = [count for count in counts if count.gpus % problem.gpus_per_node == 0]
    usable = [count for count in whole if count.answer is not None]
    page.line(
        click.style(f"{problem.model.name} on {span} x {problem.gpu.name}", bold=True)
        + f": {len(found.usable)} of {len(counts)} counts have a layout"
    )
    page.entry(
        "",
        f"of those that fill their nodes {len(usable)} of {len(whole)}; best for {problem.objective}, sequence length "
        f"{problem.seq_length}, {problem.precision}",
    )


def _row(count: Count, per_node: int) -> list[str]:
    nodes, rest = divmod(count.gpus, per_node)
    where = f"{nodes} + {rest}" if nodes and rest else str(nodes) if nodes else f"{rest} of {per_node}"
    answer = count.answer
    if answer is None:
        words = f"none: {_instead(count)}" if count.status == "infeasible" else "not decided in the time given"
        return [str(count.gpus), where, "-", "-", "-", words]
    rate = answer.timing.tokens_per_second_per_gpu
    words = one_line(answer) + ("" if count.status == "optimal" else "  (not proved best)")
    gib = f"{answer.memory.high_bytes / GIB:.1f}"
    return [str(count.gpus), where, f"{rate:,.0f}", f"{rate * count.gpus:,.0f}", gib, words]


def _instead(count: Count) -> str:
    words = [f"{count.below} ({count.gpus - count.below} idle)"] if count.below is not None else []
    words += [str(count.above)] if count.above is not None else []
    return f"use {' or '.join(words)}" if words else "and no usable count near it is known"


def _best(page: Page, found: Counts) -> None:
    """The counts that are best used, and that do most in all: more GPUs are not always faster."""
    if not found.usable:
        return

    def rate(count: Count) -> float:
        assert count.answer is not None
        return count.answer.timing.tokens_per_second_per_gpu

    best = max(found.usable, key=rate)
    most = max(found.usable, key=lambda count: rate(count) * count.gpus)
    page.entry("best used", f"{best.gpus} GPUs: {rate(best):,.0f} tokens/s each")
    page.entry("fastest", f"{most.gpus} GPUs: {rate(most) * most.gpus:,.0f} tokens/s in all")


def _gaps(page: Page, found: Counts) -> None:
    by_rules: dict[tuple[str, ...], list[Count]] = {}
    for count in found.counts:
        if count.gap is not None:
            by_rules.setdefault(count.gap.rules, []).append(count)
    for rules, counts in sorted(by_rules.items(), key=lambda item: -len(item[1])):
        page.line()
        heading = f"no layout on {ranges(count.gpus for count in counts)}"
        named = f"[{', '.join(rules)}]" if rules else ""
        beside = len(heading) + 2 + len(named) <= page.width
        page.line(click.style(heading, bold=True) + (f"  {named}" if rules and beside else ""))
        if not beside:
            page.entry("", named)
        gap = counts[0].gap
        assert gap is not None
        page.entry("", f"{counts[0].gpus}: {gap.reason}")


def ranges(counts: Iterable[int]) -> str:
    """Counts with runs as ranges, the first ones if there are many.

    >>> ranges([90, 91, 92, 97, 101, 102])
    '90-92, 97, 101-102'
    """
    runs: list[list[int]] = []
    for count in counts:
        if runs and count == runs[-1][1] + 1:
            runs[-1][1] = count
        else:
            runs.append([count, count])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:MOST_RANGES]]
    more = [f"and {len(runs) - MOST_RANGES} more"] if len(runs) > MOST_RANGES else []
    return ", ".join([*words, *more])
