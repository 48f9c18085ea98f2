"""A given batch that may move: it is the nearest whole one, within what is allowed, and everything says so."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.certificate import verify
from constraints.refutation.encoding import (
    InvalidEncoding,
    decoded,
    decoded_changes,
    digest,
    encoded,
    encoded_changes,
)
from constraints.refutation.file import read_certificate, written
from solver import Request, resolve, solve
from solver.feasibility import plainest_layout
from solver.search import best_layouts
from tests.cli.running import run
from tests.exploring import explore
from tests.strategies import problems

ASKED = {"model": "llama-3.1-8b", "gpus": 96, "gpu": "h100", "global_batch_size": 1000}
ARGS = ("llama-3.1-8b", "--gpus", "96", "--gpu", "h100", "--global-batch-size", "1000")
TOO_NARROW = {"pin": ("tp=2", "pp=1", "cp=1"), "batch_tolerance": "0.5%"}


def problem(**changes: Any) -> Problem:
    return resolve(Request(**(ASKED | changes)))


@pytest.mark.parametrize(
    ("word", "hundredths"), [("2%", 200), ("2", 200), (2, 200), (2.5, 250), (" 0.25 % ", 25), ("100%", 10_000)]
)
def test_a_percentage_is_read_exactly(word, hundredths):
    asked = problem(batch_tolerance=word)
    assert (asked.global_batch_size, asked.target_batch, asked.batch_tolerance) == (None, 1000, hundredths)


def test_no_tolerance_is_the_batch_itself():
    assert problem(batch_tolerance="0%") == replace(problem(), origins=problem(batch_tolerance="0%").origins)


@pytest.mark.parametrize(
    ("target", "tolerance", "bounds"),
    [(1000, 200, (980, 1020)), (1000, 1, (1000, 1000)), (7, 1250, (7, 7)), (7, 1500, (6, 8)), (16, 10_000, (1, 32))],
)
def test_bounds_are_inside_the_tolerance(target, tolerance, bounds):
    asked = replace(problem(), global_batch_size=None, target_batch=target, batch_tolerance=tolerance)
    assert asked.batch_bounds == bounds
    least, most = bounds
    assert all(abs(size - target) * 10_000 <= tolerance * target for size in (max(least, 1), most))
    assert (most + 1 - target) * 10_000 > tolerance * target


def group_of(asked: Problem, x: Layout) -> int:
    """Micro-batches that go together: the count is a multiple of them."""
    return (asked.settings.microbatch_group_size_per_vp_stage or x.pp) if x.vpp is not None and x.pp > 1 else 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    asked=problems(most_gpus=8),
    target=st.sampled_from([7, 24, 60, 100]),
    tolerance=st.sampled_from([100, 500, 2000, 5000]),
)
def test_no_whole_batch_is_nearer_than_the_one_chosen(asked, target, tolerance):
    asked = replace(asked, global_batch_size=None, target_batch=target, batch_tolerance=tolerance)
    for x in best_layouts(asked, seconds=60).layouts:
        unit = x.dp * x.micro_batch_size * group_of(asked, x)
        away = abs(x.global_batch_size - target)
        assert away * 10_000 <= tolerance * target
        assert x.global_batch_size % unit == 0
        assert away == min(abs(size - target) for size in range(unit, 2 * target + unit + 1, unit))


def test_there_is_a_layout_where_some_fixed_batch_within_it_has_one():
    seen: Counter[bool] = Counter()

    def visit(asked: Problem) -> None:
        if asked.settings.microbatch_group_size_per_vp_stage is not None:
            return  # a batch that is fixed may leave a part of a group over
        moving = replace(asked, global_batch_size=None, target_batch=24, batch_tolerance=1500)
        assert moving.batch_bounds == (21, 27)
        found = [
            size
            for size in range(21, 28)
            if plainest_layout(replace(moving, global_batch_size=size, target_batch=None, batch_tolerance=0))
        ]
        seen[bool(found)] += 1
        assert (plainest_layout(moving) is not None) is bool(found), found

    explore(problems(most_gpus=12), visit, 40)
    assert min(seen[True], seen[False]) >= 5


def test_solve_moves_the_batch_and_compares_by_token():
    report = solve(Request(**ASKED, batch_tolerance="2%", pin=("tp=2", "pp=1", "cp=1")))
    found = report.to_mapping()
    assert found["layouts"][0]["global_batch_size"] == 1008
    assert found["request"]["global_batch_size"]["value"] == 1000
    assert found["request"]["batch_tolerance"]["value"] == "2%"
    assert found["objective"]["unit"] == "nanoseconds per token"
    assert solve(Request(**ASKED, pin=("tp=2", "pp=1", "cp=1"))).status == "infeasible"


def test_a_batch_that_comes_out_even_stays():
    report = solve(Request(**(ASKED | {"global_batch_size": 1024, "gpus": 64}), batch_tolerance="50%"))
    assert report.answers[0].layout.global_batch_size == 1024


@pytest.mark.parametrize(
    ("command", "more", "says"),
    [
        ("solve", ("--pin", "pp=1"), "batch 1,008 chosen within 2% of 1,000"),
        ("check", ("tp=2", "sp=true", "gbs=1008"), "legal"),
        ("check", ("tp=2", "sp=true"), "gbs=1008"),
        ("counts", ("--between", "96", "96"), "gbs=1008"),
    ],
)
def test_commands_take_it(command, more, says):
    args = [arg for arg in ARGS if command != "counts" or arg not in ("--gpus", "96")]
    outcome = run(command, *args, "--batch-tolerance", "2%", *more)
    assert outcome.code == 0, outcome.err
    assert says in " ".join(outcome.out.split())
    assert "batch.tolerance" not in outcome.out


def test_check_mentions_a_batch_that_is_too_far_as_it_does_one_that_is_not_the_requests():
    outcome = run("check", *ARGS, "--batch-tolerance", "0.5%", "tp=2", "sp=true", "gbs=1008", "--format", "json")
    found = json.loads(outcome.out)
    assert found["legal"]
    assert any(text.startswith("batch.tolerance: ") and "995 to 1005" in text for text in found["warnings"])


def test_a_request_file_and_a_batch_of_layouts_take_it(tmp_path: Path):
    path = tmp_path / "request.yaml"
    path.write_text("model: llama-3.1-8b\ngpus: 96\ngpu: h100\nglobal-batch-size: 1000\nbatch-tolerance: 2%\n")
    outcome = run("solve", "--request", str(path), "--pin", "pp=1", "--format", "json")
    value = json.loads(outcome.out)["request"]["batch_tolerance"]
    assert value == {"value": "2%", "origin": f"{path}:5:1"}
    lines = tmp_path / "lines.jsonl"
    line = {**ASKED, "batch_tolerance": 0.5, "layout": {"tp": 2, "sp": True, "gbs": 1008}}
    lines.write_text(json.dumps(line) + "\n")
    verdict = json.loads(run("check", "--batch", str(lines)).out)
    assert verdict["legal"] and any("batch.tolerance" in text for text in verdict["warnings"])


def test_the_least_tolerance_that_would_do_is_a_way_out():
    report = solve(Request(**ASKED, **TOO_NARROW))
    explanation = report.to_mapping()["explanation"]
    assert "batch.tolerance" in [entry["rule"] for entry in explanation["core"]]
    (way,) = [way for way in explanation["ways_out"] if "--batch-tolerance" in way["change"]]
    assert way["edits"][0] == {
        "type": "--batch-tolerance 0.8%",
        "instead_of": "--batch-tolerance 0.5%",
        "at": str(report.asked.origin("batch_tolerance")),
    }
    assert way["layout"]["global_batch_size"] == 1008


def certificate() -> Any:
    report = solve(Request(**ASKED, **TOO_NARROW))
    assert report.refutation is not None and report.refutation.certificate is not None
    return report.refutation.certificate


def test_a_certificate_holds_the_tolerance_and_is_verified():
    found = certificate()
    assert (found["request"]["target_batch"], found["request"]["batch_tolerance"]) == (1000, 50)
    done = verify(read_certificate(written(found)))
    assert done.problem.batch_bounds == (995, 1005)


def test_requests_without_it_are_written_and_read_as_ever():
    asked = replace(problem(), origins={})
    old = encoded(asked)
    assert not {"target_batch", "batch_tolerance"} & old.keys()
    assert decoded(old) == asked
    moved = replace(problem(batch_tolerance="2%"), origins={})
    assert decoded(json.loads(json.dumps(encoded(moved)))) == moved
    assert digest(encoded(moved)) != digest(old)


@pytest.mark.parametrize("words", [("2%", "3%"), (None, "3%"), ("3%", None)])
def test_a_change_of_the_tolerance_is_written_and_read(words):
    before, after = (replace(problem(batch_tolerance=word), origins={}) for word in words)
    changes = encoded_changes(before, after)
    assert decoded_changes(encoded(before), json.loads(json.dumps(changes))) == after


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_tolerance": -1},
        {"batch_tolerance": 10_001},
        {"batch_tolerance": 2.5},
        {"target_batch": None},
        {"target_batch": 0},
        {"global_batch_size": 1000},
        {"tolerance": 1},
    ],
)
def test_a_tolerance_that_is_none_is_refused(changes):
    moved = encoded(problem(batch_tolerance="2%"))
    with pytest.raises(InvalidEncoding):
        decoded({**moved, **changes})
