"""The same pool on a Ray cluster. Tasks run where Ray puts them; their results come back here, and only here is written."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from importlib import import_module
from typing import Any, TypeVar

from constraints.errors import RequestError
from constraints.problem import Origin
from solver.zoo.guard import Limits, WorkerLost, guarded, versions

__all__ = ["RayPool", "ensure_ray"]

T = TypeVar("T")

MOST_NODES_LOST = 5
"""Nodes that a task may lose before it is given up; no node is lost by the doing of a task."""

CAPACITY_SECONDS = 5.0
"""How long the number of cores of the cluster is taken for known: nodes come and go."""

CONNECT_SECONDS = 10.0

RAY = Origin("flag", "--ray")


def ensure_ray() -> Any:
    """The ``ray`` module. Raises :class:`~constraints.errors.RequestError` if it is not installed."""
    try:
        return import_module("ray")
    except ImportError:
        raise RequestError("ray", None, RAY, "is not installed: pip install 'meshwright[ray]'") from None


class RayPool(Executor):
    """Tasks on the cluster at ``address`` (``auto``: the one that runs here, ``local``: one of its own), within ``limits``.

    Every node needs the same versions of meshwright and ortools. A task that loses its node starts again elsewhere; one whose
    process dies fails with :class:`~solver.zoo.guard.WorkerLost`, as in a local pool. Raises
    :class:`~constraints.errors.RequestError` if there is no such cluster.
    """

    def __init__(self, address: str, limits: Limits) -> None:
        self.ray, self.limits = ensure_ray(), limits
        _ensure_reachable(address)
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level="ERROR", include_dashboard=None)
        except Exception as error:
            raise _unreachable(address, " ".join(str(error).split())[:200]) from None
        self._remote = self.ray.remote(num_cpus=1, max_retries=0)(_task)
        self._known = (0.0, 0)
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """How many tasks are worth having outstanding: one at work and one waiting for each core of the cluster."""
        with self._lock:
            at, cores = self._known
            if time.monotonic() - at > CAPACITY_SECONDS or not cores:
                cores = max(1, int(self.ray.cluster_resources().get("CPU", 1)))
                self._known = (time.monotonic(), cores)
        return 2 * cores

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn(*args, **kwargs)`` on the cluster; all of it must be picklable."""
        future: Future[T] = Future()
        self._start(future, (fn, args, kwargs), lost=0)
        return future

    def _start(self, future: Future[Any], work: tuple[Any, Any, Any], lost: int) -> None:
        started = time.monotonic()
        reference = self._remote.remote(versions(), self.limits, *work)

        def take(answer: Future[Any]) -> None:
            error = answer.exception()
            if error is None:
                future.set_result(answer.result())
            elif self._is_loss_of_a_node(error) and lost < MOST_NODES_LOST:
                self._start(future, work, lost + 1)
            else:
                future.set_exception(self._told(error, time.monotonic() - started))

        reference.future().add_done_callback(take)

    def _is_loss_of_a_node(self, error: BaseException) -> bool:
        known = self.ray.exceptions
        return isinstance(error, known.NodeDiedError | known.ObjectLostError | known.OwnerDiedError)

    def _told(self, error: BaseException, seconds: float) -> BaseException:
        """Ray's error as any pool would tell it."""
        known = self.ray.exceptions
        if isinstance(error, known.RayTaskError):
            cause = error.cause
            if isinstance(cause, MemoryError):
                return WorkerLost(f"out of memory: a job may allocate {self.limits.memory_gib:g} GiB")
            return cause if isinstance(cause, Exception) else RuntimeError(str(error).splitlines()[-1])
        if isinstance(error, known.OutOfMemoryError):
            return WorkerLost("out of memory: Ray stopped it, for its node had none left")
        if isinstance(error, known.WorkerCrashedError):
            hung = seconds >= self.limits.seconds
            return WorkerLost(
                f"hung: stopped after {self.limits.seconds:g} s" if hung else "its worker died", hung=hung
            )
        if isinstance(error, known.RayError):
            return WorkerLost(" ".join(str(error).split())[:200])
        return error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; what still runs for this driver is stopped by Ray."""
        self.ray.shutdown()


def _ensure_reachable(address: str) -> None:
    """Find out quickly that nobody listens: Ray itself would go on trying for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RequestError("ray", address, RAY, "must be auto, local or HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _unreachable(address, str(getattr(error, "strerror", None) or error)) from None


def _unreachable(address: str, reason: str) -> RequestError:
    return RequestError("ray", address, RAY, f"cannot be reached: {reason}")


def _task(wanted: str, limits: Limits, fn: Callable[..., T], args: Any, kwargs: Any) -> T:
    if versions() != wanted:
        raise WorkerLost(f"its node has {versions()}, and not {wanted}")
    with guarded(limits):
        return fn(*args, **kwargs)
