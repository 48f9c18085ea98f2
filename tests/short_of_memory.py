"""Problems whose memory is short: what is recomputed is what they turn on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from constraints.pins import Pin
from constraints.problem import GIB, Origin, Problem
from tests.rules.builders import model, moe, problem

__all__ = ["CASES", "asked", "deep"]


def asked(budget_gib: float, gpus: int = 2, pins: dict[str, int] | None = None, **fields: Any) -> Problem:
    """Eight layers and long sequences: activations are what there is too much of."""
    make = moe if "num_moe_experts" in fields else model
    return problem(
        make(num_layers=8, vocab_size=1000, **fields),
        gpus=gpus,
        budget_bytes=int(budget_gib * GIB),
        seq_length=65536,
        global_batch_size=8,
        objective="step-time",
        pins=tuple(Pin(name, name, value, Origin("flag", name)) for name, value in (pins or {}).items()),
    )


def deep(budget_gib: float, **pins: int) -> Problem:
    """Many narrow layers: their inputs are what there is too much of."""
    narrow = {"hidden_size": 1024, "ffn_hidden_size": 4096, "num_attention_heads": 8, "num_query_groups": 8}
    return replace(asked(budget_gib, pins=pins), model=model(num_layers=48, vocab_size=1000, **narrow))


CASES = [
    *(asked(budget) for budget in (28, 36, 40)),
    *(asked(budget, mtp_num_layers=1) for budget in (32, 36, 56)),
    *(asked(budget, 4) for budget in (28, 32)),
    *(asked(budget, 4, {"pp": 2, "tp": 2}) for budget in (14, 18, 22)),
    *(asked(budget, 4, {"pp": 2, "vpp": 2}) for budget in (24, 30)),
    *(asked(budget, 4, {"pp": 2, "tp": 2}, num_moe_experts=8, moe_layer_freq=(0, *(1,) * 7)) for budget in (10, 14)),
    *(deep(budget, pp=2, vpp=vpp) for budget, vpp in ((19, 2), (19.4, 3), (19.4, 8))),
    *(deep(budget, pp=1) for budget in (33, 34)),
]
"""Problems whose answer is no recompute, modules, a block or every layer, one by one or in groups."""
