"""Problems and layouts with a calibration of round numbers, so that tests do not move with a fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from constraints.layout import Layout, Settings
from constraints.pipeline.placement import place
from constraints.problem import GIB, Problem
from constraints.timing.calibration import Calibration, constants
from models_catalog.loader import load_gpu, load_model

REFERENCE = {
    "gemm.hopper.bf16": 0.68,
    "gemm.hopper.fp8": 0.72,
    "attention.hopper": 0.479,
    "attention.short_sequence": 1024,
    "small_k": 162,
    "hbm": 0.78,
    "cast.tensor": 11.6,
}


def calibrated(**changes: Any) -> Calibration:
    """The priors, with the values of the worked examples, and ``changes`` (dots in names as ``__``)."""
    values: dict[str, Any] = {constant.name: constant.prior for constant in constants()}
    return Calibration(values | REFERENCE | {name.replace("__", "."): value for name, value in changes.items()})


def problem(model: str, gpu: str, gpus: int, **changes: Any) -> Problem:
    found = load_gpu(gpu)
    values: dict[str, Any] = {
        "model": load_model(model),
        "gpu": found,
        "gpus": gpus,
        "gpus_per_node": found.gpus_per_node,
        "nvlink_domain": found.nvlink_domain,
        "budget_bytes": int(found.usable_gib * GIB),
        "seq_length": 4096,
        "settings": Settings(),
        "calibration": calibrated(),
    }
    return Problem(**(values | changes))


def layout(p: Problem, **changes: Any) -> Layout:
    """A placed layout; ``dp``, ``edp`` and the batch follow from the degrees and ``m``."""
    x = Layout(**changes, gpus=p.gpus)
    dp = p.gpus // (x.tp * x.cp * x.pp)
    found = place(p.model, x.pp, x.chunks_per_rank)
    assert found is not None
    return replace(
        x,
        dp=dp,
        edp=p.gpus // (x.etp * x.ep * x.pp),
        global_batch_size=dp * x.micro_batch_size * x.num_microbatches,
        split=found[1],
        settings=p.settings,
    )
