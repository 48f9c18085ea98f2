"""Putting a result where it belongs: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from constraints.errors import RequestError
from constraints.problem import Origin

__all__ = ["deliver"]


def deliver(text: str, path: str | None) -> None:
    """Print ``text``, or write it to ``path`` through a temporary file beside it.

    Raises :class:`~constraints.errors.RequestError` if the file cannot be written.
    """
    if path is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(click.unstyle(text) if text.endswith("\n") else click.unstyle(text) + "\n")
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise RequestError("output", path, Origin("flag", "-o"), f"cannot be written: {error.strerror}") from None
    click.echo(f"written: {path}", err=True)
