"""What routed experts cost beside their products: casts launched for each, and rows that cost more than their width."""

from __future__ import annotations

import pytest

from constraints.arithmetic import Remembering
from constraints.layout import Recompute
from constraints.timing.compute import experts_ns
from constraints.timing.rates import rates_of
from constraints.timing.work import expert_work
from tests.timing.builders import calibrated, layout, problem

PRECISIONS = [("bf16", 0), ("fp8_cs", 1), ("fp8_mx", 1), ("nvfp4", 1)]


@pytest.mark.parametrize(("precision", "cast"), PRECISIONS)
@pytest.mark.parametrize("ep", [1, 8, 64])
def test_each_local_expert_in_low_precision_launches_casts_of_its_own(precision: str, cast: int, ep: int) -> None:
    def time(microseconds: float) -> int:
        p = problem(
            "qwen3-30b-a3b", "b200", 64, precision=precision, calibration=calibrated(rows__expert_casts_us=microseconds)
        )
        return int(experts_ns(Remembering(), p, layout(p, ep=ep)))

    assert time(20.0) - time(0.0) == cast * 128 // ep * 20_000


def test_a_routed_row_costs_as_much_as_a_wider_one() -> None:
    known = calibrated(rows__elements=2048.0)
    plain, beside = (
        problem("qwen3-30b-a3b", "h100", 8, calibration=each) for each in (calibrated(rows__elements=0.0), known)
    )
    passes = rates_of(beside)
    more = expert_work(Recompute())(beside, 1)[1] - expert_work(Recompute())(plain, 1)[1]
    assert more == pytest.approx(plain.model.hidden_size * passes.row_passes * passes.hbm_ps)  # the model is 2048 wide
