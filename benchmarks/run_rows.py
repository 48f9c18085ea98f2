"""Rows of a table of runs: degrees, recompute and switches in columns, a model by name, a peak in GiB."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.row_words import only_decoders, precision_of, recompute_words
from benchmarks.rows import (
    Measured,
    Row,
    Skipped,
    catalog_model,
    gpu_named,
    layout_of,
    number,
    problem_of,
    shortened,
    text,
)
from constraints.layout import Settings

__all__ = ["measured_run"]

SOURCES: dict[str, dict[str, Any]] = {
    # SimuMax v1.2 runs context parallelism as an all-to-all (its docs/b200 release notes)
    "simumax-b200": {"cp_comm_type": "a2a"},
    # runs of Megatron Bridge's performance recipes, which reduce gradients in bf16 (perf_recipes/, 067f987)
    "bridge-nemotron-nano": {"grad_reduce_in_fp32": False},
    "bridge-qwen3-30b": {"grad_reduce_in_fp32": False},
    "bridge-gptoss-120b": {"grad_reduce_in_fp32": False},
}
"""What a source says once for all its rows."""


def measured_run(row: Row) -> Measured:
    """The row as a measurement. Raises :class:`~benchmarks.rows.Skipped`."""
    name = text(row, "model")
    peak, ran_out = text(row, "peak_alloc_GiB"), text(row, "fits") == "0"
    if not peak and not ran_out:
        raise Skipped("no measured peak")
    only_decoders(name.split(":")[0], name)
    if ":" in name:
        raise Skipped("only the name of a test, no architecture")
    gpus = number(row, "num_gpus")
    if gpus is None:
        raise Skipped("unknown world size")
    if "not megatron" in text(row, "notes").lower():
        raise Skipped("not Megatron")
    if "theory" in text(row, "gpu").lower():
        raise Skipped("an analysis, not a run")
    gpu = gpu_named(text(row, "gpu"))
    model = catalog_model(name)
    layers = number(row, "layers")
    if layers and layers != model.num_layers:
        model = shortened(model, layers)
    if not text(row, "tp") or not text(row, "pp"):
        raise Skipped("degrees unknown")
    seq = number(row, "seq")
    if seq is None:
        raise Skipped("sequence length unknown")
    overrides = text(row, "overrides") + " " + text(row, "notes")
    precision = precision_of(text(row, "precision"))
    settings = Settings(
        use_distributed_optimizer=text(row, "dist_opt") != "0",
        cross_entropy_fusion_impl="te",
        **SOURCES.get(text(row, "id"), {}) | _switches(overrides),
    )
    task = "lora" if "lora" in overrides.lower() or "peft" in name.lower() else "pretrain"
    problem = problem_of(
        model, gpu, gpus, seq, settings, precision=precision, task=task, transformer_engine=_engine(overrides)
    )
    vpp = number(row, "vp")
    layout = layout_of(
        problem,
        {
            **{key: number(row, key) for key in ("tp", "pp", "cp", "ep", "etp", "mbs", "gbs")},
            "vpp": vpp if vpp and vpp > 1 else None,
            "sp": text(row, "sp") == "1" or None,
            **recompute_words(text(row, "recompute")),
        },
    )
    stage = re.search(r"stage (\d+)", text(row, "stage_or_rank"))
    first = 0 if text(row, "stage_or_rank").startswith("rank 0") else None
    last = layout.pp - 1 if text(row, "stage_or_rank").startswith("last") else first
    rank = int(stage[1]) if stage else last
    measured, moment = float(peak) if peak else None, _moment(text(row, "notes"))
    return Measured(name, text(row, "id"), problem, layout, rank, measured, ran_out, moment)


def _moment(notes: str) -> str:
    if "not the peak" in notes:
        return "resting"
    return "first" if re.search(r"after iter(ation)? 1\b", notes) else "peak"


def _engine(overrides: str) -> tuple[int, int]:
    """The Transformer Engine release that a row names; the releases in use when the rows were taken are older than 2.20."""
    named = re.search(r"TE\s?(\d+)\.(\d+)", overrides)
    return (int(named[1]), int(named[2])) if named else (2, 11)


def _switches(overrides: str) -> dict[str, Any]:
    words, out = overrides.lower(), {}
    if "hybridep" in words or "deepep" in words:
        backend = "hybridep" if "hybridep" in words else "deepep"
        out |= {"moe_token_dispatcher_type": "flex", "moe_flex_dispatcher_backend": backend}
    if "cuda graph" in words:
        out |= {"cuda_graph_impl": "transformer_engine"}
    if "bf16 grad reduce" in words:
        out |= {"grad_reduce_in_fp32": False}
    if "precision-aware" in words:
        out |= {"use_precision_aware_optimizer": True}
    if fraction := re.search(r"offload_fraction=([\d.]+)", words):
        out |= {"optimizer_cpu_offload": True, "optimizer_offload_fraction": float(fraction[1])}
    if "fsdp" in words:
        out |= {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"}
    return out
