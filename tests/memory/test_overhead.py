"""What the device holds beside PyTorch's allocations, and the interval of the estimate."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.memory.overhead import communicators, device_bytes, high_bytes, low_bytes, margin_bytes
from constraints.problem import GIB
from models_catalog.schema import ModelSpec
from tests.memory.asking import INTEGERS, report
from tests.rules.builders import model, moe, said


@pytest.mark.parametrize(
    ("spec", "words", "count"),
    [
        (model(), {"gpus": 1}, 0),
        (model(), {"gpus": 8}, 1),
        (model(), {"gpus": 64, "tp": 8, "pp": 2, "cp": 2}, 4),
        (model(), {"gpus": 64, "tp": 8, "pp": 8}, 2),
        (moe(), {"gpus": 64, "ep": 8}, 3),
        (moe(), {"gpus": 64, "tp": 2, "pp": 2, "cp": 2, "ep": 4, "etp": 2}, 7),
    ],
)
def test_kinds_of_communicator_in_use(spec: ModelSpec, words: dict[str, Any], count: int) -> None:
    """tp, cp, pp, dp, and for MoE ep, etp, edp: each whose groups have more than one member."""
    assert communicators(INTEGERS, *said(spec, **words)) == count


@pytest.mark.parametrize(("segments", "fragmented"), [(True, 1.05), (False, 1.10)])
def test_the_interval_by_hand(segments: bool, fragmented: float) -> None:
    """40 GiB allocated by a dense model with four kinds of groups: 36.8 to 44.9 GiB, or 46.9 where memory fragments."""
    asked = said(model(), tp=8, pp=2, cp=2, expandable_segments=segments)
    allocated = 40 * GIB
    assert low_bytes(allocated) / GIB == pytest.approx(0.92 * 40)
    assert device_bytes(asked[0], allocated, 4) / GIB == pytest.approx(1.04 * 40 + 0.8 + 4 * 0.4)
    high = high_bytes(INTEGERS, *asked, allocated) / 100
    assert high / GIB == pytest.approx(fragmented * 40 + 0.8 + 0.5 + 4 * 0.4)
    assert allocated + sum(margin_bytes(asked[0], allocated, 4).values()) == pytest.approx(high, abs=4)


HYBRIDEP = {"moe_token_dispatcher_type": "flex", "moe_flex_dispatcher_backend": "hybridep"}


@pytest.mark.parametrize(
    ("spec", "words", "gib"),
    [
        (model(), {}, 0.8 + 0.5 + 0.4),
        (moe(), {}, 0.8 + 1.0 + 2 * 0.4),
        (moe(), HYBRIDEP, 0.8 + 1.0 + 2 * 0.4 + 2),
        (moe(), HYBRIDEP | {"moe_token_dispatcher_type": "alltoall"}, 0.8 + 1.0 + 2 * 0.4),
        (model(), {"cuda_graph_impl": "transformer_engine"}, 0.8 + 0.5 + 0.4 + 6),
    ],
    ids=["context, unexplained, dp", "experts leave more unexplained", "dispatcher buffers", "not in use", "graphs"],
)
def test_what_the_device_holds_beside_pytorch(spec: ModelSpec, words: dict[str, Any], gib: float) -> None:
    asked = said(spec, **words)
    assert high_bytes(INTEGERS, *asked, 0) / 100 / GIB == pytest.approx(gib)


@pytest.mark.parametrize("spec", [model(), moe()], ids=["dense", "moe"])
def test_the_report_orders_its_estimates(spec: ModelSpec) -> None:
    found = report(spec, tp=4, pp=2, num_microbatches=8, sequence_parallel=True)
    assert found.low_bytes < found.allocated_bytes < found.peak_bytes < found.high_bytes
    assert found.allocated_bytes + sum(found.margin.values()) == pytest.approx(found.high_bytes, abs=4)
