"""``manifest.jsonl``: a line for each finished job, in the order in which they finished until all have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from solver.zoo.durable import publish_file

__all__ = ["Manifest"]

LONGEST_LINE = 1 << 20
"""Bytes; a line of the manifest has some hundred."""


class Manifest:
    """The file, of which only the place of each job's line is held. A torn last line is cut off when it is opened.

    Raises :class:`OSError` where the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        self._places: dict[str, tuple[int, int]] = {}
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._end = 0
        with self.path.open("rb") as file:
            while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                if (job := _job_of(line)) is not None:
                    self._places[job] = (self._end, len(line))
                self._end += len(line)
        os.ftruncate(self._file, self._end)

    def __contains__(self, job: str) -> bool:
        return job in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def entry(self, job: str) -> dict[str, Any]:
        """What was appended for a job."""
        entry: dict[str, Any] = json.loads(self._line(job))
        return entry

    def append(self, entry: dict[str, Any]) -> None:
        """Add a line, and return when it is safe. After an :class:`OSError` the file is as it was."""
        line = json.dumps(entry).encode() + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._places[entry["job"]] = (self._end, len(line))
        self._end += len(line)

    def forget(self, job: str) -> None:
        """Take a job for not finished; its line goes when the file is next put in order."""
        self._places.pop(job, None)

    def put_in_order(self, jobs: Iterable[str]) -> None:
        """Replace the file by the lines of ``jobs`` in this order; those that have none are passed over."""
        publish_file(self.path, (self._line(job) for job in jobs if job in self._places))
        self.close()
        self._open()

    def close(self) -> None:
        os.close(self._file)

    def _line(self, job: str) -> bytes:
        start, length = self._places[job]
        return os.pread(self._file, length, start)


def _job_of(line: bytes) -> str | None:
    """The job of a line; ``None`` for what is no line of ours."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(name), str) for name in ("job", "digest", "status")):
        return None
    job: str = entry["job"]
    return job
