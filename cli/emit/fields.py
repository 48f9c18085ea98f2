"""What every emitter writes, as Bridge containers and fields: one list, so that no format forgets a field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from constraints.context import loss_as_said
from constraints.layout import Layout, Settings
from constraints.precision_names import MIXED_PRECISION
from constraints.problem import Problem
from constraints.spelling import Spelling, spelling_of

__all__ = ["OVERLAID", "bridge_fields", "emitted_settings", "says_mtp", "spelled", "switches", "title", "unspeakable"]

OVERLAID = (
    "tp_comm_overlap",
    "overlap_p2p_comm",
    "batch_p2p_comm",
    "overlap_grad_reduce",
    "overlap_param_gather",
    "overlap_param_gather_with_optimizer_step",
    "defer_embedding_wgrad_compute",
    "wgrad_deferral_limit",
    "overlap_moe_expert_parallel_comm",
    "delay_wgrad_compute",
)
"""Switches that a recipe's ``comm_overlap``, where it has one, lays over those of the model, ddp and optimizer.

``comm_overlap`` is ``None`` in many recipes, and then takes no override (Bridge's configuration is closed to new keys), so
they are written where they always exist (NVIDIA-NeMo/Megatron-Bridge@067f987 ``training/comm_overlap.py``,
``training/utils/omegaconf_utils.py::parse_hydra_overrides``).
"""


def title(problem: Problem, layout: Layout) -> str:
    """What an emitted file says first."""
    return f"{problem.model.name} on {layout.gpus} x {problem.gpu.name}, written by meshwright"


def spelled(name: str) -> Spelling:
    """The spelling of a word of ours."""
    spelling = spelling_of(name)
    if spelling is None:
        raise KeyError(name)
    return spelling


def emitted_settings(problem: Problem, layout: Layout) -> Settings:
    """The switches that Bridge is told. Interleaved stages send overlapped, as Bridge's CommOverlapConfig would have them.

    Megatron-Core's own default batches their sends; it takes one or the other, never both.
    """
    settings = loss_as_said(problem, layout)
    unsaid = settings.overlap_p2p_comm is None and settings.batch_p2p_comm is None
    if unsaid and layout.interleaved and layout.chunks_per_rank > 1:
        return replace(settings, overlap_p2p_comm=True, batch_p2p_comm=False)
    return settings


def switches(settings: Settings) -> dict[str, Any]:
    """Every switch that is not at its default, tuples as lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.changed().items()}


def unspeakable(layout: Layout) -> dict[str, Any]:
    """Switches that no Bridge field holds: an emitted file says them to ``check`` alone."""
    return {name: value for name, value in switches(layout.settings).items() if not spelled(name).section}


def says_mtp(problem: Problem) -> bool:
    """True if the number of MTP layers is to be written: the model has some, or somebody said how many."""
    return bool(problem.model.mtp_num_layers) or "mtp_num_layers" in problem.origins


def bridge_fields(problem: Problem, layout: Layout) -> list[tuple[str, Any]]:
    """``(container.field, value)`` in the order in which they are written.

    Everything that a recipe may have set otherwise is said, nulls included: a pasted layout must not inherit half of
    another one. ``expert_tensor_parallel_size`` always stands there: Megatron-Core and Bridge default it differently.
    """
    x, split = layout, layout.split
    out: list[tuple[str, Any]] = [
        ("model.tensor_model_parallel_size", x.tp),
        ("model.pipeline_model_parallel_size", x.pp),
        ("model.virtual_pipeline_model_parallel_size", x.vpp),
        ("model.context_parallel_size", x.cp),
        ("model.expert_model_parallel_size", x.ep),
        ("model.expert_tensor_parallel_size", x.etp),
        ("model.sequence_parallel", x.sequence_parallel),
        ("model.pipeline_model_parallel_layout", split.layout),
        ("model.num_layers_in_first_pipeline_stage", split.first),
        ("model.num_layers_in_last_pipeline_stage", split.last),
        ("model.account_for_embedding_in_pipeline_split", split.account_for_embedding),
        ("model.account_for_loss_in_pipeline_split", split.account_for_loss),
        ("model.recompute_granularity", x.recompute.granularity),
        ("model.recompute_method", x.recompute.method),
        ("model.recompute_num_layers", x.recompute.num_layers),
    ]
    if x.recompute.modules:
        out.append(("model.recompute_modules", list(x.recompute.modules)))
    out += [
        ("train.micro_batch_size", x.micro_batch_size),
        ("train.global_batch_size", x.global_batch_size),
        ("model.seq_length", problem.seq_length),
        ("dataset.seq_length", problem.seq_length),
        ("mixed_precision", MIXED_PRECISION[problem.precision]),
        ("ddp.use_distributed_optimizer", x.settings.use_distributed_optimizer),
    ]
    if problem.model.is_moe:
        out.append(("model.moe_token_dispatcher_type", x.settings.moe_token_dispatcher_type))
    if says_mtp(problem):
        out.append(("model.mtp_num_layers", problem.model.mtp_num_layers))
    written = {path for path, _ in out}
    for name, value in switches(emitted_settings(problem, layout)).items():
        spelling = spelled(name)
        if spelling.section and spelling.path not in written:
            out.append((spelling.path, 1 + value if spelling.kind == "version 2" else value))
    return out
