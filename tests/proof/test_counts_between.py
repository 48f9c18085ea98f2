"""What is said of a larger count of GPUs (the fewest, or not) is what solving every count between says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from solver.fewest_count import fewest_note
from solver.request import Request
from solver.resolution import resolve
from solver.search import best_layouts


@pytest.mark.parametrize(
    ("request_", "count", "note"),
    [
        (Request(model="llama-3.1-70b", gpus=12, gpu="a100-40gb"), 40, "the fewest whole nodes of 8 that do"),
        (Request(model="llama-3.1-8b", gpus=127, gpu="h100", global_batch_size=1024), 128, "the fewest that do"),
        (Request(model="llama-3.1-8b", gpus=6, gpu="h100", pin=("tp=4",)), 8, "the fewest that do"),
        (
            Request(model="deepseek-v3", gpus=96, gpu="h100"),
            192,
            "a count that works, not shown to be the fewest",
        ),
    ],
)
def test_the_fewest_are_the_fewest(request_: Request, count: int, note: str) -> None:
    asked = resolve(request_)
    assert fewest_note(asked, replace(asked, gpus=count)) == note
    if "not shown" in note:
        return
    step = asked.gpus_per_node if "nodes" in note else 1
    for between in range((asked.gpus // step + 1) * step, count, step):
        assert best_layouts(replace(asked, gpus=between)).status == "infeasible", between


def test_nothing_is_called_the_fewest_if_fewer_do() -> None:
    asked = resolve(Request(model="llama-3.1-8b", gpus=1, gpu="h100"))
    assert best_layouts(replace(asked, gpus=16)).status == "optimal"
    assert "fewest" not in fewest_note(asked, replace(asked, gpus=24)).replace("not shown to be the fewest", "")
