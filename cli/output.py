"""Putting a result where it belongs: standard output, or a file that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from constraints.errors import RequestError
from constraints.problem import Origin

__all__ = ["deliver", "ensure_writable", "writer"]


def deliver(text: str, path: str | None) -> None:
    """Print ``text``, or write it to ``path`` through a temporary file beside it.

    Raises :class:`~constraints.errors.RequestError` if the file cannot be written.
    """
    if path is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    with writer(path) as write:
        write(click.unstyle(text) if text.endswith("\n") else click.unstyle(text) + "\n")


@contextmanager
def writer(path: str | None) -> Iterator[Callable[[str], object]]:
    """What takes text piece by piece: standard output, or a file that is there once the block has ended well.

    Raises :class:`~constraints.errors.RequestError` if the file cannot be written.
    """
    if path is None:
        yield sys.stdout.write if sys.stdout is not None else len
        return
    target = _target(path)
    if _is_device(target):
        with open(target, "w", encoding="utf-8") as device:
            yield device.write
        return
    import tempfile  # random, hashlib and more: only a file needs them

    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file.write
        _publish(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(path, error) from None
    except BaseException:
        _discard(temporary)
        raise
    click.echo(f"written: {path}", err=True)


def ensure_writable(path: str | None) -> None:
    """Find out before the work is done that ``path`` cannot be written.

    Raises :class:`~constraints.errors.RequestError`.
    """
    if path is None or _is_device(target := _target(path)):
        return
    if target.is_dir():
        raise _unwritable(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if not target.parent.is_dir():
        raise _unwritable(path, FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}"))
    if not os.access(target.parent, os.W_OK):
        raise _unwritable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _target(path: str) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None


def _is_device(target: Path) -> bool:
    """True for a device or a pipe: it is written to, never replaced."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _publish(temporary: str, target: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, target)


def _discard(temporary: str) -> None:
    if os.path.exists(temporary):
        os.unlink(temporary)


def _unwritable(path: str, error: OSError | ValueError) -> RequestError:
    reason = getattr(error, "strerror", None) or error
    return RequestError("output", path, Origin("flag", "-o"), f"cannot be written: {reason}")
