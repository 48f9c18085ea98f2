"""Switches that a row leaves open: its kin's of the same release, then the recipes'; none for what a model does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.time_rows import Run, read_runs
from tests.benchmarks.files import MIXTURE, TIMED, timed, written

RECIPE = "qwen3_30b_a3b_pretrain_8gpu_gb200_fp8mx"


CARD = {"provenance": "repo card", "section": "pretrain_performance/H100"}


def runs(path: Path, *rows: dict[str, str]) -> list[Run]:
    found, skipped = read_runs([written(path / "runs.csv", list(rows))])
    assert not skipped
    return found


def test_a_release_changes_the_dispatcher_of_every_gpu(tmp_path: Path) -> None:
    old = timed(**MIXTURE | {"gpu": "GB200"}, section="26.02 NeMo Container", dispatcher="alltoall")
    new = [
        timed(**MIXTURE, section="26.06 NeMo Container", dispatcher="flex/hybridep", gbs=str(64 * n)) for n in (1, 2)
    ]
    open_ = timed(**MIXTURE, section="26.02 NeMo Container")
    assert runs(tmp_path, old, *new, open_)[-1].problem.settings.moe_token_dispatcher_type == "alltoall"


@pytest.mark.parametrize(
    ("precision", "dispatcher", "graphs"), [("fp8_mx", "flex", "full_iteration"), ("bf16", "alltoall", "none")]
)
def test_without_kin_the_recipes_of_model_gpu_and_precision_say_it(
    tmp_path: Path, precision: str, dispatcher: str, graphs: str
) -> None:
    row = timed(**MIXTURE | {"model": "gpt-oss-120b", "gpu": "GB200"}, precision=precision)
    switches = runs(tmp_path, row)[0].problem.settings
    assert (switches.moe_token_dispatcher_type, switches.cuda_graph_impl) == (dispatcher, graphs)


def test_a_dense_model_has_no_dispatcher(tmp_path: Path) -> None:
    (dense,) = runs(tmp_path, TIMED | {"dispatcher": "flex/deepep"})
    assert dense.problem.settings.moe_token_dispatcher_type == "alltoall"
    assert dense.problem.settings.moe_flex_dispatcher_backend is None


@pytest.mark.parametrize(
    ("provenance", "graphs"), [("repo table", "full_iteration"), ("repo card", "transformer_engine")]
)
def test_a_table_is_not_timed_with_the_recipe_that_is_for_tests(tmp_path: Path, provenance: str, graphs: str) -> None:
    joined = {"matched_recipe": f"{RECIPE}_functional_config", "cuda_graph": "transformer_engine:moe_router"}
    row = timed(**MIXTURE | {"gpu": "GB200"}, **joined, provenance=provenance, section="pretrain_performance 26.06")
    assert runs(tmp_path, row)[0].problem.settings.cuda_graph_impl == graphs


@pytest.mark.parametrize(
    ("words", "fp32"),
    [
        ({"section": "25.09 NeMo Container"}, False),
        ({"section": "NeMo 25.02"}, False),
        (CARD, False),
        ({"section": "NeMo 24.07 pretraining"}, True),
        ({"section": "Table 1", "provenance": "from memory"}, True),
    ],
)
def test_what_nvidia_times_since_nemo_25_02_has_bf16_gradients(
    tmp_path: Path, words: dict[str, str], fp32: bool
) -> None:
    (run,) = runs(tmp_path, TIMED | words)
    assert run.problem.settings.grad_reduce_in_fp32 == fp32


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 1.0),
        ({"note": "natural routing"}, 1.2),
        ({**CARD, "matched_recipe": "qwen35_vl_35b_a3b_pretrain_16gpu_h100_bf16_functional_config"}, 1.2),
        ({"matched_recipe": f"{RECIPE}_config"}, 1.0),
        ({"model": "llama-3-8b", "ep": "1", "note": "natural routing"}, 1.0),
    ],
)
def test_experts_that_nothing_balances_take_longer(tmp_path: Path, changes: dict[str, str], factor: float) -> None:
    assert runs(tmp_path, TIMED | MIXTURE | changes)[0].routing == factor
