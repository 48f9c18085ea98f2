"""The page that reports are written on: its width, its colours, labelled paragraphs."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click

__all__ = ["LABEL", "Page"]

LABEL = 10
"""Columns of the label at the left."""


class Page:
    """Collects lines no wider than the terminal (80 columns where there is none); ``unicode`` says what it can show.

    Colours are click's: they vanish when the output is not a terminal, or ``NO_COLOR`` is set.
    """

    def __init__(self, width: int | None = None, *, unicode: bool | None = None) -> None:
        self.width = max(60, width or min(120, shutil.get_terminal_size((80, 24)).columns))
        self.lines: list[str] = []
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
        self.unicode = encoding.replace("-", "").startswith("utf") if unicode is None else unicode

    def line(self, text: str = "") -> None:
        """A line as it is."""
        self.lines.append(text)

    def entry(self, label: str, text: str, fg: str | None = None) -> None:
        """A labelled paragraph, wrapped, its further lines indented under the first; ``fg`` colours the label."""
        room = self.width - LABEL
        for part in text.split("\n"):
            for line in textwrap.wrap(part, room, break_long_words=False, break_on_hyphens=False) or [""]:
                self.lines.append(f"{click.style(label.ljust(LABEL), bold=True, fg=fg)}{line}".rstrip())
                label = ""

    def raw(self, label: str, text: str) -> None:
        """A labelled line that is not wrapped (bars, commands to paste)."""
        self.lines.append(f"{click.style(label.ljust(LABEL), bold=True)}{text}")

    def text(self) -> str:
        """The page with a newline at its end."""
        return "\n".join(self.lines) + "\n"
