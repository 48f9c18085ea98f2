"""The pipeline, memory as bars: one row for each stage, or for each run of stages that hold the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import click

from cli.text.page import Page
from cli.text.time import seconds
from constraints.memory.budget import MemoryReport, StageMemory
from constraints.problem import GIB
from solver.answer import Answer

__all__ = ["memory_bars"]

PARTS = (
    ("parameters", "parameters", "█", "#", "blue"),
    ("gradients", "gradients", "▓", "G", "cyan"),
    ("optimizer", "optimizer", "▒", "O", "green"),
    ("activations", "activations", "░", "a", "yellow"),
    ("other", "other", "·", ".", "magenta"),
)
"""Component, its name, and how it is drawn with and without Unicode and in colour."""

MOST_ROWS = 12
TENTH = GIB // 20 + 1
"""Sizes below print as 0.0."""


PHASES = {
    "forward": "in the forward pass, at the loss",
    "backward": "in the backward pass",
    "step": "in the optimizer step",
}


def memory_bars(page: Page, answer: Answer) -> None:
    """The verdict with its interval, a row for each run of alike stages (layers, bytes against the budget, time), the
    legend, the peak's parts, what the margin is for, and what would lower it."""
    memory = answer.memory
    colour = {"fits": "green", "borderline": "yellow"}.get(memory.verdict, "red")
    page.entry(
        "memory",
        f"{click.style(memory.verdict, fg=colour)}: {memory.low_bytes / GIB:.1f} to {memory.high_bytes / GIB:.1f} GiB "
        f"on the fullest stage, {memory.budget_bytes / GIB:.1f} usable",
    )
    rows = list(_runs(memory))
    shown = rows if len(rows) <= MOST_ROWS else _selection(rows, memory)
    names = [_name(first, last) for first, last, _ in shown]
    pad = max(len(name) for name in names)
    times = [seconds(busy) for busy in answer.busy_ns]
    longest = max(map(len, times))
    slowest = max(range(len(times)), key=lambda rank: answer.busy_ns[rank])
    room = max(12, min(40, page.width - 10 - pad - 16 - (longest + 30 if len(rows) > 1 else 0)))
    for name, (first, last, stage) in zip(names, shown, strict=True):
        bar = f"{_bar(page, stage, memory.budget_bytes, room)} {stage.allocated_bytes / GIB:6.1f} GiB"
        if len(rows) == 1:
            page.raw("", f"{name.ljust(pad)} {bar}")
            continue
        layers = answer.assignment.layers_of_rank(first)
        marks = ["fullest"] * (first <= memory.fullest.rank <= last) + ["slowest"] * (first <= slowest <= last)
        mark = f"  <- {', '.join(marks)}" if marks else ""
        counted = f"{layers:3} layer " if layers == 1 else f"{layers:3} layers"
        page.raw("", f"{name.ljust(pad)} {counted} {bar} {times[first].rjust(longest)}{mark}")
    if len(shown) < len(rows):
        page.raw("", f"({len(rows) - len(shown)} more kinds of stage, all lighter: --format json lists them)")
    page.raw("", " ".join(f"{_ink(page, part)} {part[1]}" for part in PARTS))
    _peak(page, memory)
    for label, way in zip(("lower by", *[""] * MOST_ROWS), answer.relief, strict=False):
        page.entry(label, f"{way.change}: {way.saved_bytes / GIB:.1f} GiB less ({way.price})")


def _peak(page: Page, memory: MemoryReport) -> None:
    """The fullest stage's moment and parts, then what the high end adds to them."""
    stage = memory.fullest
    parts = [f"{name.replace('_', ' ')} {size / GIB:.1f}" for name, size in stage.components.items() if size >= TENTH]
    page.entry("peak", f"stage {stage.rank} {PHASES[stage.phase]}: {', '.join(parts)} = {_gib(memory.allocated_bytes)}")
    margin = [f"{name} {size / GIB:.1f}" for name, size in memory.margin.items() if size >= TENTH]
    page.entry("margin", f"{', '.join(margin)}: up to {_gib(memory.high_bytes)} on the device")


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _runs(memory: MemoryReport) -> Iterator[tuple[int, int, StageMemory]]:
    """(first rank, last rank, stage) for each run of stages with the same components."""
    for _, run in groupby(memory.stages, key=lambda stage: tuple(stage.components.items())):
        stages = list(run)
        yield stages[0].rank, stages[-1].rank, stages[0]


def _selection(rows: list[tuple[int, int, StageMemory]], memory: MemoryReport) -> list[tuple[int, int, StageMemory]]:
    """First, last, and the fullest rows between, in order."""
    by_size = sorted(rows, key=lambda row: -row[2].allocated_bytes)
    kept = {id(row) for row in [rows[0], rows[-1], *by_size[: MOST_ROWS - 2]]}
    return [row for row in rows if id(row) in kept]


def _name(first: int, last: int) -> str:
    return f"stage {first}" if first == last else f"stages {first}-{last}"


def _ink(page: Page, part: tuple[str, str, str, str, str]) -> str:
    return click.style(part[2] if page.unicode else part[3], fg=part[4])


def _bar(page: Page, stage: StageMemory, budget: int, room: int) -> str:
    """``room`` cells stand for the budget; a stage beyond it ends in ``>``."""
    sizes = dict(stage.components)
    known = {part[0]: sizes.get(part[0], 0) for part in PARTS[:-1]}
    known["other"] = sum(sizes.values()) - sum(known.values())
    cells, drawn, total = "", 0, 0
    for part in PARTS:
        total += known[part[0]]
        end = min(room, round(room * total / budget))
        if end > drawn:
            cells += click.style((part[2] if page.unicode else part[3]) * (end - drawn), fg=part[4])
            drawn = end
    over = stage.allocated_bytes > budget
    return "[" + cells + " " * (room - drawn) + (click.style(">", fg="red") if over else "]")
