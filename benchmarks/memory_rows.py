"""Rows with measured memory: where it was measured, what ran, and the table of runs that most files are.

Degrees, recompute and switches stand in columns, a model by name, a peak in GiB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.row_layouts import layout_of, problem_of, recompute_words
from benchmarks.row_names import DEEPEST, gpu_named, model_named, only_decoders, precision_named, shortened
from benchmarks.rows import Row, Skipped, number, real, text, truth
from constraints.layout import Layout, Settings
from constraints.problem import Problem
from models_catalog.schema import ModelSpec

__all__ = ["Measured", "measured_run"]


@dataclass(frozen=True)
class Measured:
    """Memory that PyTorch reported: where it stands, what ran, and on which pipeline stage (``None``: the fullest).

    ``peak_gib`` is ``None`` where a run only ran out. ``moment`` is ``peak``, ``resting`` (what lies there between steps)
    or ``first`` (the peak of the first iteration, before the optimizer has any state).
    """

    name: str
    source: str
    problem: Problem
    layout: Layout
    stage: int | None
    peak_gib: float | None
    ran_out: bool
    moment: str = "peak"

    @property
    def key(self) -> tuple[object, ...]:
        """Rows of one configuration count once."""
        return (self.problem.model, self.problem.gpus, self.problem.seq_length, self.layout, self.stage, self.moment)


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
    peak, ran_out = real(row, "peak_alloc_GiB"), text(row, "fits") == "0"
    if peak is None and not ran_out:
        raise Skipped("no measured peak")
    only_decoders(name.split(":")[0], name)
    if ":" in name:
        raise Skipped("only the name of a test, no architecture")
    gpus, seq = number(row, "num_gpus"), number(row, "seq")
    if gpus is None:
        raise Skipped("unknown world size")
    if "not megatron" in text(row, "notes").lower():
        raise Skipped("not Megatron")
    if "theory" in text(row, "gpu").lower():
        raise Skipped("an analysis, not a run")
    gpu, model = gpu_named(text(row, "gpu")), _model(row)
    if number(row, "tp") is None or number(row, "pp") is None:
        raise Skipped("degrees unknown")
    if seq is None:
        raise Skipped("sequence length unknown")
    overrides = text(row, "overrides") + " " + text(row, "notes")
    settings = Settings(
        use_distributed_optimizer=text(row, "dist_opt") != "0",
        cross_entropy_fusion_impl="te",
        **SOURCES.get(text(row, "id"), {}) | _switches(overrides),
    )
    problem = problem_of(
        model,
        gpu,
        gpus,
        seq,
        settings,
        precision=precision_named(text(row, "precision")),
        task="lora" if "lora" in overrides.lower() or "peft" in name.lower() else "pretrain",
        transformer_engine=_engine(overrides),
    )
    vpp = number(row, "vp")
    layout = layout_of(
        problem,
        {
            **{key: number(row, key) for key in ("tp", "pp", "cp", "ep", "etp", "mbs", "gbs")},
            "vpp": vpp if vpp and vpp > 1 else None,
            "sp": truth(row, "sp") or None,
            **recompute_words(text(row, "recompute"), unnamed=("core_attn",)),
        },
    )
    stage = _stage(text(row, "stage_or_rank"), layout)
    return Measured(name, text(row, "id"), problem, layout, stage, peak, ran_out, _moment(text(row, "notes")))


def _model(row: Row) -> ModelSpec:
    """The catalog's entry, with the row's own depth and width."""
    model = model_named(text(row, "model"))
    layers, hidden = number(row, "layers", most=DEEPEST), number(row, "hidden")
    if layers and layers != model.num_layers:
        model = shortened(model, layers)
    return replace(model, hidden_size=hidden) if hidden and hidden != model.hidden_size else model


def _stage(words: str, layout: Layout) -> int | None:
    """The pipeline stage that was measured: ``pp stage 1``, ``rank 0``, ``last rank``; ``None`` where none is named."""
    stage, rank = re.search(r"(?:stage|pp rank) (\d+)", words), re.match(r"rank (\d+)", words)
    found = int(stage[1]) if stage else int(rank[1]) * layout.pp // layout.gpus if rank else None
    if found is not None and found >= layout.pp:
        raise Skipped("a stage that the pipeline does not have")
    return layout.pp - 1 if words.startswith("last") else found


def _moment(notes: str) -> str:
    if "not the peak" in notes:
        return "resting"
    return "first" if re.search(r"after iter(ation)? 1\b", notes) else "peak"


def _engine(overrides: str) -> tuple[int, int]:
    """The Transformer Engine release that a row names; the releases in use when the rows were taken are older than 2.20."""
    named = re.search(r"TE\s?(\d+)\.(\d+)", overrides)
    return (int(named[1]), int(named[2])) if named else (2, 11)


def _switches(overrides: str) -> dict[str, Any]:
    words = overrides.lower()
    out: dict[str, Any] = {}
    if "hybridep" in words or "deepep" in words:
        backend = "hybridep" if "hybridep" in words else "deepep"
        out |= {"moe_token_dispatcher_type": "flex", "moe_flex_dispatcher_backend": backend}
    if "cuda graph" in words:
        out |= {"cuda_graph_impl": "transformer_engine"}
    if "bf16 grad reduce" in words:
        out |= {"grad_reduce_in_fp32": False}
    if "precision-aware" in words:
        out |= {"use_precision_aware_optimizer": True}
    if fraction := re.search(r"offload_fraction=(\d+(?:\.\d+)?)", words):
        out |= {"optimizer_cpu_offload": True, "optimizer_offload_fraction": float(fraction[1])}
    if "fsdp" in words:
        out |= {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"}
    return out
