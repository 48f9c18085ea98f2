"""No layout fits on fewer GPUs than the state alone would lie on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any

import pytest

from constraints.layout import Layout, Settings
from constraints.memory.budget import memory_report
from constraints.memory.spread import fewest_gpus
from constraints.problem import GIB, Problem
from models_catalog.loader import load_model
from tests import enumeration
from tests.strategies import gpu

MODELS = ("llama-3.2-1b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v3", "nemotron-h-8b")
SWITCHES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "plain": {"use_distributed_optimizer": False},
    "fsdp": {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"},
    "offloaded": {"optimizer_cpu_offload": True},
    "light": {"grad_reduce_in_fp32": False, "use_precision_aware_optimizer": True, "exp_avg_dtype": "bf16"},
}
LAYOUTS = 60


def asked(model: str, **values: Any) -> Problem:
    defaults: dict[str, Any] = {"gpus": 16, "budget_bytes": 80 * GIB, "seq_length": 4096, "global_batch_size": 64}
    machine = {"gpu": gpu(), "gpus_per_node": 8, "nvlink_domain": 8}
    return Problem(model=load_model(model), **machine, **{**defaults, "precision": "bf16", **values})


@lru_cache
def some_layouts(model: str) -> list[Layout]:
    """Any layouts whose meshes cover the GPUs."""
    seen = list(enumeration.candidates(asked(model)))
    return Random(0).sample(seen, LAYOUTS)


@pytest.mark.parametrize(
    ("switches", "values"),
    [*((name, {}) for name in SWITCHES), ("defaults", {"task": "lora"}), ("defaults", {"allow_borderline": True})],
    ids=[*SWITCHES, "lora", "borderline"],
)
@pytest.mark.parametrize("model", MODELS)
def test_what_fits_is_on_gpus_enough(model: str, switches: str, values: dict[str, Any]) -> None:
    settings = Settings(**SWITCHES[switches])
    problem, tried = asked(model, settings=settings, **values), 0
    for layout in some_layouts(model):
        report = memory_report(problem, replace(layout, settings=settings))
        if report is not None:
            tried += 1
            held = report.low_bytes if problem.allow_borderline else report.high_bytes
            assert fewest_gpus(replace(problem, budget_bytes=held)) <= problem.gpus, layout
    assert tried >= LAYOUTS // 2


def test_the_state_of_a_model_lies_on_some_gpus_at_least() -> None:
    """671 billion parameters at 18 bytes are 11.2 TiB: 143 times 80 GiB, and 5% lie fragmented."""
    problem = asked("deepseek-v3", gpus=96)
    assert 143 * 1.05 <= fewest_gpus(problem) <= 143 * 1.12
    assert fewest_gpus(replace(problem, budget_bytes=problem.budget_bytes * 2)) < fewest_gpus(problem)
    assert fewest_gpus(asked("llama-3.2-1b")) == 1
