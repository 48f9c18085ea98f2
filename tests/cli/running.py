"""The real command in this process: its exit code, and what it wrote to which stream."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from cli.main import main

__all__ = ["Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """``code`` is the exit code; ``out`` and ``err`` are what went to standard output and standard error."""

    code: int
    out: str
    err: str


def run(*args: str, stdin: bytes = b"") -> Outcome:
    """``meshwright ARGS`` with ``stdin``; never a terminal, so without colours."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        try:
            main(list(args))
        except SystemExit as left:
            return Outcome(int(left.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main returned without an exit code")
