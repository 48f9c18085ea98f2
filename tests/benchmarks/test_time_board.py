"""The scoreboard reads rows as they are published, skips by rule, and orders by rank."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.time_accuracy import board
from benchmarks.time_rows import read_runs
from benchmarks.time_scores import scored, spearman
from tests.benchmarks.files import MIXTURE, timed, written


def test_a_row_becomes_the_layout_that_it_says(tmp_path: Path) -> None:
    (run,), skipped = read_runs([written(tmp_path / "runs.csv", [timed(recompute="full:uniform/1")])])
    x = run.layout
    assert (x.tp, x.pp, x.vpp, x.dp, x.num_microbatches) == (4, 4, 5, 4, 32)
    assert x.sequence_parallel and x.recompute.is_full
    assert run.problem.stack == "26.02"
    assert run.step_seconds == pytest.approx(128 * 8192 / 64 / 1600)
    assert not skipped


def test_rows_are_skipped_by_rule_and_counted(tmp_path: Path) -> None:
    rows = [
        timed(),
        timed(tokens_per_sec_per_gpu=""),
        timed(provenance="repo card", section="pretrain/H100"),
        timed(provenance="repo card", section="pretrain_performance/H100"),
        timed(note="footnote:attention regression"),
        timed(model="No Such Model 9B"),
        timed(gpu="H800"),
        timed(tp="3"),
        timed(gbs=""),
        timed(num_gpus=""),
        timed(tokens_per_sec_per_gpu="", step_time_s="10"),
    ]
    result = board([written(tmp_path / "runs.csv", rows)])
    assert result["total"]["rows_scored"] == 3
    assert result["total"]["rows_skipped"] == 8
    assert result["skipped"] == {
        "no throughput or step time": 1,
        "functional run": 1,
        "the source marks it as a regression": 1,
        "model not in the catalog": 1,
        "GPU H800 not in the catalog": 1,
        "degrees do not multiply to the world size": 1,
        "sequence length or batch unknown": 1,
        "GPU count unknown": 1,
    }


def test_errors_are_fractions_of_the_measured_rate(tmp_path: Path) -> None:
    found = board([written(tmp_path / "runs.csv", [timed()])])
    twice = board([written(tmp_path / "runs.csv", [timed(tokens_per_sec_per_gpu="3200")])])
    error = found["total"]["bias"]
    assert twice["total"]["bias"] == pytest.approx((1 + error) / 2 - 1, abs=1e-3)
    assert found["total"]["mean_absolute_error"] == pytest.approx(abs(error))


def test_switches_that_a_row_leaves_open_are_those_of_its_kin(tmp_path: Path) -> None:
    known = timed(**MIXTURE, dispatcher="alltoall", cuda_graph="none")
    open_ = timed(**MIXTURE, gbs="256")
    runs, _ = read_runs([written(tmp_path / "runs.csv", [known, open_])])
    assert [run.problem.settings.moe_token_dispatcher_type for run in runs] == ["alltoall", "alltoall"]


def test_rank_correlation_of_a_reversed_order_is_minus_one() -> None:
    assert spearman([(1, 3), (2, 2), (3, 1)]) == -1
    assert spearman([(1, 1), (2, 1), (3, 1)]) == 0


def test_a_fit_is_drawn_to_what_is_measured_and_to_its_priors(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    from benchmarks.fitting import fitted
    from constraints.timing.calibration import Calibration, constants

    slow = [timed(tokens_per_sec_per_gpu=rate, gbs=batch) for rate, batch in (("1100", "128"), ("1120", "256"))]
    runs, _ = read_runs([written(tmp_path / "runs.csv", slow)])
    priors = Calibration({constant.name: constant.prior for constant in constants()})
    fit = Calibration(fitted(runs).values)
    assert all(abs(scored(run, fit).error) < abs(scored(run, priors).error) for run in runs)
    assert fit["gemm.hopper.fp8"] < priors["gemm.hopper.fp8"]
    assert fit["gemm.blackwell.bf16"] == pytest.approx(priors["gemm.blackwell.bf16"], rel=1e-3)
