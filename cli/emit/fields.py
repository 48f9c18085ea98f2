"""What every emitter writes, as Bridge containers and fields: one list, so that no format forgets a field."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from cli.read.files import MARK
from constraints.context import loss_as_said
from constraints.dispatch import DEFAULT_BACKEND
from constraints.layout import Layout, Settings
from constraints.precision_names import MIXED_PRECISION, RECIPE_SWITCHES
from constraints.problem import Problem
from constraints.spelling import Spelling, spelling_of
from constraints.values import DTYPES

__all__ = [
    "OVERLAID",
    "TORCH_NAMES",
    "bridge_fields",
    "emitted_settings",
    "is_dtype",
    "laid_over",
    "remark",
    "remarks",
    "says_mtp",
    "spelled",
    "switches",
    "title",
]

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


TORCH_NAMES = {name: torch_name for torch_name, name in DTYPES.items()}
"""Number formats as PyTorch calls them; the last of several names counts, so fp8 is uint8."""

ALWAYS_SAID = (
    "num_distributed_optimizer_instances",
    "use_megatron_fsdp",
    "cuda_graph_impl",
    "optimizer",
    "grad_reduce_in_fp32",
    "use_precision_aware_optimizer",
    "main_grads_dtype",
    "main_params_dtype",
    "exp_avg_dtype",
    "exp_avg_sq_dtype",
    "optimizer_cpu_offload",
    "cross_entropy_loss_fusion",
    "cross_entropy_fusion_impl",
)
"""Switches that decide memory, time or legality and that recipes set otherwise: said at their defaults too."""
SAID_OF_EXPERTS = ("moe_shared_expert_overlap", "overlap_moe_expert_parallel_comm", "delay_wgrad_compute")
"""The same for models with experts."""


def title(problem: Problem, layout: Layout) -> str:
    """What an emitted file says first."""
    return f"{_visible(problem.model.name)} on {layout.gpus} x {_visible(problem.gpu.name)}, written by meshwright"


def _visible(name: str) -> str:
    """A name as a comment can hold it: a line break in it would begin a line of the script."""
    return "".join(c if c.isprintable() else "?" for c in name)


def remark(name: str, value: Any) -> str:
    """The comment by which an emitted file says a word to ``check`` alone."""
    return f"{MARK}{shlex.quote(_visible(f'{name}={word(value)}'))}"


def word(value: Any) -> str:
    """A value as ``check`` reads it.

    >>> word(None), word(True), word([4, 2])
    ('null', 'true', '[4,2]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[" + ",".join(str(item) for item in value) + "]" if isinstance(value, list) else str(value)


def spelled(name: str) -> Spelling:
    """The spelling of a word of ours."""
    spelling = spelling_of(name)
    if spelling is None:
        raise KeyError(name)
    return spelling


def is_dtype(path: str) -> bool:
    """True if a field holds a number format."""
    spelling = spelling_of(path)
    return spelling is not None and spelling.kind == "dtype"


def emitted_settings(problem: Problem, layout: Layout) -> Settings:
    """The switches that Bridge is told. Interleaved stages send overlapped, as Bridge's CommOverlapConfig would have them.

    Megatron-Core's own default batches their sends; it takes one or the other, never both. ``flex`` names the backend that
    it was judged with: a recipe may say none, and Bridge then falls back to alltoall
    (``training/flex_dispatcher_backend.py::validate_flex_dispatcher_backend``).
    """
    settings = loss_as_said(problem, layout)
    if settings.calculate_per_token_loss and settings.average_in_collective is None:
        # Bridge takes no other beside it; its recipes say true.
        settings = replace(settings, average_in_collective=False)
    if settings.moe_token_dispatcher_type == "flex" and settings.moe_flex_dispatcher_backend is None:
        settings = replace(settings, moe_flex_dispatcher_backend=DEFAULT_BACKEND)
    unsaid = settings.overlap_p2p_comm is None and settings.batch_p2p_comm is None
    if unsaid and layout.interleaved and layout.chunks_per_rank > 1:
        return replace(settings, overlap_p2p_comm=True, batch_p2p_comm=False)
    return settings


def switches(settings: Settings, also: Iterable[str] = ()) -> dict[str, Any]:
    """Every switch that is not at its default, and those named in ``also``, tuples as lists."""
    names = {*settings.changed(), *also}
    values = {f.name: getattr(settings, f.name) for f in fields(Settings) if f.name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def laid_over(problem: Problem, layout: Layout) -> dict[str, Any]:
    """Switches of the layout that Bridge's recipe of the precision would lay its own value over.

    They hold only where they are said to the ``MixedPrecisionConfig`` itself (NVIDIA-NeMo/Megatron-Bridge@067f987
    ``training/mixed_precision.py::update_config_with_precision_overrides``).
    """
    said = switches(layout.settings, ALWAYS_SAID)
    return {
        name: said[name]
        for name, value in RECIPE_SWITCHES[problem.precision].items()
        if name in said and said[name] != value
    }


def remarks(problem: Problem, layout: Layout) -> list[str]:
    """The comments of both Bridge formats: what the layout was not judged with, and switches that no Bridge field holds,
    which are said to ``check`` alone."""
    unspeakable = {name: value for name, value in switches(layout.settings).items() if not spelled(name).section}
    notes = [f"# {note}" for note in _not_judged(problem, layout)]
    return [*notes, *(remark(name, value) for name, value in unspeakable.items())]


def _not_judged(problem: Problem, layout: Layout) -> list[str]:
    """A note of what Bridge's recipe of the precision does that the layout was not judged with; nothing if there is none."""
    others = [
        f"{spelled(name).field}={word(value)}"
        for name, value in RECIPE_SWITCHES[problem.precision].items()
        if name not in ALWAYS_SAID and name not in layout.settings.changed() and value != getattr(Settings(), name)
    ]
    if not others:
        return []
    return [f"{MIXED_PRECISION[problem.precision]} has {', '.join(others)}, which this layout was not judged with"]


def _said(problem: Problem, layout: Layout, told: Settings) -> list[str]:
    """Switches that are said though they are at their defaults."""
    names = list(ALWAYS_SAID)
    if problem.model.is_moe:
        names += SAID_OF_EXPERTS
    if layout.cp > 1:
        names.append("cp_comm_type")
    if layout.interleaved:
        names.append("microbatch_group_size_per_vp_stage")
    if told.calculate_per_token_loss:
        names.append("average_in_collective")
    if not layout.settings.use_distributed_optimizer:
        names.append("overlap_param_gather")
    return names


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
    out += _beside_optimizer(x.settings)
    if problem.model.is_moe:
        out.append(("model.moe_token_dispatcher_type", x.settings.moe_token_dispatcher_type))
    if says_mtp(problem):
        out.append(("model.mtp_num_layers", problem.model.mtp_num_layers))
    written = {path for path, _ in out}
    told = emitted_settings(problem, layout)
    for name, value in switches(told, _said(problem, layout, told)).items():
        spelling = spelled(name)
        if spelling.section and spelling.path not in written:
            out.append((spelling.path, 1 + value if spelling.kind == "version 2" else value))
    return out


def _beside_optimizer(settings: Settings) -> list[tuple[str, Any]]:
    """What Bridge asks of other fields with the optimizer and FSDP (``training/config.py``).

    Where ddp and optimizer differ in these two, it sets both; checkpoints of Megatron FSDP have a format of their own, and
    version 2 takes neither checkpoints nor clipping.
    """
    out: list[tuple[str, Any]] = []
    if not settings.use_distributed_optimizer:
        out.append(("optimizer.use_distributed_optimizer", False))
        out.append(("optimizer.overlap_param_gather", settings.overlap_param_gather))
    if settings.use_megatron_fsdp_v2:
        out += [("checkpoint.save", None), ("checkpoint.load", None), ("optimizer.clip_grad", 0.0)]
    elif settings.use_megatron_fsdp:
        out.append(("checkpoint.ckpt_format", "fsdp_dtensor"))
    return out
