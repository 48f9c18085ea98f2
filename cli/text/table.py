"""Aligned columns: as many as the reader's width holds, each cell whole."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple

import click

__all__ = ["Column", "table"]

GAP = "  "


class Column(NamedTuple):
    """A heading and how its cells stand; an optional column is left out where the terminal is too narrow for it."""

    heading: str
    right: bool = False
    optional: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """The rows under their headings. ``width`` is the terminal's, or ``COLUMNS``; a pipe or a file gets every column.

    The leftmost optional columns are kept first. Nothing is cut: a row that is too wide even so stays whole.
    """
    width = width or _width()
    widths = [max(len(c.heading), *(len(row[i]) for row in rows), 0) for i, c in enumerate(columns)]
    shown = _fitting(columns, widths, width)
    head = _line([columns[i].heading for i in shown], shown, columns, widths)
    lines = [click.style(head, bold=True)]
    for row in rows:
        line = _line([row[i] for i in shown], shown, columns, widths)
        first = len(row[shown[0]])
        lines.append(click.style(line[:first], fg="cyan") + line[first:])
    return "\n".join(lines) + "\n"


def _width() -> int | None:
    known = (sys.stdout is not None and sys.stdout.isatty()) or "COLUMNS" in os.environ
    return shutil.get_terminal_size((80, 24)).columns if known else None


def _fitting(columns: Sequence[Column], widths: list[int], width: int | None) -> list[int]:
    """Indices of the columns that are shown."""
    if width is None:
        return list(range(len(columns)))
    shown = [i for i, column in enumerate(columns) if not column.optional]
    for i, column in enumerate(columns):
        total = sum(widths[k] for k in shown) + len(GAP) * len(shown)
        if column.optional and total + widths[i] <= width:
            shown.append(i)
    return sorted(shown)


def _line(cells: list[str], shown: list[int], columns: Sequence[Column], widths: list[int]) -> str:
    placed = (
        cell.rjust(widths[i]) if columns[i].right else cell.ljust(widths[i])
        for cell, i in zip(cells, shown, strict=True)
    )
    return GAP.join(placed).rstrip()
