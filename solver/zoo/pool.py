"""A pool of processes on this machine whose tasks may take their process with them: the others do not notice.

:class:`concurrent.futures.ProcessPoolExecutor` is broken by the first worker that dies. Here each worker is looked after by a
thread of its own, which puts a fresh process in the place of a lost one and fails only the task that it had.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from solver.zoo.guard import Limits, WorkerLost, guarded, resident_bytes

__all__ = ["LocalPool"]

T = TypeVar("T")

OUT_OF_MEMORY = 77
"""Exit code of a worker whose task could not have more memory."""

LARGEST_RESIDENT_SHARE = 0.5
"""A worker that holds more than this share of a task's memory when a task is done makes way for a fresh one."""

GRACE_SECONDS = 5.0
"""A process that has not ended itself so long after its time (it may be stopped) is killed."""

SPAWN = multiprocessing.get_context("spawn")
_STARTING = threading.Lock()


class LocalPool(Executor):
    """``workers`` processes, started afresh (never forked), each running one task at a time within ``limits``.

    A task whose process dies fails with :class:`~solver.zoo.guard.WorkerLost`. As with any spawned process, a script that
    makes a pool does so below ``if __name__ == "__main__"``.
    """

    def __init__(self, workers: int, limits: Limits) -> None:
        self.workers, self.limits = workers, limits
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._lives = [_Life(self._tasks, limits) for _ in range(workers)]
        self._closed = False

    @property
    def capacity(self) -> int:
        """How many tasks are worth having outstanding: one at work and one waiting for each process."""
        return 2 * self.workers

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` in one of the processes; all of it must be picklable."""
        if self._closed:
            raise RuntimeError("the pool is shut down")
        future: Future[T] = Future()
        self._tasks.put((future, pickle.dumps((fn, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let go of the processes: when their tasks are done, or (``cancel_futures``) at once, whatever they do."""
        self._closed = True
        if cancel_futures:
            _drain(self._tasks)
            for life in self._lives:
                life.kill()
        for _ in self._lives:
            self._tasks.put(None)
        if wait:
            for life in self._lives:
                life.thread.join()


def _drain(tasks: queue.SimpleQueue[Any]) -> None:
    while True:
        try:
            task = tasks.get_nowait()
        except queue.Empty:
            return
        if task is not None:
            task[0].cancel()


class _Life:
    """One place in the pool: a thread, and the process that it speaks with at the moment."""

    def __init__(self, tasks: queue.SimpleQueue[Any], limits: Limits) -> None:
        self.tasks, self.limits = tasks, limits
        self.process: Any = None
        self.pipe: Connection | None = None
        self.killed = False
        self.thread = threading.Thread(target=self._live, name="zoo worker", daemon=True)
        self.thread.start()

    def _live(self) -> None:
        while (task := self.tasks.get()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                succeeded, value, last = self._exchange(work)
            except Exception as error:
                future.set_exception(error)
                continue
            if succeeded:
                future.set_result(value)
            else:
                future.set_exception(value)
            if last:
                self._end()
        self._end()

    def _exchange(self, work: bytes) -> tuple[bool, Any, bool]:
        """Give the process a task and wait for what it says. Raises :class:`WorkerLost`."""
        started = time.monotonic()
        try:
            if not self.killed and (self.pipe is None or not self.process.is_alive()):
                self._end()
                self._start()
            if self.killed:
                raise WorkerLost("the pool was shut down")
            assert self.pipe is not None
            started = time.monotonic()
            self.pipe.send_bytes(work)
            if not self.pipe.poll(self.limits.seconds + GRACE_SECONDS):
                self.process.kill()
            answer: tuple[bool, Any, bool] = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            raise self._lost(time.monotonic() - started) from None
        return answer

    def _start(self) -> None:
        with _STARTING:  # multiprocessing keeps its list of children without a lock
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=_serve, args=(theirs, self.limits), name="zoo worker", daemon=True)
            process.start()
            theirs.close()
        self.process, self.pipe = process, ours
        ours.recv_bytes()  # it is ready: how long that took is not the first task's time

    def _lost(self, seconds: float) -> WorkerLost:
        """What became of the process, which a task has kept for ``seconds``."""
        if self.process is None:
            return WorkerLost("no worker could be started")
        self.process.join()
        code, limits = self.process.exitcode, self.limits
        self._end()
        if code == -signal.SIGALRM or seconds > limits.seconds + GRACE_SECONDS:
            return WorkerLost(f"hung: stopped after {limits.seconds:g} s", hung=True)
        if code == OUT_OF_MEMORY:
            return WorkerLost(f"out of memory: a job may allocate {limits.memory_gib:g} GiB")
        if code is not None and code < 0:
            return WorkerLost(f"its worker was killed by {signal.Signals(-code).name}")
        return WorkerLost(f"its worker ended with exit code {code}")

    def _end(self) -> None:
        """Close the pipe, by which the process knows that it is done, and wait for it."""
        if self.pipe is not None:
            self.pipe.close()
            self.process.join()
            self.process.close()
        self.process = self.pipe = None

    def kill(self) -> None:
        self.killed = True
        process = self.process
        if process is not None:
            with contextlib.suppress(ValueError):  # closed by its own thread meanwhile
                process.kill()


# -- in the process


def _serve(pipe: Connection, limits: Limits) -> None:
    """Run tasks until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then closes the pipe
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    most = limits.memory_gib * (1 << 30) * LARGEST_RESIDENT_SHARE
    pipe.send_bytes(b"ready")
    last = False
    while not last:
        try:
            work = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        succeeded, value = _done(work, limits)
        last = resident_bytes() > most
        try:
            pipe.send_bytes(_packed(succeeded, value, last))
        except OSError:
            return


def _done(work: bytes, limits: Limits) -> tuple[bool, Any]:
    try:
        fn, args, kwargs = pickle.loads(work)
        with guarded(limits):
            return True, fn(*args, **kwargs)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception as error:
        return False, error


def _packed(succeeded: bool, value: Any, last: bool) -> bytes:
    try:
        packed = pickle.dumps((succeeded, value, last))
        if not succeeded:
            pickle.loads(packed)  # an exception may pickle and not come back
    except Exception:
        packed = pickle.dumps((False, RuntimeError(f"{type(value).__name__}: {value}"), last))
    return packed


def _leave_with_parent() -> None:
    """End this process when the driver is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
