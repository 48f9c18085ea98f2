"""Standard output and standard error where they do not take what is written."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

__all__ = ["remark", "silence"]


def remark(text: str) -> None:
    """Say ``text`` on standard error; if nobody listens there, that changes nothing."""
    try:
        click.echo(text, err=True, color=False if os.environ.get("NO_COLOR") else None)
    except OSError:
        silence(sys.stderr)


def silence(stream: Any) -> None:
    """From here on ``stream``, which does not take what is written, goes nowhere: what it still holds cannot fail again."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
