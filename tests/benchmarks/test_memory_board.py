"""The scoreboard of the memory estimate: its shape, what it skips, and the accuracy that the project stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.memory_accuracy import board, main, measured_row
from benchmarks.rows import Skipped, read_rows
from tests.benchmarks.files import MEASURED

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
FILES = (str(DATA / "memory_runs.csv"), str(DATA / "golden_runs.csv"))


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return board(FILES, 4.0)


def test_the_estimate_is_within_its_bars(figures: dict[str, Any]) -> None:
    total = figures["total"]
    assert total["rows_scored"] >= 50
    assert total["mean_absolute_error"] <= 0.03
    assert total["above_8_percent"] <= 0.10
    assert -0.01 <= total["bias"] <= 0.03
    assert total["inside_interval"] >= 0.95


def test_no_run_that_ran_out_is_called_fitting(figures: dict[str, Any]) -> None:
    assert figures["total"]["ran_out"] >= 3
    assert figures["total"]["ran_out_but_fits"] == []


def test_every_row_is_scored_skipped_for_a_reason_or_a_repetition(figures: dict[str, Any]) -> None:
    rows = sum(1 for path in FILES for _ in read_rows(path))
    total = figures["total"]
    assert sum(figures["skipped"].values()) == total["rows_skipped"] < rows
    only_ran_out = rows - total["rows_scored"] - total["rows_skipped"] - total["rows_repeated"]
    assert 0 <= only_ran_out <= total["ran_out"]
    assert all(reason for reason in figures["skipped"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "no-such-model"}, "model not in the catalog"),
        ({"model": "bert:bert_tp1"}, "encoder-decoder or BERT"),
        ({"model": "gpt:some_test"}, "only the name of a test, no architecture"),
        ({"num_gpus": ""}, "unknown world size"),
        ({"gpu": "?"}, "GPU ? not in the catalog"),
        ({"seq": ""}, "sequence length unknown"),
        ({"tp": ""}, "degrees unknown"),
        ({"peak_alloc_GiB": ""}, "no measured peak"),
        ({"gbs": "33"}, "the global batch is no multiple of dp * micro-batch"),
        ({"tp": "3"}, "degrees do not multiply to the world size"),
    ],
)
def test_a_row_that_cannot_be_scored_says_why(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(Skipped) as skipped:
        measured_row(MEASURED | changes)
    assert skipped.value.reason == reason


def test_layers_of_a_row_go_before_the_entry() -> None:
    assert measured_row(MEASURED | {"layers": "4"}).problem.model.num_layers == 4
    cut = measured_row(MEASURED | {"model": "DeepSeek-V3 (first 4 layers, 1 dense)", "tp": "1", "sp": "0", "ep": "8"})
    assert cut.problem.model.moe_layer_freq == (0, 1, 1, 1)
    assert cut.problem.model.mtp_num_layers is None


def test_the_board_prints_json() -> None:
    result = CliRunner().invoke(main, ["--csv", FILES[0]])
    assert result.exit_code == 0
    assert {"total", "by_source", "skipped", "worst"} <= set(json.loads(result.output))
