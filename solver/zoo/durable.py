"""Files and folders that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

__all__ = ["PARTIAL", "discard", "make_durable", "publish_file", "publish_folder"]

PARTIAL = ".tmp-"
"""How names of what is still being written begin."""


def publish_folder(parent: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Make ``parent/name`` with these files: written aside, made durable, then renamed."""
    partial = parent / f"{PARTIAL}{name}"
    discard(partial)
    partial.mkdir()
    try:
        for file, content in files.items():
            (partial / file).write_bytes(content)
        make_durable(partial, *(partial / file for file in files))
        partial.rename(parent / name)
    except BaseException:
        discard(partial)
        raise
    make_durable(parent)


def publish_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a file in the place of ``path``: written aside, made durable, then renamed."""
    partial = path.with_name(f"{PARTIAL}{path.name}")
    try:
        with partial.open("wb") as file:
            file.writelines(pieces)
        make_durable(partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    make_durable(path.parent)


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


def make_durable(*paths: Path) -> None:
    """Have files and folders survive a loss of power.

    All at once: a file system commits what is asked for together in one go (measured on ext4: a folder of seven files in
    3 ms, one after the other in 37).
    """
    for done in [_threads().submit(_sync, path) for path in paths]:
        done.result()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(8, "fsync")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
