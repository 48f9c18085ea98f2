"""Micro-batch groups of the user's own under interleaving: no legal count is missed, and an illegal one is blamed."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.pins import Pin
from constraints.problem import Origin, Problem
from solver.explain import conflict
from solver.search import best_layouts
from tests import enumeration
from tests.rules.builders import model, problem

SMALL = model(num_layers=8, hidden_size=512, num_attention_heads=8, ffn_hidden_size=1024, vocab_size=1000)
GROUP = "microbatch_group_size_per_vp_stage"


def interleaved_on_four_ranks(batch: int, **switches: Any) -> Problem:
    """Four GPUs, pp=4 and vpp=2 pinned: the micro-batches are the global batch over their size."""
    pins = tuple(Pin(name, name, value, Origin("flag", f"--pin {name}")) for name, value in (("pp", 4), ("vpp", 2)))
    return problem(SMALL, gpus=4, seq_length=1024, global_batch_size=batch, pins=pins, **switches)


@pytest.mark.parametrize("batch", [2, 4, 6, 7, 8, 9, 10, 12, 16, 22])
@pytest.mark.parametrize("group", [None, 2, 4, 6, 8])
def test_the_solver_finds_what_the_schedule_takes(batch: int, group: int | None) -> None:
    """Ten micro-batches in groups of six leave four, which Megatron takes on four ranks."""
    asked = interleaved_on_four_ranks(batch, **({} if group is None else {GROUP: group}))
    expected = enumeration.best(asked)
    found = best_layouts(asked)
    assert found.status == ("infeasible" if expected is None else "optimal")
    assert [layout.num_microbatches for layout in found.layouts] == ([expected.num_microbatches] if expected else [])


@pytest.mark.parametrize(("batch", "switches"), [(2, {}), (6, {}), (9, {GROUP: 6}), (8, {GROUP: 2})])
def test_the_schedule_is_blamed_with_the_words_that_force_it(batch: int, switches: dict[str, Any]) -> None:
    blamed = {rule.id for rule in conflict(interleaved_on_four_ranks(batch, **switches))}
    assert blamed == {"pipeline.vpp-microbatches", "pin.pp", "pin.vpp"}
