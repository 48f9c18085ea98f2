"""The pool of processes: a task may take its process with it, hang or ask for all memory, and the others do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from solver.zoo.guard import Limits, WorkerLost
from solver.zoo.pool import LocalPool
from tests.zoo import workloads

LIMITS = Limits(seconds=1.5)


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with LocalPool(2, LIMITS) as pool:
        yield pool


@pytest.mark.parametrize(
    ("task", "reason", "hung"),
    [
        (workloads.dies, "its worker was killed by SIGSEGV", False),
        (workloads.hangs, "hung: stopped after 1.5 s", True),
        (workloads.stops, "hung: stopped after 1.5 s", True),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_task_that_loses_its_process_fails_alone(pool: LocalPool, task: Any, reason: str, hung: bool) -> None:
    lost = pool.submit(task)
    others = [pool.submit(workloads.square, number) for number in range(6)]
    error = lost.exception(timeout=300)
    assert isinstance(error, WorkerLost)
    assert (error.reason, error.hung) == (reason, hung)
    assert [future.result(timeout=300) for future in others] == [0, 1, 4, 9, 16, 25]


def test_a_task_that_fills_its_memory_is_told_from_one_that_hangs() -> None:
    with LocalPool(1, Limits(seconds=600, memory_gib=0.25)) as pool:
        error = pool.submit(workloads.fills_memory).exception()
        assert isinstance(error, WorkerLost)
        assert (error.reason, error.hung) == ("out of memory: a job may allocate 0.25 GiB", False)
        assert pool.submit(workloads.square, 3).result() == 9


def test_a_fresh_process_takes_the_place_of_a_lost_one(pool: LocalPool, tmp_path: Any) -> None:
    arguments = (str(tmp_path / "marker"), 7)
    error = pool.submit(workloads.dies_once, *arguments).exception(timeout=300)
    assert isinstance(error, WorkerLost) and error.reason == "its worker ended with exit code 3"
    assert pool.submit(workloads.dies_once, *arguments).result(timeout=300) == 7


def test_exceptions_come_back_as_they_are_or_as_their_words(pool: LocalPool) -> None:
    assert isinstance(pool.submit(workloads.raises).exception(timeout=300), ValueError)
    peculiar = pool.submit(workloads.raises_what_does_not_pickle).exception(timeout=300)
    assert isinstance(peculiar, RuntimeError) and str(peculiar) == "_Peculiar: 1 and 2"


def test_shut_down_at_once_it_waits_for_nothing() -> None:
    pool = LocalPool(1, Limits(seconds=600))
    running, waiting = pool.submit(workloads.hangs), pool.submit(workloads.square, 2)
    while not running.running():
        time.sleep(0.01)
    pool.shutdown(cancel_futures=True)
    error = running.exception()
    assert isinstance(error, WorkerLost) and not error.hung
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(RuntimeError):
        pool.submit(workloads.square, 3)
