"""A search that Ctrl-C ends: CP-SAT runs beside the main thread, which alone hears of it and only between steps of Python."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["solved"]

LISTEN_SECONDS = 0.2
"""A wait without an end cannot be interrupted on every system, so it is one of many short ones."""
STOP_SECONDS = 0.01


def solved(solver: Any, model: Any) -> int:
    """CP-SAT's status for ``model``. In the main thread Ctrl-C stops the search and raises ``KeyboardInterrupt``.

    CP-SAT's own handler is not used: it ends the search as if the time were over, and a search cut short would be printed
    as a result. Elsewhere than in the main thread, or where SIGINT is ignored, nobody would hear it: CP-SAT then runs here.
    """
    solver.parameters.catch_sigint_signal = False
    if not _hears_interrupts():
        return int(solver.solve(model))
    search = _Search(solver, model)
    try:
        # No daemon: a process must not end under native code.
        threading.Thread(target=search.run, name="CP-SAT").start()
        while not search.ended.wait(LISTEN_SECONDS):
            pass
    except BaseException:
        search.stop()
        raise
    return search.status()


def _hears_interrupts() -> bool:
    """True if a handler of Python's would run here."""
    return threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT))


class _Search:
    """One search in a thread of its own; ``ended`` is waited for, since a ``join`` that is interrupted takes a thread that
    runs for one that is over (CPython 3.11's ``threading.py::Thread._wait_for_tstate_lock``)."""

    def __init__(self, solver: Any, model: Any) -> None:
        self._solver, self._model = solver, model
        self._lock = threading.Lock()
        self._begun, self._wanted = False, True
        self._status: int | None = None
        self._error: BaseException | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        """What the thread does."""
        with self._lock:
            self._begun = self._wanted
        try:
            if self._begun:
                self._status = int(self._solver.solve(self._model))
        except BaseException as error:  # raised where it is waited for
            self._error = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """End it, or see to it that it does not begin."""
        with self._lock:
            self._wanted = False
        while self._begun and not self.ended.wait(STOP_SECONDS):
            self._solver.stop_search()  # until it ends: one that is only about to search does not hear the first

    def status(self) -> int:
        """What the search came to, or what it raised."""
        if self._error is not None:
            raise self._error
        assert self._status is not None, "it has ended"
        return self._status
