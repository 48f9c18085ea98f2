"""Rows of published files: cells as text and as numbers, and the reason why a row cannot be scored.

Files come from many hands: with a byte order mark or without, any line ends, cells that say ``n/a``, thousands set apart. A
cell that is empty says nothing; a cell that holds something other than what its column is for makes the row one that is
skipped, never one that is scored on a default.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import click

__all__ = ["Row", "Skipped", "csv_files", "number", "read_rows", "real", "text", "truth"]

Row = dict[str, str]

NOTHING = ("", "-", "n/a", "na", "nan", "none", "null", "?")
"""Cells that say nothing."""
LARGEST = 1 << 40
"""Whole numbers above this are mistakes: no count, length or batch comes near."""

csv_files = click.option(
    "--csv",
    "paths",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, readable=True),
    help="A file of published rows; repeatable.",
)


@dataclass(frozen=True)
class Skipped(Exception):
    """A row that cannot be scored, and why."""

    reason: str


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a CSV file as mappings of text, lines without any cell left out.

    Raises :class:`click.ClickException` for what is no CSV file.
    """
    csv.field_size_limit(sys.maxsize)
    with Path(path).open(newline="", encoding="utf-8-sig", errors="replace") as file:
        try:
            for row in csv.DictReader(file, restkey=""):
                yield {(name or "").strip(): value for name, value in row.items() if isinstance(value, str)}
        except csv.Error as error:
            raise click.ClickException(f"{path}: {error}") from None


def text(row: Row, name: str) -> str:
    """The value of a column, empty where the file has none."""
    return row.get(name, "").strip()


def number(row: Row, name: str, most: int = LARGEST) -> int | None:
    """The whole number of a column, ``None`` where it says nothing.

    Raises :class:`Skipped` where it says something else, or more than ``most``.

    >>> number({"gbs": "1,024"}, "gbs"), number({"gbs": "8.0"}, "gbs"), number({"gbs": "n/a"}, "gbs")
    (1024, 8, None)
    """
    value = _plain(row, name)
    if value.lower() in NOTHING:
        return None
    found = _float(value)
    if found is None or found < 0 or found > most or found != int(found):
        raise Skipped(f"unreadable {name}")
    return int(found)


def real(row: Row, name: str) -> float | None:
    """The positive number of a column, ``None`` where there is none.

    >>> real({"peak": "62.5"}, "peak"), real({"peak": "~60"}, "peak"), real({"peak": "inf"}, "peak")
    (62.5, None, None)
    """
    found = _float(_plain(row, name))
    return found if found is not None and found > 0 else None


def truth(row: Row, name: str) -> bool:
    """True for ``True``, ``1`` and the like."""
    return text(row, name).lower() in ("true", "1", "1.0", "yes", "on")


def _plain(row: Row, name: str) -> str:
    """A cell without what sets its thousands apart."""
    return re.sub(r"(?<=\d)[,_'](?=\d{3})", "", text(row, name))


def _float(value: str) -> float | None:
    try:
        found = float(value)
    except ValueError:
        return None
    return found if isfinite(found) else None
