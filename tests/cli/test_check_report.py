"""What ``check`` prints of a layout: what is recomputed, the batch, the step, and whether its schedule was played through."""

from __future__ import annotations

import json

import pytest

from tests.cli.running import run

ASKED = ["llama-3.1-70b", "--gpus", "64", "--gpu", "h100"]
DEGREES = ["tp=4", "pp=4", "gbs=128", "sp=true"]
LONG_AND_SHORT = "|".join(["Et*3", *["t*3"] * 3, *["t*7"] * 3, "t*7", *["t*3"] * 3, "t*3", *["t*7"] * 3, "t*7L"])
"""Four ranks of four chunks, 20 layers each: of 3 and 7 layers in turn."""


def printed(*words: str) -> str:
    """The text of ``check`` on one line."""
    return " ".join(run("check", *ASKED, *DEGREES, *words).out.split())


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ((), "recompute none"),
        (("recompute_granularity=selective", "recompute_modules=[mlp]"), "recompute selective (mlp)"),
        (
            ("recompute_granularity=full", "recompute_method=block", "recompute_num_layers=2"),
            "recompute full (block, 2 layers a chunk)",
        ),
        (
            ("recompute_granularity=full", "recompute_method=block", "recompute_num_layers=2", "dp=3"),
            "(block, 2 layers a",
        ),
    ],
)
def test_what_is_recomputed_stands_under_the_layout(words: tuple[str, ...], shown: str) -> None:
    assert shown in printed(*words)


def test_a_legal_layout_has_its_batch_its_step_and_its_split() -> None:
    text = printed("vpp=4")
    assert "32 micro-batches of 1 on each of 4 replicas" in text
    assert "step " in text and "MFU" in text
    assert "pipeline even split: Et*5|" in text


def test_a_layout_that_cannot_exist_has_no_figures() -> None:
    text = printed("vpp=3")
    assert "error[pipeline.pp-even]" in text
    assert "MFU" not in text and "traffic" not in text


def test_chunks_that_are_not_alike_are_played_through_and_the_report_says_so() -> None:
    even, uneven = (checked(*words) for words in (["vpp=4"], [f"pipeline_model_parallel_layout='{LONG_AND_SHORT}'"]))
    assert (even["time"]["schedule"], uneven["time"]["schedule"]) == ("closed form", "played through")
    assert uneven["time"]["bubble_seconds"] > even["time"]["bubble_seconds"]
    assert any(warning.startswith("pipeline.even-chunks") for warning in uneven["warnings"])
    text = printed(f"pipeline_model_parallel_layout='{LONG_AND_SHORT}'")
    assert "schedule played through: waits for longer chunks are in the bubble" in text
    assert f"step {uneven['time']['step_seconds']:.2f} s" in text


def test_a_batch_of_layouts_has_the_same_estimate(tmp_path) -> None:
    words = [*DEGREES, f"pipeline_model_parallel_layout='{LONG_AND_SHORT}'"]
    line = {"model": ASKED[0], "gpus": 64, "gpu": "h100", "layout": words}
    path = tmp_path / "layouts.jsonl"
    path.write_text(json.dumps(line))
    assert json.loads(run("check", "--batch", str(path)).out)["time"] == checked(words[-1])["time"]


def checked(*words: str) -> dict:
    """The JSON of ``check``."""
    return json.loads(run("check", *ASKED, "--format", "json", *DEGREES, *words).out)
