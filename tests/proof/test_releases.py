"""A pin is left out where no value near it will do, or where that is worth more than the nearest value."""

from __future__ import annotations

import pytest

from constraints.registry import enforced_rules
from solver import ways_out as module
from solver.conflicts import conflicts_of
from solver.objectives import OBJECTIVES
from solver.request import Request
from solver.resolution import resolve
from solver.way_out import BestLayouts, WayOut
from solver.ways_out import ways_out

HEADS = Request(model="qwen2.5-7b", gpus=64, gpu="h100", pin=("tp=8",))
"""28 heads: tp=4 will do, and smaller tp is faster."""
FAR = Request(model="qwen2.5-7b", gpus=64, gpu="h100", pin=("tp=64",))


def ways(request: Request) -> dict[str, WayOut]:
    problem = resolve(request)
    return {way.text: way for way in ways_out(problem, conflicts_of(problem)).ways}


def test_a_pin_is_left_out_where_that_is_faster_than_its_nearest_value() -> None:
    found = ways(HEADS)
    moved, released = found["--pin tp=4"], found["without --pin tp=8"]
    assert moved.best and released.best
    measure = OBJECTIVES["step-time"].measure
    faster = measure(released.changed.problem, released.layout)
    assert faster < 0.99 * measure(moved.changed.problem, moved.layout)
    (edit,) = released.changed.edits
    assert edit.to_mapping() == {"type": None, "instead_of": "--pin tp=8", "at": str(edit.origin)}
    assert not released.changed.problem.pins
    assert all(
        rule.holds(released.changed.problem, released.layout) for rule in enforced_rules(released.changed.problem)
    )


def test_a_pin_whose_nearest_value_is_as_good_is_not_left_out() -> None:
    found = ways(Request(model="llama-3.1-8b", gpus=8, gpu="h100", pin=("pp=1", "vpp=2")))
    assert "--pin vpp=null" in found
    assert not any(text.startswith("without") for text in found)


@pytest.mark.parametrize(("request_", "offered"), [(FAR, True), (HEADS, False)], ids=["far", "near"])
def test_without_searches_a_pin_is_left_out_only_where_no_value_is_near(
    request_: Request, offered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BestLayouts, "layout", lambda self, problem: None)
    found = ways(request_)
    assert "--pin tp=4" in found
    assert any(text.startswith("without") for text in found) == offered
    assert not any(way.best for way in found.values())


def test_a_pin_that_cannot_be_moved_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nearest_pins", lambda start, pins: None)
    assert "without --pin tp=8" in ways(HEADS)
