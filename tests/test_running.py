"""Ctrl-C ends a search at once and is never taken for the end of its time."""

from __future__ import annotations

import random
import signal
import threading

import pytest
from ortools.sat.python import cp_model

from solver.running import solved
from solver.search import new_solver, run


def hard() -> cp_model.CpModel:
    """A market split: five sums over the same forty choices, each of which is to be half of its whole. Hours of search."""
    model, numbers = cp_model.CpModel(), random.Random(1)
    chosen = [model.new_bool_var(f"x{i}") for i in range(40)]
    for _ in range(5):
        shares = [numbers.randrange(100) for _ in chosen]
        model.add(cp_model.LinearExpr.weighted_sum(chosen, shares) == sum(shares) // 2)
    return model


class Waiting:
    """In the place of CP-SAT: it begins, tells so with a Ctrl-C, and goes on until it is stopped for the ``nth`` time."""

    def __init__(self, nth: int = 1) -> None:
        self.parameters = cp_model.CpSolver().parameters
        self.nth, self.stops = nth, 0
        self.stopped = threading.Event()

    def solve(self, model: object) -> int:
        signal.raise_signal(signal.SIGINT)
        assert self.stopped.wait(20), "nobody stopped it"
        return int(cp_model.FEASIBLE)

    def stop_search(self) -> None:
        self.stops += 1
        if self.stops >= self.nth:
            self.stopped.set()


@pytest.mark.parametrize("nth", [1, 3])
def test_an_interrupt_stops_the_search_until_it_ends(nth):
    solver = Waiting(nth)
    with pytest.raises(KeyboardInterrupt):
        solved(solver, None)
    assert solver.stopped.is_set() and solver.stops >= nth


def test_a_real_search_is_ended_by_an_interrupt():
    solver = new_solver(100)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(hard(), solver)
    timer.join()


def test_nothing_is_started_where_no_interrupt_would_be_heard():
    seen: list[str] = []

    class Solver(Waiting):
        def solve(self, model: object) -> int:
            seen.append(threading.current_thread().name)
            return int(cp_model.OPTIMAL)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert solved(Solver(), None) == cp_model.OPTIMAL
    finally:
        signal.signal(signal.SIGINT, before)
    aside = threading.Thread(target=solved, args=(Solver(), None), name="aside")
    aside.start()
    aside.join()
    solved(Solver(), None)
    assert seen == ["MainThread", "aside", "CP-SAT"]


def test_what_the_search_raises_is_raised_here():
    class Failing(Waiting):
        def solve(self, model: object) -> int:
            raise MemoryError("no more")

    with pytest.raises(MemoryError, match="no more"):
        solved(Failing(), None)


def test_the_same_work_is_done_in_either_place(monkeypatch):
    model = hard()
    work = []
    for heard in (True, False):
        monkeypatch.setattr("solver.running._hears_interrupts", lambda heard=heard: heard)
        solver = new_solver(100)
        solver.parameters.max_deterministic_time = 0.05
        run(model, solver)
        work.append((solver.num_conflicts, solver.num_branches, solver.deterministic_time))
    assert work[0] == work[1] and work[0][0] > 0
