"""Neighbours of a layout: each a legal change of one degree, with what it costs and why."""

from __future__ import annotations

from dataclasses import replace

from solver import Request
from solver.neighbours import neighbours
from solver.resolution import resolve
from solver.search import best_layouts


def test_no_neighbour_of_the_best_layout_is_faster() -> None:
    problem = resolve(Request(model="llama-3.1-8b", gpus=16, gpu="h100", objective="step-time", global_batch_size=128))
    (best,) = best_layouts(problem).layouts
    found = neighbours(problem, best)
    possible = [neighbour for neighbour in found if neighbour.slower is not None]
    assert possible
    assert all(neighbour.slower >= 0 for neighbour in possible)
    assert all(neighbour.why for neighbour in found)


def test_a_neighbour_that_cannot_be_says_why() -> None:
    problem = resolve(Request(model="llama-3.1-8b", gpus=8, gpu="h100", objective="step-time", global_batch_size=8))
    (best,) = best_layouts(problem).layouts
    odd = replace(problem, global_batch_size=7)
    broken = [neighbour for neighbour in neighbours(odd, best) if neighbour.slower is None]
    assert "the batch does not come out" in {neighbour.why for neighbour in broken}
