"""``counts``: each count as ``solve`` would answer it, why the gaps are gaps, and what to use instead."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cli.text.counts import counts_text
from constraints.registry import enforced_rules
from solver import Request, counts_between, resolve, solve
from solver.counts import PATIENCE, Counts
from solver.search import Found, best_layouts
from tests.cli.running import run

ASKED: dict[str, Any] = {"model": "qwen3-32b", "gpu": "h100", "gpus": 1, "objective": "communication"}
COUNTS = range(6, 12)
GAPS = [6, 7]
LLAMA: dict[str, Any] = {**ASKED, "model": "llama-3.1-70b"}


@pytest.fixture(scope="module")
def found() -> Counts:
    return counts_between(resolve(Request(**ASKED)), COUNTS)


def test_every_count_is_what_solve_says_of_it(found: Counts) -> None:
    assert [count.gpus for count in found.counts] == list(COUNTS)
    assert [count.gpus for count in found.counts if count.gap is not None] == GAPS
    for count in found.counts:
        report = solve(Request(**{**ASKED, "gpus": count.gpus}))
        assert count.status == report.status
        if count.answer is None:
            assert report.refutation is not None and count.gap is not None
            conflicts = [sorted(explained.minimal.ids) for explained in report.refutation.explained]
            assert list(count.gap.rules) in conflicts
        else:
            mapping = report.answers[0].to_mapping(1)
            del mapping["rank"]
            assert count.to_mapping(8)["layout"] == mapping


def test_gaps_know_the_usable_counts_next_to_them(found: Counts) -> None:
    usable = [count.gpus for count in found.usable]
    for count in found.counts:
        if count.status == "infeasible":
            assert count.below == max((gpus for gpus in usable if gpus < count.gpus), default=None)
            assert count.above == min((gpus for gpus in usable if gpus > count.gpus), default=None)
        else:
            assert (count.below, count.above) == (None, None)


@pytest.mark.parametrize("counts", [range(2, 14), range(8, 27, 2), range(1, 7)])
def test_long_gaps_are_leapt_over_and_nothing_with_them(counts: range) -> None:
    problem = resolve(Request(**{**ASKED, "pin": ("pp=2", "tp=4")}))
    found = counts_between(problem, counts)
    statuses = [best_layouts(replace(problem, gpus=gpus)).status for gpus in counts]
    assert [count.status for count in found.counts] == statuses
    assert statuses.count("infeasible") > PATIENCE
    assert all(count.gap is not None for count in found.counts if count.status == "infeasible")


def test_usable_counts_outside_the_range_are_told_too() -> None:
    (count,) = counts_between(resolve(Request(**LLAMA)), range(97, 98)).counts
    assert (count.below, count.above) == (96, 98)
    (count,) = counts_between(resolve(Request(**{**LLAMA, "pin": ("tp=8", "pp=3")})), range(16, 17, 8)).counts
    assert (count.below, count.above) == (None, 24)


def test_a_gap_is_told_with_its_numbers() -> None:
    asked = resolve(Request(**LLAMA))
    (count,) = counts_between(asked, range(97, 98)).counts
    assert count.gap is not None
    assert "97, a prime" in count.gap.reason and "GiB on its fullest stage" in count.gap.reason
    problem = replace(asked, gpus=97)
    named = [rule for rule in enforced_rules(problem) if rule.id in count.gap.rules]
    assert len(named) == len(count.gap.rules) == 3


def test_counts_that_time_did_not_decide_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solver.counts.best_layouts", lambda *args, **kwargs: Found("unknown", ()))
    outcome = run("counts", "llama-3.1-8b", "--gpu", "h100", "--between", "2", "4")
    assert outcome.code == 3
    assert "not decided in the time given" in outcome.out and "undecided 2-4" in outcome.out


def test_the_json_of_the_interface() -> None:
    outcome = run("counts", "qwen3-32b", "--gpu", "h100", "--between", "7", "8", "--format", "json")
    assert (outcome.code, outcome.err) == (0, "")
    data = json.loads(outcome.out)
    gap, usable = data["counts"]
    assert (gap["gpus"], gap["status"], gap["nearest_above"], gap["whole_nodes"]) == (7, "infeasible", 8, False)
    assert "GiB on its fullest stage" in gap["reason"] and "layout" not in gap
    assert (usable["gpus"], usable["status"], usable["whole_nodes"]) == (8, "optimal", True)
    assert usable["layout"]["gpus_used"] == 8 and "reason" not in usable
    assert usable["layout"]["time"]["tokens_per_second_per_gpu"] > 0
    assert (data["usable"], data["asked"]) == ([8], None)


def test_one_count_is_asked_about_with_its_neighbours() -> None:
    outcome = run("counts", "llama-3.1-70b", "--gpu", "h100", "--gpus", "97", "--format", "json", "--pin", "tp=8")
    data = json.loads(outcome.out)
    assert [count["gpus"] for count in data["counts"]] == list(range(89, 106))
    assert data["asked"] == {"gpus": 97, "largest_usable": 96, "smallest_usable": 104}
    whole = run("counts", "llama-3.1-70b", "--gpu", "h100", "--gpus", "97", "--format", "json", "--whole-nodes")
    assert json.loads(whole.out)["usable"] == [96, 104]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table(found: Counts, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    import click

    lines = click.unstyle(counts_text(found, 7)).splitlines()
    assert lines[0].startswith("qwen3-32b on 6 to 11 x h100: 4 of 6 counts have a layout")
    assert max(map(len, lines)) <= int(columns)
    rows = {line.split()[0]: line for line in lines if line.split() and line.split()[0].isdigit()}
    assert "none: use 8" in rows["7"] and "tp=" in rows["8"]
    assert ("tokens/s " in lines[3]) is (columns == "120")
    assert "for 7     use 8" in lines
    assert any(line.startswith("no layout on ") and "memory.capacity" in line for line in lines)


def test_no_usable_count_is_exit_one() -> None:
    outcome = run("counts", "llama-3.1-8b", "--gpu", "h100", "--between", "3", "4", "--pin", "tp=8", "--pin", "dp=2")
    assert outcome.code == 1 and "0 of 2 counts have a layout" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "between is missing: give --between A B, or --gpus N"),
        (["--between", "9", "8"], "goes down"),
        (["--between", "0", "8"], "between 0 must be from 1 to 1000000"),
        (["--between", "1", "100000"], "holds 100,000 counts, more than 10,000"),
        (["--between", "9", "15", "--whole-nodes"], "holds no multiple of the 8 GPUs of a node"),
        (["--between", "9"], "requires 2 arguments"),
        (["--between", "1", "2", "--objective", "speed"], "is none of step-time"),
    ],
)
def test_bad_usage_is_one_clear_error(words: list[str], message: str) -> None:
    outcome = run("counts", "llama-3.1-8b", "--gpu", "h100", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err and "Traceback" not in outcome.err
