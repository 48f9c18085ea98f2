"""A run: every job once, never more on their way than are worth it, and what fails reported while the rest completes."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from solver.zoo.file import read_zoo
from solver.zoo.guard import Limits, WorkerLost
from solver.zoo.jobs import Jobs
from solver.zoo.outcome import Outcome, Totals
from solver.zoo.run import run_jobs
from solver.zoo.store import Store
from tests.zoo.driver import Silent
from tests.zoo.workloads import ZOO, quick

LIMITS = Limits()
ASKED, DISTINCT = 36, 24
"""Jobs of the zoo, and those that are different problems: the cluster called lab is like the other one."""

Answer = Callable[[Any, Limits], Outcome]


class Here(Executor):
    """Runs a task in this process when somebody waits for one; the oldest first, or the newest."""

    def __init__(self, *, newest_first: bool = False) -> None:
        self.newest_first = newest_first
        self.calls = 0
        self.waiting: list[tuple[Future[Any], Any]] = []
        self.most_waiting = 0
        self.capacity = 3

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: fn(*args, **kwargs)))
        self.most_waiting = max(self.most_waiting, len(self.waiting))
        if len(self.waiting) >= self.capacity:
            self.work()
        return future

    def work(self) -> None:
        future, task = self.waiting.pop(-1 if self.newest_first else 0)
        self.calls += 1
        try:
            future.set_result(task())
        except Exception as error:
            future.set_exception(error)


@pytest.fixture(autouse=True)
def waiting_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a task of :class:`Here` runs one."""
    import solver.zoo.run as module

    wait = module.wait

    def work_then_wait(futures: Any, **how: Any) -> Any:
        pool = POOLS[-1]
        if pool.waiting and not any(future.done() for future in futures):
            pool.work()
        return wait(futures, **how)

    monkeypatch.setattr(module, "wait", work_then_wait)


POOLS: list[Here] = []


def run(out: Path, work: Answer = quick, *, pool: Here | None = None, zoo: str = ZOO) -> tuple[Totals, Silent, Here]:
    path = out.with_suffix(".yaml")
    path.write_text(zoo)
    pool = pool or Here()
    POOLS[:] = [pool]
    watcher = Silent()
    store = Store(str(out), resume=True, maker="me")
    try:
        return run_jobs(Jobs(read_zoo(str(path))), store, pool, work, LIMITS, watcher), watcher, pool
    finally:
        store.close()


def contents(root: Path) -> dict[str, bytes | list[Any]]:
    """Everything of the folder but times."""
    found: dict[str, bytes | list[Any]] = {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }
    del found["run.log"]
    lines = [json.loads(line) for line in (root / "manifest.jsonl").read_bytes().splitlines()]
    found["manifest.jsonl"] = [{**line, "seconds": 0, "finished": ""} for line in lines]
    return found


def test_every_job_has_its_folder_its_line_and_its_row(tmp_path: Path) -> None:
    totals, watcher, pool = run(tmp_path / "zoo")
    assert (totals.done, totals.exit_code, totals.reused, pool.calls) == (ASKED, 0, ASKED - DISTINCT, DISTINCT)
    assert totals.by_status == {"optimal": ASKED - 6, "infeasible": 6}
    found = contents(tmp_path / "zoo")
    lines = found["manifest.jsonl"]
    assert isinstance(lines, list)
    names = [job.name for job in Jobs(read_zoo(str(tmp_path / "zoo.yaml")))]
    assert [line["job"] for line in lines] == names
    assert {name.split("/")[0] for name in found if "/" in name} == set(names)
    rows = (tmp_path / "zoo" / "summary.csv").read_text().splitlines()
    assert len(rows) == ASKED + 1 and [row.split(",")[0] for row in rows[1:]] == names
    assert '"24, with a comma"' in rows[5]
    assert watcher.seen == [0, *range(1, ASKED + 1)]


def test_no_more_are_on_their_way_than_the_pool_wants(tmp_path: Path) -> None:
    _, _, pool = run(tmp_path / "zoo")
    assert pool.most_waiting == pool.capacity


