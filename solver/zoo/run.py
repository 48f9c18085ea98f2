"""Running the jobs of a zoo: each problem once, no more of them on their way than are worth it, every result kept at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from constraints.problem import Problem
from solver.zoo.guard import Limits, WorkerLost
from solver.zoo.jobs import Job
from solver.zoo.outcome import DISAGREEMENT, FACTS, FAILED, Failure, Outcome, Totals
from solver.zoo.store import Store
from solver.zoo.summary import rows_of, summary_lines

__all__ = ["Pool", "Watcher", "Work", "run_jobs"]

Work = Callable[[Problem, Limits], Outcome]

TRIES = 2
"""How often a job may lose its worker before it is reported: a worker may die of what is none of the job's doing."""

MOST_UNWRITTEN = 10
"""Results in a row that could not be written, after which no more are computed."""


class Pool(Protocol):
    """Where jobs run: an :class:`concurrent.futures.Executor` that knows how many tasks are worth having outstanding."""

    @property
    def capacity(self) -> int: ...

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...


class Watcher(Protocol):
    """Who is told how far a run is."""

    def began(self, totals: Totals) -> None: ...

    def advanced(self, totals: Totals) -> None: ...

    def failed(self, failure: Failure) -> None: ...


@dataclass
class _Task:
    job: Job
    tries: int = 1


def run_jobs(jobs: Iterable[Job], store: Store, pool: Pool, work: Work, limits: Limits, watcher: Watcher) -> Totals:
    """Finish every job that ``store`` does not hold yet, in ``pool``, and put the folder in order.

    ``work`` (a function that can be pickled) turns a problem into what its folder is to hold; jobs of one digest are worked
    on once. A job whose worker dies is tried again once; one that hangs, or fails otherwise, is reported, and left for the
    next run. Raises :class:`~constraints.errors.RequestError` if the store holds results of another zoo.
    """
    return _Run(jobs, store, pool, work, limits, watcher).all()


