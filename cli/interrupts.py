"""Ctrl-C, heard once: it ends what runs, whatever the code that it meets makes of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import TracebackType

__all__ = ["Interrupts"]

PATIENCE_SECONDS = 1.0
"""From so long after the first on, another means "at once"; before, it is the same one, sent to a process and its group."""
INTERRUPTED = 130


class Interrupts:
    """Inside the block Ctrl-C raises ``KeyboardInterrupt``, once; ``came`` remembers it.

    A module that is being imported at that moment may raise something else instead, ``ImportError`` for one.
    """

    def __init__(self) -> None:
        self._first: float | None = None
        self._set = False

    @property
    def came(self) -> bool:
        return self._first is not None

    def __enter__(self) -> Interrupts:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._hear)
            self._set = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._set and not self.came:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _hear(self, number: int, frame: object) -> None:
        if self._first is None:
            self._first = time.monotonic()
            raise KeyboardInterrupt
        if time.monotonic() - self._first > PATIENCE_SECONDS:
            os._exit(INTERRUPTED)
