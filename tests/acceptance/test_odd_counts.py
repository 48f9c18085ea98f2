"""GPU counts that are not nice, for three large models on H100s: a layout that passes every rule, or a reason.

An answer leaves the solver as JSON and is judged from its text alone; a conflict must be about what was asked, and must go
away when the memory it complains about is there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from constraints.pipeline.language import parse_layout
from constraints.problem import GIB, Problem
from constraints.reading import read_layout
from constraints.registry import enforced_rules
from constraints.rule import Stratum
from solver.report import Report
from solver.request import Request
from solver.resolution import resolve
from solver.search import best_layouts
from solver.synthesis import solve_problem
from solver.verdict import check
from tests.enumeration import best

COUNTS = (7, 12, 28, 96, 100, 127, 521, 1000, 1016, 1536)
MODELS = ("llama-3.1-70b", "deepseek-v3", "qwen3-235b-a22b")
LONG = {("deepseek-v3", 12), ("deepseek-v3", 28), ("deepseek-v3", 96), ("deepseek-v3", 1016), ("qwen3-235b-a22b", 1536)}
LONGEST = 600.0
"""Seconds: it is asked what the answer is, not how soon it comes."""
MESHES = {"mesh.world-dense", "mesh.world-expert"}


def _problem(model: str, gpus: int) -> Problem:
    return resolve(Request(model=model, gpus=gpus, gpu="h100"))


@pytest.mark.parametrize(
    ("model", "gpus"),
    [
        pytest.param(model, gpus, marks=pytest.mark.heavy) if (model, gpus) in LONG else (model, gpus)
        for model in MODELS
        for gpus in COUNTS
    ],
)
def test_every_count_has_an_answer(model: str, gpus: int) -> None:
    problem = _problem(model, gpus)
    report = solve_problem(problem, seconds=LONGEST)
    assert report.status in ("optimal", "infeasible")
    if report.status == "optimal":
        _assert_layout(problem, json.loads(json.dumps(report.to_mapping()))["layouts"][0])
    else:
        _assert_conflict(problem, report)


def _assert_layout(problem: Problem, written: dict[str, Any]) -> None:
    """Judged from its JSON: by every rule that ``solve`` enforces, and by sums made here."""
    layout = read_layout(written, problem).layout
    verdict = check(problem, layout)
    assert verdict.legal and verdict.fits
    assert [rule.id for rule in enforced_rules(problem) if not rule.holds(problem, layout)] == []

    x, model = written, problem.model
    assert x["tp"] * x["cp"] * x["dp"] * x["pp"] == problem.gpus == x["gpus_used"]
    assert x["etp"] * x["ep"] * x["edp"] * x["pp"] == problem.gpus
    assert x["micro_batch_size"] * x["num_microbatches"] * x["dp"] == x["global_batch_size"]
    assert problem.nvlink_domain % x["tp"] == 0
    assert model.num_attention_heads % x["tp"] == 0 and (model.experts or 1) % x["ep"] == 0
    if x["pp"] > 1:
        chunks = parse_layout(x["pipeline_layout"])
        assert len(chunks) == x["pp"] * (x["vpp"] or 1)
        assert "".join(chunks).count("t") == model.num_layers and "".join(chunks).count("m") == model.mtp_layers
    assert all(stage["peak_gib"] <= x["memory"]["budget_gib"] for stage in x["memory"]["stages"])


def _assert_conflict(problem: Problem, report: Report) -> None:
    """Not enough memory on meshes that use every GPU: with memory enough, the other rules of the conflict can be met."""
    named = {rule.id for rule in report.refutation.core}
    assert "memory.capacity" in named and named & MESHES
    assert not [rule.id for rule in report.refutation.core if rule.stratum in (Stratum.ADVICE, Stratum.PIN)]
    explained = report.to_mapping()["explanation"]["core"]
    assert {entry["rule"] for entry in explained} == named and all(entry["statement"] for entry in explained)
    roomy = replace(problem, budget_bytes=100_000 * GIB, objective="data-parallel")
    assert best_layouts(roomy, interleaving=False).layouts


SMALL = [("llama-3.1-70b", 7)]
HEAVY = [("deepseek-v3", 7), ("qwen3-235b-a22b", 7), ("llama-3.1-70b", 12), ("llama-3.1-70b", 28)]


@pytest.mark.parametrize(
    ("model", "gpus"), [*SMALL, *(pytest.param(*asked, marks=pytest.mark.heavy) for asked in HEAVY)]
)
def test_brute_force_agrees(model: str, gpus: int) -> None:
    """Where every layout can be tried one by one, the answer is the same: none, or the same first choice."""
    problem = _problem(model, gpus)
    expected = best(problem)
    report = solve_problem(problem)
    assert [answer.layout for answer in report.answers] == ([] if expected is None else [expected])
