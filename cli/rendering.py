"""A report of ``solve`` in each of its formats."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports ortools
    from cli.text.page import Page
    from solver.report import Report

__all__ = ["FORMATS", "rendered"]

FORMATS = ("text", "json", "yaml", "bridge", "bridge-python", "megatron-lm")
"""The words of ``--format``. Where there is no layout, those that only hold a layout are text."""


def rendered(report: Report, format_: str, page: Page | None = None) -> str:
    """The report in ``format_``; text on ``page``, or on one as wide as the terminal."""
    if format_ == "json":
        import json

        return json.dumps(report.to_mapping(), indent=1)
    if format_ == "text" or not report.answers:
        from cli.text.solved import solved_text

        return solved_text(report, page)
    module = import_module(f"cli.emit.{format_.replace('-', '_')}")
    answer = report.answers[0]
    emitted: str = module.emit(answer.problem, answer.layout)
    return emitted
