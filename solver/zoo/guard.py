"""What one job may use: search work, seconds and memory. The last two are the kernel's to enforce, for a job that is stuck
in native code listens to nobody else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from constraints.problem import GIB

__all__ = ["Limits", "WorkerLost", "guarded", "resident_bytes", "versions"]


@dataclass(frozen=True)
class Limits:
    """``work`` in CP-SAT's deterministic time decides what a job comes to; the others only stop one that went wrong.

    ``work`` is about seconds; after ``seconds`` by the clock a job is taken for hung; ``memory_gib`` is what it may
    allocate on top of what its process holds.
    """

    work: float = 60.0
    seconds: float = 900.0
    memory_gib: float = 4.0


class WorkerLost(Exception):
    """The process that had a job is gone. ``hung`` if it was stopped because the job took too long."""

    def __init__(self, reason: str, hung: bool = False) -> None:
        super().__init__(reason, hung)
        self.reason, self.hung = reason, hung


@contextmanager
def guarded(limits: Limits) -> Iterator[None]:
    """Inside the block this process dies (SIGALRM) after ``limits.seconds``, and cannot grow beyond ``limits.memory_gib``.

    The bound is on private data (RLIMIT_DATA): the address space of ortools and its libraries is large, and mostly never
    touched. Where the system has no such limits, there are none.
    """
    with _bounded_data(int(limits.memory_gib * GIB)):
        timed = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if timed:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, limits.seconds)
        try:
            yield
        finally:
            if timed:
                signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def _bounded_data(most: int) -> Iterator[None]:
    held = _status("VmData")
    if held is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + most if hard == resource.RLIM_INFINITY else min(held + most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def resident_bytes() -> int:
    """Memory that this process holds now; 0 where that cannot be known."""
    return _status("VmRSS") or 0


def _status(name: str) -> int | None:
    """A size of ``/proc/self/status`` in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def versions() -> str:
    """What answers depend on beside the request: whose they are."""
    return ", ".join(f"{name} {_version(name)}" for name in ("meshwright", "ortools"))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of a checkout"
