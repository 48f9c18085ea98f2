"""Where meshwright is stricter than Megatron on purpose: rules that hold though nothing raises, and why."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ADDITIONS", "NOT_DRIVEN", "addition"]

ADDITIONS = {
    "pipeline.pp-first-last-sane": "Megatron checks neither: a stage gets a negative number of layers, or a hybrid model on "
    "one rank ignores the counts.",
    "pipeline.hybrid-layout": "Megatron's hybrid model does not look at pipeline_model_parallel_layout: it would be ignored.",
    "hybrid.hybrid-split": "Before generation 0.19 a hybrid model silently loses the layers that do not come out evenly.",
    "experts.latent": "A latent width of 0 is 'not set' to the MoE layer and a width of 0 to its experts, which then fail in "
    "the first matrix product.",
    "optimizer.mfsdp-v1": "Megatron Bridge compares torch FSDP2 with dist.use_megatron_fsdp only: through ddp, both pass.",
    "optimizer.gtp": "Megatron Bridge does not pass the weight shards to parallel_state, whose conditions on data "
    "parallelism and optimizer instances would raise.",
    "precision.gpu-format": "Transformer Engine asks the device in the first forward pass, and the recordings end before it.",
    "context.cp-hier": "Before generation 0.19 nothing looks at a2a+p2p without hierarchical_context_parallel_sizes: "
    "attention then runs without context parallelism.",
}
"""Rule to the reason why it stands though Megatron accepts."""


def addition(broken: Iterable[str]) -> str | None:
    """The first of ``broken`` that is an addition: it alone makes the layout illegal to meshwright."""
    return next((rule for rule in broken if rule in ADDITIONS), None)


NOT_DRIVEN = {
    "context.hybrid-cp": "The questions do not set it.",
    "context.pack-mbs": "The questions do not pack: it is a property of data sets that would have to exist.",
    "context.dsa": "No model of the questions has sparse attention.",
    "sequence.sp-needs-tp": "Megatron Bridge drops sequence parallelism with tp = 1 since generation 0.19.",
    "recompute.mhc": "Models with hyper-connections are left out: Bridge takes their layers from elsewhere.",
    "recompute.rc-mtp": "No forward pass of an MTP layer is run.",
    "hybrid.mamba-heads": "Never alone: heads are a multiple of groups, and groups of tp.",
    "hybrid.mamba-fp8": "Alone only for head counts that groups and tp seldom leave.",
    "hybrid.hybrid-symbols": "Most such patterns are refused where they are read.",
    "hybrid.hybrid-pipes": "No pipes before generation 0.19: hybrid-no-pipes speaks first.",
    "feedforward.mtp-tp": "Seldom alone: a hidden size that tp does not divide mostly breaks heads or projections too.",
    "dispatch.a2a-overlap-mtp": "Its conditions seldom meet.",
    "dispatch.shared-overlap-flex": "Its conditions seldom meet.",
    "context.cp-channels": "Its conditions seldom meet.",
    "context.cp-mla-gather": "Its conditions seldom meet.",
    "experts.expert-bias-sigmoid": "Its conditions seldom meet.",
}
"""Rule to why the recordings hold it alone seldom or never."""
