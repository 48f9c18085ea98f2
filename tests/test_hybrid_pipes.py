"""Solving for hybrid patterns with pipes: their segments place the layers, and rules are blamed where they do not fit."""

from __future__ import annotations

import pytest

from constraints.memory.budget import memory_report
from solver.explain import conflict
from solver.search import best_layouts
from tests import enumeration
from tests.rules.builders import hybrid, problem


@pytest.mark.parametrize("pattern", ["M-M*|M-M", "M-M*M|M-M", "M*|M*|M*|M*", "M-|M-M*|M|M-"])
def test_uneven_segments_are_solved_for(pattern: str) -> None:
    asked = problem(hybrid(pattern), gpus=8, seq_length=4096, global_batch_size=16)
    found = best_layouts(asked)
    assert found.status == "optimal"
    (layout,) = found.layouts
    assert layout == enumeration.best(asked)
    assert layout.pp == pattern.count("|") + 1
    report = memory_report(asked, layout)
    assert report is not None
    assert len(report.stages) == layout.pp


@pytest.mark.parametrize(("pattern", "gpus"), [("M*|M*|M*", 8), ("M-M*M|M-M*", 7)])
def test_segments_that_do_not_divide_the_gpus_are_blamed_with_the_mesh(pattern: str, gpus: int) -> None:
    asked = problem(hybrid(pattern), gpus=gpus, seq_length=4096, global_batch_size=16 * gpus)
    assert best_layouts(asked).status == "infeasible"
    assert {rule.id for rule in conflict(asked)} == {"mesh.world-dense", "hybrid.pipes-used"}
