"""Each published model has constants that never saw it; the file of them is of the same fit as the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.left_out import calibration_without, document, folds
from benchmarks.time_accuracy import board
from benchmarks.time_regret import regrets
from benchmarks.time_rows import Run, read_runs
from constraints.timing.calibration import HOME, constants, shipped
from models_catalog.loader import load_model
from tests.benchmarks.files import MIXTURE, timed, written

MODELS = [name for fold in document()["folds"] for name in fold["models"]]


def test_the_folds_are_of_the_fit_that_is_shipped() -> None:
    import json

    assert document()["fitted_on"] == json.loads(HOME.read_text(encoding="utf-8"))["fitted_on"]
    names = {constant.name for constant in constants()}
    assert all(set(fold["values"]) == names for fold in document()["folds"])


def test_no_model_is_in_two_folds() -> None:
    assert len(MODELS) == len(set(MODELS)) > 20


@pytest.mark.parametrize("name", ["deepseek-v3", "llama-3-70b", "qwen3.6-35b-a3b"])
def test_a_fitted_model_is_judged_by_other_constants(name: str) -> None:
    assert name in MODELS
    assert calibration_without(name) is calibration_without(name)
    assert calibration_without(name) is not shipped()


def test_models_of_one_fold_share_their_constants() -> None:
    for fold in document()["folds"]:
        assert len({id(calibration_without(name)) for name in fold["models"]}) == 1


def test_what_is_held_fixed_is_the_same_in_every_fold() -> None:
    for constant in constants():
        if constant.width == 0:
            assert {fold["values"][constant.name] for fold in document()["folds"]} == {constant.prior}


def test_a_model_that_was_not_fitted_is_judged_by_the_shipped_constants() -> None:
    assert calibration_without(load_model("mixtral-8x7b").name) is shipped()


def some(path: Path) -> list[Run]:
    rows = [timed(**MIXTURE, gbs="512", mbs=size) for size in "1248"]
    return read_runs(
        [written(path / "runs.csv", [*rows, timed(), timed(model="Mixtral-8x7B", **{"pp": "1", "vp": ""})])]
    )[0]


def test_small_models_are_left_out_together_and_each_once(tmp_path: Path) -> None:
    found = folds(some(tmp_path))
    assert sorted(name for fold in found for name in fold) == ["llama-3-70b", "mixtral-8x7b", "qwen3-30b-a3b"]


def test_the_board_prints_both_kinds_of_error(tmp_path: Path) -> None:
    found = board([written(tmp_path / "runs.csv", [timed()])])
    assert found["left_out"]["rows_scored"] == found["total"]["rows_scored"] == 1
    assert found["left_out"]["bias"] != found["total"]["bias"]
    unfitted = board([written(tmp_path / "runs.csv", [timed(model="qwen3-32b", gpu="H100")])])
    assert unfitted["left_out"]["bias"] == unfitted["total"]["bias"]


def test_regret_is_by_constants_that_never_saw_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,), _ = read_runs([written(tmp_path / "runs.csv", [timed(**MIXTURE, gbs="512", mbs="1")])])
    seen: list[Any] = []
    import solver.search

    best = solver.search.best_layouts

    def watched(problem: Any, **how: Any) -> Any:
        seen.append(problem.calibration)
        return best(problem, **how)

    monkeypatch.setattr(solver.search, "best_layouts", watched)
    found = regrets([run])
    assert seen == [calibration_without("qwen3-30b-a3b")]
    assert (found["layouts"], found["undecided"]) == (1, [])
    assert found["median"] == found["worst"][0]["regret"] > 0.1  # one sequence a micro-batch is far from the best
