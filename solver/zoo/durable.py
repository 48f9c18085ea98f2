"""Files and folders that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["PARTIAL", "discard", "publish_file", "publish_folder", "synced"]

PARTIAL = ".tmp-"
"""How names of what is still being written begin."""


def publish_folder(parent: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Make ``parent/name`` with these files: written aside, made durable, then renamed."""
    partial = parent / f"{PARTIAL}{name}"
    discard(partial)
    partial.mkdir()
    try:
        for file, content in files.items():
            _write(partial / file, [content])
        synced(partial)
        partial.rename(parent / name)
    except BaseException:
        discard(partial)
        raise
    synced(parent)


def publish_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a file in the place of ``path``: written aside, made durable, then renamed."""
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        _write(partial, pieces)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    synced(path.parent)


def discard(path: Path) -> None:
    """Remove a file or folder. A folder is first renamed, so that half of it is never taken for the whole."""
    if path.is_dir() and not path.is_symlink():
        if not path.name.startswith(PARTIAL):
            aside = path.with_name(f"{PARTIAL}{path.name}")
            discard(aside)
            path = path.rename(aside)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def synced(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