def test_the_order_in_which_they_finish_does_not_show(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", pool=Here(newest_first=True))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_second_run_does_nothing_again(tmp_path: Path) -> None:
    run(tmp_path / "zoo")
    before = contents(tmp_path / "zoo")
    totals, _, pool = run(tmp_path / "zoo")
    assert (pool.calls, totals.kept, totals.done, totals.exit_code) == (0, ASKED, ASKED, 0)
    assert contents(tmp_path / "zoo") == before


def test_jobs_may_be_added_and_not_taken_away(tmp_path: Path) -> None:
    from constraints.errors import RequestError

    fewer = ZOO.replace(", qwen3-8b]", "]")
    run(tmp_path / "zoo", zoo=fewer)
    totals, _, _ = run(tmp_path / "zoo")
    assert (totals.kept, totals.done) == (ASKED * 2 // 3, ASKED)
    run(tmp_path / "afresh")
    assert contents(tmp_path / "zoo") == contents(tmp_path / "afresh")
    with pytest.raises(RequestError, match="is of another zoo file"):
        run(tmp_path / "zoo", zoo=fewer)


def failing(at: int, error: Exception, times: int = 1 << 30) -> Answer:
    """Work that raises ``error`` at one GPU count, at most so often."""
    left = [times]

    def work(problem: Any, limits: Limits) -> Outcome:
        if problem.gpus == at and left[0] > 0:
            left[0] -= 1
            raise error
        return quick(problem, limits)

    return work


def test_a_worker_that_is_lost_once_is_replaced(tmp_path: Path) -> None:
    totals, _, pool = run(tmp_path / "zoo", failing(8, WorkerLost("gone"), times=1))
    assert (totals.exit_code, pool.calls) == (0, DISTINCT + 1)
    run(tmp_path / "undisturbed")
    assert contents(tmp_path / "zoo") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("error", "tries", "reason", "code"),
    [
        (WorkerLost("killed by SIGSEGV"), 2, "killed by SIGSEGV, 2 times", 3),
        (WorkerLost("hung: stopped after 9 s", hung=True), 1, "hung: stopped after 9 s", 3),
        (KeyError("x"), 1, "internal error: KeyError: 'x'", 70),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_job_that_fails_is_reported_and_the_rest_completes(
    tmp_path: Path, error: Exception, tries: int, reason: str, code: int
) -> None:
    totals, watcher, pool = run(tmp_path / "zoo", failing(32, error))
    assert (totals.exit_code, pool.calls) == (code, DISTINCT + 6 * (tries - 1))
    assert {failure.reason for failure in watcher.failures} == {reason} and len(watcher.failures) == 6
    assert len(list((tmp_path / "zoo").iterdir())) == ASKED - 6 + 3
    rows = (tmp_path / "zoo" / "summary.csv").read_text()
    assert rows.count(",failed,") == 6 and reason.split(",")[0] in rows
    again, _, pool = run(tmp_path / "zoo")
    assert (again.exit_code, pool.calls) == (0, 6)
    run(tmp_path / "undisturbed")
    assert contents(tmp_path / "zoo") == contents(tmp_path / "undisturbed")


def test_those_that_wait_for_one_that_fails_fail_with_it(tmp_path: Path) -> None:
    totals, _, _ = run(tmp_path / "zoo", failing(8, WorkerLost("gone")))
    assert len(totals.failures) == 6 * 2


def test_a_disagreement_is_an_internal_failure(tmp_path: Path) -> None:
    def disagrees(problem: Any, limits: Limits) -> Outcome:
        return Outcome("disagreement", {}, {"reason": "breaks mesh.world-dense"}, 0.0)

    totals, watcher, _ = run(tmp_path / "zoo", disagrees)
    assert totals.exit_code == 70
    assert {(f.status, f.reason) for f in watcher.failures} == {("disagreement", "breaks mesh.world-dense")}


def test_undecided_jobs_are_finished_and_say_so(tmp_path: Path) -> None:
    def undecided(problem: Any, limits: Limits) -> Outcome:
        return Outcome("unknown", {"report.txt": b""}, {}, 0.0)

    totals, _, _ = run(tmp_path / "zoo", undecided)
    assert (totals.exit_code, totals.count("undecided"), len(totals.undecided)) == (3, ASKED, ASKED)
    _, _, pool = run(tmp_path / "zoo", undecided)
    assert pool.calls == 0


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, calls = os.fsync, [0]

    def sometimes(handle: int) -> None:
        calls[0] += 1
        if 20 < calls[0] < 24:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", sometimes)
        totals, watcher, _ = run(tmp_path / "zoo")
    assert totals.exit_code == 3 and watcher.failures
    assert {f.reason for f in watcher.failures if "is the same" not in f.reason} == {
        "not written: No space left on device"
    }
    assert run(tmp_path / "zoo")[0].exit_code == 0
    run(tmp_path / "undisturbed")
    assert contents(tmp_path / "zoo") == contents(tmp_path / "undisturbed")


def test_a_disk_that_stays_full_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "zoo", zoo="models: llama-3.1-8b\nclusters: {gpu: h100, gpus: 8}\nobjectives: [step-time, memory]\n")

    def refuse(*_: Any) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patched:
        patched.setattr("solver.zoo.store.publish_folder", refuse)
        totals, _, pool = run(tmp_path / "zoo")
    assert totals.exit_code == 3
    assert 10 <= pool.calls < 15
    assert totals.count("undecided") == len(totals.undecided) == ASKED - totals.done > 0
    assert run(tmp_path / "zoo")[0].exit_code == 0
