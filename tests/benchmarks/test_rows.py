"""Files of published rows are read as they come, and a cell that cannot be read skips its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import memory_accuracy, time_accuracy
from benchmarks.memory_accuracy import measured_row
from benchmarks.row_layouts import recompute_words
from benchmarks.rows import Skipped, number, read_rows, real
from benchmarks.time_rows import read_runs
from tests.benchmarks.files import MEASURED, MIXTURE, TIMED, timed, written


@pytest.mark.parametrize("how", [{"encoding": "utf-8-sig"}, {"lineterminator": "\r\n"}])
def test_byte_order_marks_and_line_ends_change_nothing(tmp_path: Path, how: dict[str, str]) -> None:
    plain, _ = read_runs([written(tmp_path / "plain.csv", [TIMED])])
    found, skipped = read_runs([written(tmp_path / "other.csv", [TIMED], **how)])
    assert [run.layout for run in found] == [run.layout for run in plain]
    assert not skipped


def test_bytes_that_are_no_text_spoil_no_other_cell(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("model,note\nllama-3-8b,caf\xe9\n".encode("latin-1"))
    assert [row["model"] for row in read_rows(str(path))] == ["llama-3-8b"]


def test_ragged_lines_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text(" model ,gpu\nllama-3-8b\nllama-3-8b,h100,more,still more\n\n")
    assert list(read_rows(str(path))) == [{"model": "llama-3-8b"}, {"model": "llama-3-8b", "gpu": "h100"}]


@pytest.mark.parametrize(
    ("cell", "value"), [("8", 8), (" 8.0 ", 8), ("1,024", 1024), ("1e3", 1000), ("", None), ("N/A", None), ("-", None)]
)
def test_whole_numbers_in_the_ways_they_are_written(cell: str, value: int | None) -> None:
    assert number({"gbs": cell}, "gbs") == value


@pytest.mark.parametrize("cell", ["two", "8.5", "-1", "8 or 16", "8x", "inf", "1e300", "²"])
def test_a_cell_that_is_no_whole_number_skips_its_row(cell: str) -> None:
    with pytest.raises(Skipped, match="unreadable tp"):
        number({"tp": cell}, "tp")


@pytest.mark.parametrize("cell", ["", "nan", "inf", "0", "-3", "about 40"])
def test_what_is_no_positive_number_is_no_measurement(cell: str) -> None:
    assert real({"peak": cell}, "peak") is None


@pytest.mark.parametrize(
    ("value", "granularity", "rest"),
    [
        ("none", None, None),
        ("full", "full", ("uniform", 1)),
        ("full:uniform/1", "full", ("uniform", 1)),
        ("full:block:3", "full", ("block", 3)),
        ("selective:moe_act;layernorm", "selective", ["moe_act", "layernorm"]),
        ("selective:[moe_act mlp]:", "selective", ["moe_act", "mlp"]),
        ("selective:", None, None),
        ("various", None, None),
    ],
)
def test_recompute_in_the_ways_files_write_it(value: str, granularity: str | None, rest: Any) -> None:
    words = recompute_words(value)
    assert words.get("recompute_granularity") == granularity
    if granularity == "full":
        assert (words["recompute_method"], words["recompute_num_layers"]) == rest
    if granularity == "selective":
        assert words["recompute_modules"] == rest


STRANGE: list[dict[str, str]] = [
    {"tp": "two"},
    {"tp": "0"},
    {"num_gpus": "1e30"},
    {"num_gpus": "0"},
    {"pp": "1099511627776", "num_gpus": "1099511627776"},
    {"gpu": "TPU v5"},
    {"precision": "int8"},
    {"recompute": "full:sideways/x"},
    {"cuda_graph": "x:y:z", "dispatcher": "carrier/pigeon"},
    {"pp_layout": "E|||t*999999999L"},
    {"seq_length": "-4096", "seq": "-4096"},
    {"model": "(first 3 layers)"},
    {"vp": "999999"},
    {"stage_or_rank": "stage 99"},
    {"layers": "99999999"},
    {"hidden": "1"},
    {"overrides": "optimizer_offload_fraction=0.5., TE 99999.1"},
]


@pytest.mark.parametrize("changes", STRANGE, ids=str)
def test_strange_rows_are_scored_or_skipped_for_a_reason(tmp_path: Path, changes: dict[str, str]) -> None:
    runs = written(tmp_path / "runs.csv", [TIMED, timed(**MIXTURE, gbs="512"), TIMED | changes])
    found = time_accuracy.board([runs])
    assert found["total"]["rows_scored"] + sum(found["skipped"].values()) == 3
    assert found["total"]["rows_scored"] >= 2
    peaks = written(tmp_path / "peaks.csv", [MEASURED, MEASURED | changes])
    measured = memory_accuracy.board((peaks,), 4.0)
    assert measured["total"]["rows_scored"] >= 1
    assert all(reason for reason in (*found["skipped"], *measured["skipped"]))


@pytest.mark.parametrize("name", list(TIMED))
def test_a_column_that_a_file_of_runs_lacks_stops_nothing(tmp_path: Path, name: str) -> None:
    rows = [{key: value for key, value in TIMED.items() if key != name}]
    found = time_accuracy.board([written(tmp_path / "runs.csv", rows)])
    assert found["total"]["rows_scored"] + found["total"]["rows_skipped"] == 1


@pytest.mark.parametrize("name", list(MEASURED))
def test_a_column_that_a_file_of_peaks_lacks_stops_nothing(tmp_path: Path, name: str) -> None:
    rows = [{key: value for key, value in MEASURED.items() if key != name}]
    found = memory_accuracy.board((written(tmp_path / "peaks.csv", rows),), 4.0)
    assert found["total"]["rows_scored"] + found["total"]["rows_skipped"] == 1


GOLDEN = {
    "family": "gpt",
    "case": "gpt_test",
    "gpu": "H100",
    "num_gpus": "8",
    "num_layers": "12",
    "hidden_size": "4096",
    "num_attention_heads": "32",
    "seq_length": "4096",
    "mbs": "1",
    "gbs": "32",
    "tp": "1",
    "pp": "1",
    "bf16": "True",
    "mem_max_allocated_last_bytes": "60000000000",
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hybrid_layer_pattern": "M-?*"}, "unusable hybrid_override_pattern"),
        ({"num_moe_experts": "8", "moe_layer_freq": "([0]*3+"}, "unusable moe_layer_freq"),
        ({"num_moe_experts": "8", "moe_layer_freq": "0"}, "unusable moe_layer_freq"),
        ({"num_layers": "1e9"}, "unreadable num_layers"),
        ({"mem_max_allocated_last_bytes": "unknown"}, "no measured peak"),
        ({"gbs": "33"}, "the global batch is no multiple of dp * micro-batch"),
    ],
)
def test_golden_arguments_that_make_no_model_are_skipped(changes: dict[str, str], reason: str) -> None:
    assert measured_row(GOLDEN).problem.model.num_layers == 12
    with pytest.raises(Skipped) as skipped:
        measured_row(GOLDEN | changes)
    assert skipped.value.reason == reason


@pytest.mark.parametrize("board", [time_accuracy.main, memory_accuracy.main])
def test_a_file_without_rows_makes_an_empty_board(tmp_path: Path, board: Any) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("")
    result = CliRunner().invoke(board, ["--csv", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("board", [time_accuracy.main, memory_accuracy.main])
def test_a_file_that_is_not_there_is_one_line(board: Any) -> None:
    result = CliRunner().invoke(board, ["--csv", "nowhere.csv"])
    assert result.exit_code == 2
    assert "nowhere.csv" in result.output
