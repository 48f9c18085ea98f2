"""What every emitter writes, as Bridge containers and fields: one list, so that no format forgets a field."""

from __future__ import annotations

from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.spelling import spelling_of

__all__ = ["MIXED_PRECISION", "bridge_fields"]

MIXED_PRECISION = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "fp8_cs": "bf16_with_fp8_current_scaling_mixed",
    "fp8_ds": "bf16_with_fp8_delayed_scaling_mixed",
    "fp8_sc": "bf16_with_fp8_subchannel_scaling_mixed",
    "fp8_mx": "bf16_with_mxfp8_mixed",
    "nvfp4": "bf16_with_nvfp4_mixed",
}
"""Precision to Bridge's recipe (``src/megatron/bridge/training/mixed_precision.py``)."""


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
    if x.recompute.granularity == "selective":
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
    if problem.model.mtp_layers or problem.origin("mtp_num_layers").kind != "catalog":
        out.append(("model.mtp_num_layers", problem.model.mtp_num_layers))
    if x.interleaved:  # the interleaved schedule takes overlapped sends or batched ones, not both
        out += [("comm_overlap.overlap_p2p_comm", True), ("comm_overlap.batch_p2p_comm", False)]
    written = {path for path, _ in out} | {"ddp.use_distributed_optimizer"}
    for name, value in x.settings.changed().items():
        spelling = spelling_of(name)
        assert spelling is not None
        if spelling.section and spelling.path not in written:
            out.append((spelling.path, list(value) if isinstance(value, tuple) else value))
    return out
