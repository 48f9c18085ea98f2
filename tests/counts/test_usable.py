"""The GPU count as a decision finds the counts that have a layout when each is asked about alone."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.problem import Problem
from solver.request import Request
from solver.resolution import resolve
from solver.search import best_layouts
from solver.synthesis import solve_problem
from solver.usable import Undecided, largest_usable, smallest_usable


def problem_of(model: str, **asked: object) -> Problem:
    return resolve(Request(**{"model": model, "gpu": "h100", "gpus": 1, **asked}))


def alone(problem: Problem, counts: range) -> set[int]:
    """Counts on which the search finds a layout, one by one."""
    return {gpus for gpus in counts if best_layouts(replace(problem, gpus=gpus, objective="data-parallel")).layouts}


def together(problem: Problem, counts: range) -> set[int]:
    """The same with the count as a decision: the smallest usable one, then the next."""
    found: set[int] = set()
    first = counts[0]
    while (count := smallest_usable(problem, first, counts[-1])) is not None:
        found.add(count)
        first = count + 1
    return found


CASES = [
    ("llama-3.1-8b", {}, range(1, 9)),
    ("llama-3.1-8b", {"global_batch_size": 24, "pin": ("cp=1",)}, range(1, 12)),
    ("llama-3.1-8b", {"pin": ("tp=2", "pp=3")}, range(1, 14)),
    ("llama-3.1-8b", {"limit": ("dp<=4",), "pin": ("cp=1",)}, range(23, 31)),
    ("llama-3.1-8b", {"gpus_per_node": 6, "pin": ("tp=4",)}, range(1, 14)),
    ("llama-3.1-8b", {"relax": ("topology.tp-in-domain",), "pin": ("tp=16",)}, range(15, 34)),
    ("llama-3.1-70b", {}, range(82, 84)),
    ("qwen3-32b", {}, range(6, 12)),
    ("qwen3-30b-a3b", {"pin": ("ep=8",)}, range(6, 18)),
    ("deepseek-v2-lite", {"global_batch_size": 30}, range(1, 8)),
    ("nemotron-nano-9b-v2", {}, range(1, 6)),
]


@pytest.mark.parametrize(("model", "asked", "counts"), CASES)
def test_usable_counts_are_those_with_a_layout(model: str, asked: dict[str, object], counts: range) -> None:
    problem = problem_of(model, **asked)
    expected = alone(problem, counts)
    assert together(problem, counts) == expected
    if expected:
        assert largest_usable(problem, counts[-1]) == max(expected)


@pytest.mark.heavy
@given(
    st.sampled_from(["llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "qwen3-235b-a22b", "deepseek-v3"]),
    st.integers(1, 600),
    st.sampled_from([None, 96, 512, 1000, 1024]),
    st.sampled_from([(), ("tp=8",), ("pp=4",), ("cp=2", "dp=3")]),
    st.sampled_from([4096, 32768]),
)
@settings(derandomize=True, max_examples=40, deadline=None)
def test_any_range_of_any_request(
    model: str, first: int, batch: int | None, pins: tuple[str, ...], length: int
) -> None:
    problem = problem_of(model, global_batch_size=batch, pin=pins, seq_length=length)
    counts = range(first, first + 12)
    assert together(problem, counts) == alone(problem, counts)


def test_steps_are_kept_to() -> None:
    problem = problem_of("llama-3.1-70b")
    assert largest_usable(problem, 104, step=8) == 104
    assert smallest_usable(problem, 97, 200) == 98 and smallest_usable(problem, 97, 200, step=2) == 99


def test_windows_reach_far() -> None:
    problem = problem_of("llama-3.1-8b", pin=("dp=7", "tp=1", "cp=1"), limit=("pp<=1",))
    assert largest_usable(problem, 700) == 7
    assert smallest_usable(problem, 8, 700) is None


def test_no_time_is_no_answer() -> None:
    problem = problem_of("llama-3.1-8b")
    with pytest.raises(Undecided):
        smallest_usable(problem, 1, 8, deadline=time.monotonic() - 1)
    with pytest.raises(Undecided):
        largest_usable(problem, 8, deadline=time.monotonic() - 1)


@pytest.mark.parametrize(
    ("asked", "used"),
    [({"gpus": 97}, 96), ({"gpus": 13, "pin": ("tp=8",)}, None), ({"gpus": 30, "pin": ("dp=4", "tp=8")}, None)],
)
def test_idle_gpus_are_the_same_question(asked: dict[str, object], used: int | None) -> None:
    problem = problem_of("llama-3.1-70b", allow_idle=True, **asked)
    report = solve_problem(problem)
    assert largest_usable(problem, problem.gpus) == used
    assert [answer.layout.gpus for answer in report.answers] == ([used] if used else [])
    if used:
        alone = solve_problem(replace(problem, gpus=used))
        assert alone.answers[0].layout == report.answers[0].layout
