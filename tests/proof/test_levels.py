"""The level of proof that is named is the one that there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constraints.layout import Layout
from constraints.refutation import tree
from solver.proof import proof_by_search
from tests.cli.running import run

SMALL = ("llama-3.2-1b", "--gpus", "8", "--gpu", "h100", "--global-batch-size", "64")
HEADS = ("qwen2.5-7b", "--gpus", "64", "--gpu", "h100", "--pin", "tp=8")
ONE_GPU = ("llama-3.1-8b", "--gpus", "1", "--gpu", "l40s")
TWELVE = ("llama-3.1-70b", "--gpus", "12", "--gpu", "a100-40gb")


def solved(*asked: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(run("solve", *asked, "--format", "json").out)
    return said["solver"]


@pytest.mark.parametrize(
    ("asked", "level"),
    [(HEADS, "exhaustive"), (ONE_GPU, "exhaustive"), (TWELVE, "partition")],
    ids=["nothing is about memory", "memory of one stage", "memory of several stages"],
)
def test_what_excludes_every_layout(asked: tuple[str, ...], level: str, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    said = solved(*asked, "--certificate", str(file))
    verified = json.loads(run("verify", str(file), "--format", "json").out)
    assert (said["proof"], verified["proof"]) == (level, level)
    assert said["proof_steps"] == sum(verified["leaves"].values())
    assert f"proof     {level}: " in run("solve", *asked).out
    assert f"proof     {level}: " in run("verify", str(file)).out


@pytest.mark.parametrize(
    ("pins", "found", "certified"),
    [(("--pin", "pp=2"), "partition", "partition"), (("--pin", "pp=1"), "solver", "exhaustive")],
    ids=["two stages", "one stage"],
)
def test_what_shows_that_no_layout_is_better(pins: tuple[str, ...], found: str, certified: str, tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    said, checked = solved(*SMALL, *pins), solved(*SMALL, *pins, "--certificate", str(file))
    verified = json.loads(run("verify", str(file), "--format", "json").out)
    assert (said["proof"], said["proof_steps"]) == (found, None)
    assert (checked["proof"], verified["proof"]) == (certified, certified)
    assert checked["proof_steps"] == sum(verified["leaves"].values())
    text = " ".join(run("solve", *SMALL, *pins, "--certificate", str(file)).out.split())
    assert (
        f"proof {certified}: no layout is better, block recompute by count aside, shown in {checked['proof_steps']} steps"
        in text
    )
    assert "without the solver" not in run("solve", *SMALL, *pins).out


def test_a_refutation_that_is_too_large_rests_on_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "REFUTATION", tree.Limits(2, 2))
    monkeypatch.setattr(tree, "FIRST_BOUNDS", 2)
    assert solved(*TWELVE)["proof"] == "solver"
    assert "proof     solver: " in run("solve", *TWELVE).out


def test_nothing_is_proved_where_time_ran_out() -> None:
    asked = ("llama-3.1-70b", "--gpus", "64", "--gpu", "h100", "--time-limit", "0.01")
    report = json.loads(run("solve", *asked, "--format", "json").out)
    assert report["status"] in ("unknown", "feasible")
    assert report["solver"]["proof"] is None


def test_layers_are_placed_where_any_of_the_layouts_has_stages() -> None:
    def layout(pp: int) -> Layout:
        return Layout(tp=1, pp=pp, micro_batch_size=1, num_microbatches=1, global_batch_size=1, gpus=pp)

    assert proof_by_search([layout(1), layout(2)]).level == "partition"
    assert proof_by_search([layout(1)]).level == "solver"
