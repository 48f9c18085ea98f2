"""The folder that keeps the results of a zoo: a folder for each job, the manifest, the summary, a log.

Everything appears whole or not at all, and a job counts as finished by its line in the manifest, which comes last: a run can
be killed at any moment. Only one process writes, the driver, and it holds a lock on the folder.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from constraints.errors import RequestError
from constraints.problem import Origin
from solver.zoo.durable import PARTIAL, discard, publish_file, publish_folder
from solver.zoo.guard import Limits, versions
from solver.zoo.manifest import Manifest

__all__ = ["LOG", "MANIFEST", "SUMMARY", "Store", "maker"]

MANIFEST, SUMMARY, LOG = "manifest.jsonl", "summary.csv", "run.log"
OUT = Origin("flag", "--out")


class Store:
    """``root`` opened for one run; close it when done.

    ``maker`` is what the results depend on beside the zoo file. Raises :class:`~constraints.errors.RequestError` if the
    folder cannot be used: not to be written, not empty (without ``resume``), somebody else's, or at work for another run.
    """

    def __init__(self, path: str, *, resume: bool, maker: str) -> None:
        self.path, self.root, self.maker = path, Path(path), maker
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        except (OSError, ValueError) as error:
            raise self._unusable(f"cannot be used: {getattr(error, 'strerror', None) or error}") from None
        try:
            self._clean(resume)
            self.manifest = Manifest(self.root / MANIFEST)
            self._log = (self.root / LOG).open("a", encoding="utf-8")
        except OSError as error:
            os.close(self._lock)
            raise self._unusable(f"cannot be written: {error.strerror or error}") from None
        except BaseException:
            os.close(self._lock)
            raise

    def _clean(self, resume: bool) -> None:
        """Remove what a run that was killed left half done."""
        found = {entry.name for entry in os.scandir(self.root)}
        if found and not resume:
            raise self._unusable("is not empty: --resume goes on with what is there")
        if MANIFEST not in found and (strange := sorted(found - {LOG})):
            raise self._unusable(f"holds {strange[0]!r} and no {MANIFEST}: it is not the folder of a zoo")
        for name in found:
            if name.startswith(PARTIAL):
                discard(self.root / name)

    def _locked(self) -> int:
        handle = os.open(self.root, os.O_RDONLY)
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except BlockingIOError:
            os.close(handle)
            raise self._unusable("is at work for another run") from None
        except OSError:  # a file system without locks
            pass
        return handle

    def check(self, wanted: Callable[[str], str | None]) -> None:
        """Make sure that every finished job is one of this zoo: ``wanted`` says a job's digest, ``None`` if there is none.

        A finished job whose folder is gone is taken for not finished; a folder without a line in the manifest was cut off
        between the two, and goes. Raises :class:`~constraints.errors.RequestError` where a result is of another zoo.
        """
        folders = {entry.name for entry in os.scandir(self.root) if entry.is_dir(follow_symlinks=False)}
        for job in list(self.manifest):
            entry = self.manifest.entry(job)
            digest = wanted(job)
            if digest is None or digest != entry.get("digest"):
                what = "is of another zoo file" if digest is None else "was asked differently then"
                raise self._unusable(f"holds {job!r}, which {what}: give another folder")
            if entry.get("by") != self.maker:
                raise self._unusable(f"was made by {entry.get('by')}; this is {self.maker}: give another folder")
            if job not in folders:
                self.manifest.forget(job)
        for name in folders:
            if name not in self.manifest and wanted(name) is not None:
                discard(self.root / name)

    def keep(self, files: Mapping[str, bytes], entry: Mapping[str, Any]) -> None:
        """Make the folder of a job, then its line in the manifest. Raises :class:`OSError`; the job is then not finished."""
        name = entry["job"]
        publish_folder(self.root, name, files)
        try:
            self.manifest.append({**entry, "by": self.maker, "finished": _now()})
        except OSError:
            with suppress(OSError):
                discard(self.root / name)
            raise

    def files(self, job: str) -> dict[str, bytes]:
        """What the folder of a finished job holds."""
        return {path.name: path.read_bytes() for path in sorted((self.root / job).iterdir())}

    def finish(self, jobs: Iterable[str], summary: Iterable[str]) -> None:
        """Put the manifest in the order of ``jobs`` and write the summary. Raises :class:`OSError`."""
        self.manifest.put_in_order(jobs)
        publish_file(self.root / SUMMARY, (line.encode() for line in summary))

    def log(self, text: str) -> None:
        """A line in the log with the time; that it cannot be written is no reason to stop."""
        with suppress(OSError):
            self._log.write(f"{_now()} {text}\n")
            self._log.flush()

    def close(self) -> None:
        """Let go of the folder."""
        with suppress(OSError):
            self._log.close()
        self.manifest.close()
        os.close(self._lock)

    def _unusable(self, message: str) -> RequestError:
        return RequestError("out", self.path, OUT, message)


def maker(limits: Limits) -> str:
    """What results depend on beside the zoo file: versions, and the work that a search may do."""
    return f"{versions()}, time limit {limits.work:g}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
