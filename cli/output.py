"""Putting a result where it belongs: standard output, or a file that appears whole or not at all.

A reader that leaves (``| head``) has had enough: what is left to say is dropped, and the work goes on to its exit code. Any
other place that does not take a result is an error, for the result is lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.streams import remark, silence
from constraints.errors import RequestError
from constraints.problem import Origin

__all__ = ["deliver", "ensure_writable", "lost", "writer"]

CLOSED = OSError(errno.EBADF, "it is closed")


def deliver(text: str, path: str | None = None, *, flag: str = "-o") -> None:
    """Print ``text``, or write it to ``path``, which ``flag`` gave, through a temporary file beside it.

    Raises :class:`~constraints.errors.RequestError` if it cannot be written.
    """
    if path is None:
        ensure_writable(None)
        try:
            click.echo(text, nl=not text.endswith("\n"))
        except BrokenPipeError:
            silence(sys.stdout)
        except OSError as error:
            raise lost(error) from None
        return
    with contextlib.suppress(BrokenPipeError), writer(path, flag=flag) as write:
        write(click.unstyle(text) if text.endswith("\n") else click.unstyle(text) + "\n")


@contextmanager
def writer(path: str | None, *, flag: str = "-o") -> Iterator[Callable[[str], object]]:
    """What takes text piece by piece: standard output, or a file that is there once the block has ended well.

    Raises :class:`~constraints.errors.RequestError` if it cannot be written, and ``BrokenPipeError`` if nobody reads on.
    """
    if path is None:
        ensure_writable(None)
        try:
            yield sys.stdout.write
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise lost(error) from None
        return
    if _is_device(path):
        yield from _to_device(path, flag)
        return
    yield from _to_file(path, flag)
    remark(f"written: {path}")


def _to_device(path: str, flag: str) -> Iterator[Callable[[str], object]]:
    try:
        with open(path, "w", encoding="utf-8") as device:
            yield device.write
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritable(path, flag, error) from None


def _to_file(path: str, flag: str) -> Iterator[Callable[[str], object]]:
    import tempfile  # random, hashlib and more: only a file needs them

    target = _target(path, flag)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    except (OSError, ValueError) as error:
        raise _unwritable(path, flag, error) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file.write
        _publish(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise _unwritable(path, flag, error) from None
    except BaseException:
        _discard(temporary)
        raise


def ensure_writable(path: str | None, *, flag: str = "-o") -> None:
    """Find out before the work is done that ``path`` (``None``: standard output) cannot be written.

    Raises :class:`~constraints.errors.RequestError`.
    """
    if path is None:
        if sys.stdout is None:  # closed by whoever started us
            raise lost(CLOSED)
        return
    target = _target(path, flag)
    if _is_device(path):
        return
    if target.is_dir():
        raise _unwritable(path, flag, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if not target.parent.is_dir():
        raise _unwritable(path, flag, FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}"))
    if not os.access(target.parent, os.W_OK):
        raise _unwritable(path, flag, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def lost(error: OSError) -> RequestError:
    """The error of standard output, to which nothing more is written."""
    silence(sys.stdout)
    message = f"cannot be written: {error.strerror or error}"
    return RequestError("standard output", None, Origin("flag", "standard output"), message)


def _target(path: str, flag: str) -> Path:
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise _unwritable(path, flag, error) from None


def _is_device(path: str) -> bool:
    """True for a device or a pipe: it is written to, never replaced."""
    try:
        return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    except ValueError:
        return False


def _publish(temporary: str, target: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, target)


def _discard(temporary: str) -> None:
    if os.path.exists(temporary):
        os.unlink(temporary)


def _unwritable(path: str, flag: str, error: OSError | ValueError) -> RequestError:
    reason = getattr(error, "strerror", None) or error
    field = "output" if flag == "-o" else flag.removeprefix("--")
    return RequestError(field, path, Origin("flag", flag), f"cannot be written: {reason}")