class _Run:
    def __init__(
        self, jobs: Iterable[Job], store: Store, pool: Pool, work: Work, limits: Limits, watcher: Watcher
    ) -> None:
        self.jobs = {job.name: job for job in jobs}
        self.digests = {name: job.digest() for name, job in self.jobs.items()}
        self.firsts = {digest: name for name, digest in reversed(self.digests.items())}
        """Digest to the first job with it, of which later ones are told to be the same."""
        self.store, self.pool, self.work, self.limits, self.watcher = store, pool, work, limits, watcher
        self.totals = Totals(len(self.jobs))
        self.outstanding: dict[Future[Outcome], _Task] = {}
        self.solved: dict[str, str] = {}
        """Digest to the name of a finished job."""
        self.followers: dict[str, list[Job]] = {}
        """Jobs that wait for the answer of an identical one, by digest."""
        self.unwritten = 0

    def all(self) -> Totals:
        started = time.monotonic()
        self.store.check(self.digests.get)
        self._take_over()
        self.store.log(f"began: {self.totals.jobs} jobs, {self.totals.kept} of them finished before")
        self.watcher.began(self.totals)
        for job in self.jobs.values():
            if job.name in self.store.manifest:
                continue
            if self.unwritten >= MOST_UNWRITTEN:
                break
            while len(self.outstanding) >= self.pool.capacity:
                self._wait()
            self._start(job)
        while self.outstanding:
            self._wait()
        self.totals.seconds = time.monotonic() - started
        self._finish()
        return self.totals

    def _take_over(self) -> None:
        """Count what is finished already."""
        for name in self.store.manifest:
            entry = self.store.manifest.entry(name)
            self.solved.setdefault(entry["digest"], name)
            self.totals.add(entry["status"])
            self.totals.kept += 1

    def _start(self, job: Job) -> None:
        digest = self.digests[job.name]
        if digest in self.solved:
            self._copy(job)
        elif digest in self.followers:
            self.followers[digest].append(job)
        else:
            self.followers[digest] = []
            self._submit(_Task(job))

    def _submit(self, task: _Task) -> None:
        self.outstanding[self.pool.submit(self.work, task.job.problem(), self.limits)] = task

    def _wait(self) -> None:
        done, _ = wait(self.outstanding, return_when=FIRST_COMPLETED)
        for future in done:
            self._take(future, self.outstanding.pop(future))

    def _take(self, future: Future[Outcome], task: _Task) -> None:
        try:
            outcome = future.result()
        except WorkerLost as lost:
            if not lost.hung and task.tries < TRIES:
                self.store.log(f"again: {task.job.name}: {lost.reason}")
                task.tries += 1
                self._submit(task)
            else:
                self._fail(task, FAILED, lost.reason if lost.hung else f"{lost.reason}, {TRIES} times")
        except Exception as error:
            self._fail(task, FAILED, f"internal error: {type(error).__name__}: {error}", internal=True)
        else:
            if outcome.status == DISAGREEMENT:
                self._fail(task, DISAGREEMENT, str(outcome.facts.get("reason")), internal=True)
            else:
                self._keep(task, outcome)

    def _keep(self, task: _Task, outcome: Outcome) -> None:
        own = {"status": outcome.status, **outcome.facts}
        followers = self.followers.pop(self.digests[task.job.name])
        if not self._write(task.job, outcome.files, own, outcome.seconds):
            for follower in followers:
                self._report(Failure(follower.name, FAILED, f"{task.job.name} is the same, and was not written"))
            return
        self.solved[self.digests[task.job.name]] = task.job.name
        for follower in followers:
            self._copy(follower)

    def _copy(self, job: Job) -> None:
        """Give ``job`` the results of a finished job with the same problem."""
        finished = self.solved[self.digests[job.name]]
        entry = self.store.manifest.entry(finished)
        try:
            files = self.store.files(finished)
        except OSError as error:
            self._report(Failure(job.name, FAILED, f"{finished} cannot be read: {error.strerror or error}"))
            return
        own = {name: value for name, value in entry.items() if name == "status" or name in FACTS}
        if self._write(job, files, own, 0.0):
            self.totals.reused += 1

    def _write(self, job: Job, files: Mapping[str, bytes], own: Mapping[str, Any], seconds: float) -> bool:
        digest = self.digests[job.name]
        first = self.firsts[digest]
        same_as = first if first != job.name else None
        entry = {**job.facts(), **own, "digest": digest, "same_as": same_as, "seconds": round(seconds, 3)}
        try:
            self.store.keep(files, entry)
        except OSError as error:
            self.unwritten += 1
            self._report(Failure(job.name, FAILED, f"not written: {error.strerror or error}"))
            return False
        self.unwritten = 0
        self.totals.add(entry["status"])
        self.store.log(f"{entry['status']}: {job.name}")
        self.watcher.advanced(self.totals)
        return True

    def _fail(self, task: _Task, status: str, reason: str, *, internal: bool = False) -> None:
        for job in (task.job, *self.followers.pop(self.digests[task.job.name])):
            self._report(Failure(job.name, status, reason, internal))

    def _report(self, failure: Failure) -> None:
        self.totals.add(failure.status)
        self.totals.failures.append(failure)
        self.store.log(f"{failure.status}: {failure.job}: {failure.reason}")
        self.watcher.failed(failure)
        self.watcher.advanced(self.totals)

    def _finish(self) -> None:
        """Put the folder in order; where that cannot be written either, say so like any other failure."""
        try:
            self.store.finish(self.jobs, summary_lines(self._rows()))
        except OSError as error:
            failure = Failure("manifest and summary", FAILED, f"not written: {error.strerror or error}")
            self.totals.failures.append(failure)
            self.watcher.failed(failure)
        self.totals.sort(self._rows())
        self.store.log(f"ended: {self.totals.by_status}")

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        return rows_of(self.jobs.values(), self.store.manifest, self.totals.failures)
