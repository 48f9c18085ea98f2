"""A layout: every degree, the split of layers over pipeline stages, what is recomputed, and Megatron's other switches."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["BLOCK", "GROUPS", "NO_RECOMPUTE", "WHOLE_LAYERS", "Layout", "PipelineSplit", "Recompute", "Settings"]


@dataclass(frozen=True)
class PipelineSplit:
    """How layers are assigned to pipeline ranks and virtual stages, in the form a person wrote it.

    Megatron knows four forms, one of which is active: an explicit layout, first/last counts, embedding and loss counted
    as layers, or an even split. ``layout`` is kept as text in Megatron's layout language.
    """

    layout: str | None = None
    first: int | None = None
    last: int | None = None
    account_for_embedding: bool = False
    account_for_loss: bool = False

    @property
    def ends(self) -> str:
        """The first and last counts as a person writes them: ``first=3 and last=4``, or the one that is given."""
        given = (("first", self.first), ("last", self.last))
        return " and ".join(f"{name}={count}" for name, count in given if count is not None)

    @property
    def form(self) -> str:
        """``layout``, ``first-last``, ``account`` or ``even``: the one Megatron would use."""
        if self.layout is not None:
            return "layout"
        if self.first is not None or self.last is not None:
            return "first-last"
        if self.account_for_embedding or self.account_for_loss:
            return "account"
        return "even"


@dataclass(frozen=True)
class Recompute:
    """Which activations are dropped in the forward pass and computed again in the backward pass."""

    granularity: str | None = None
    method: str | None = None
    num_layers: int | None = None
    modules: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        return self.granularity == "full"

    @property
    def is_uniform(self) -> bool:
        """True if every layer is computed again: full recompute in groups of :attr:`group` layers."""
        return self.is_full and self.method == "uniform"

    @property
    def group(self) -> int:
        """Layers between two inputs that uniform recompute keeps."""
        return max(1, self.num_layers or 1) if self.is_uniform else 1

    @property
    def first(self) -> int:
        """Layers at the start of each chunk that block recompute computes again; 0 with any other method."""
        return self.num_layers or 0 if self.is_full and self.method == "block" else 0

    @property
    def by_chunk(self) -> bool:
        """True if what is kept depends on how long each chunk is, and not only on how many layers a rank has alive."""
        return self.first > 0 or self.group > 1

    def drops(self, module: str) -> bool:
        """True if the activations of ``module`` (a name of ``recompute_modules``) are computed again."""
        return self.granularity == "selective" and module in self.modules

    def __str__(self) -> str:
        if self.granularity is None:
            return "none"
        if self.first:
            return f"full (block, {self.first} layer{'s' * (self.first > 1)} a chunk)"
        if self.group > 1:
            return f"full (uniform, groups of {self.group} layers)"
        if self.is_full:
            how = ", ".join(str(word) for word in (self.method, self.num_layers) if word is not None)
            return f"full ({how})" if how else "full"
        return f"selective ({', '.join(self.modules) or 'core_attn'})"


NO_RECOMPUTE = Recompute()
WHOLE_LAYERS = Recompute("full", "uniform", 1)
"""Each layer by itself: what a layer costs that block recompute computes again."""
BLOCK = Recompute("full", "block", 1)
"""Stands for block recompute where the count of layers is a decision of its own."""
GROUPS = Recompute("full", "uniform", 2)
"""Stands for uniform recompute in groups of several layers where their size is a decision of its own."""


@dataclass(frozen=True)
class Settings:
    """Megatron switches that decide legality or memory but are not degrees. Defaults are Megatron Bridge's.

    ``None`` is "not set".

    The solver takes them as given (default, or pinned by the user); ``check`` reads them from the layout.
    """

    cp_comm_type: str | tuple[str, ...] | None = None
    hierarchical_context_parallel_sizes: tuple[int, ...] | None = None
    hybrid_context_parallel: bool = False
    microbatch_group_size_per_vp_stage: int | None = None
    num_distributed_optimizer_instances: int = 1
    use_tp_pp_dp_mapping: bool = False
    tensor_parallel_num_weight_shards: int = 1
    use_distributed_optimizer: bool = True
    overlap_grad_reduce: bool | None = None
    overlap_param_gather: bool = False
    overlap_param_gather_with_optimizer_step: bool = False
    use_megatron_fsdp: bool = False
    use_megatron_fsdp_v2: bool = False
    use_torch_fsdp2: bool = False
    data_parallel_sharding_strategy: str | None = None
    moe_token_dispatcher_type: str = "alltoall"
    moe_flex_dispatcher_backend: str | None = None
    moe_shared_expert_overlap: bool = False
    moe_expert_capacity_factor: float | None = None
    moe_pad_expert_input_to_capacity: bool = False
    moe_router_padding_for_quantization: bool = False
    variable_seq_lengths: bool = False
    overlap_moe_expert_parallel_comm: bool = False
    delay_wgrad_compute: bool = False
    overlap_p2p_comm: bool | None = None
    batch_p2p_comm: bool | None = None
    overlap_p2p_comm_warmup_flush: bool = False
    tp_comm_overlap: bool = False
    distribute_saved_activations: bool = False
    cpu_offloading: bool = False
    cpu_offloading_num_layers: int = 0
    fine_grained_activation_offloading: bool = False
    cuda_graph_impl: str = "none"
    cuda_graph_modules: tuple[str, ...] = ()
    use_te_rng_tracker: bool | None = None
    check_for_nan_in_loss: bool | None = None
    defer_embedding_wgrad_compute: bool = False
    wgrad_deferral_limit: int = 0
    gradient_accumulation_fusion: bool = True
    first_last_layers_bf16: bool = False
    num_layers_at_start_in_bf16: int = 1
    num_layers_at_end_in_bf16: int = 1
    fp8_param_gather: bool = False
    reuse_grad_buf_for_mxfp8_param_ag: bool = False
    dataset_seq_length: int | None = None
    optimizer: str = "adam"
    grad_reduce_in_fp32: bool = True
    use_precision_aware_optimizer: bool = False
    main_grads_dtype: str = "fp32"
    main_params_dtype: str = "fp32"
    exp_avg_dtype: str = "fp32"
    exp_avg_sq_dtype: str = "fp32"
    optimizer_cpu_offload: bool = False
    optimizer_offload_fraction: float = 1.0
    cross_entropy_loss_fusion: bool = True
    cross_entropy_fusion_impl: str = "te"
    attention_backend: str | None = None
    hidden_dropout: float = 0.0
    attention_dropout: float = 0.0
    calculate_per_token_loss: bool | None = None
    average_in_collective: bool | None = None
    packed_sequences: str | None = None

    def changed(self) -> dict[str, Any]:
        """The switches that differ from Megatron Bridge's defaults, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def microbatch_group(self, pp: Any) -> Any:
        """Micro-batches that a rank sends through one virtual stage before it turns to the next: ``pp`` unless set."""
        return self.microbatch_group_size_per_vp_stage or pp


@dataclass(frozen=True)
class Layout:
    """All degrees and what goes with them. Built by ``solver`` (an answer) or by ``constraints.reading`` (a person's words).

    The dense mesh is ``tp x cp x dp`` inside a pipeline stage, the expert mesh ``etp x ep x edp`` over the same GPUs.
    ``vpp`` is ``None`` without interleaving; 1 is kept apart, because Megatron then uses the interleaved schedule.
    Degrees that do not come out (say 12 GPUs over tp=8) are kept as written, rounded down where derived: the rules say
    what is wrong with them.
    """

    tp: int = 1
    pp: int = 1
    vpp: int | None = None
    cp: int = 1
    ep: int = 1
    etp: int = 1
    dp: int = 1
    edp: int = 1
    sequence_parallel: bool = False
    micro_batch_size: int = 1
    num_microbatches: int = 1
    global_batch_size: int = 1
    gpus: int = 1
    split: PipelineSplit = field(default_factory=PipelineSplit)
    recompute: Recompute = NO_RECOMPUTE
    settings: Settings = field(default_factory=Settings)

    @property
    def chunks_per_rank(self) -> int:
        """Virtual stages on each pipeline rank, 1 without interleaving."""
        return self.vpp or 1

    @property
    def interleaved(self) -> bool:
        """True if Megatron would run the interleaved schedule: ``vpp`` is set (1 included) and ``pp > 1``."""
        return self.vpp is not None and self.pp > 1

    @property
    def sequence_shards(self) -> int:
        """Ways in which the residual stream is split over tensor ranks: ``tp`` with sequence parallelism, else 1."""
        return self.tp if self.sequence_parallel else 1

    @property
    def stage_gpus(self) -> int:
        """GPUs of one pipeline stage, as the dense mesh counts them."""
        return self.tp * self.cp * self.dp

    @property
    def recompute_layers(self) -> int:
        """Layers at the start of each chunk that are computed again while the rest is not (block recompute), else 0."""
        return self.recompute.first

    @property
    def recompute_group(self) -> int:
        """Layers between two inputs that full uniform recompute keeps; 1 with any other."""
        return self.recompute.group

    @property
    def microbatch_group(self) -> int:
        """Micro-batches that a rank sends through one virtual stage before it turns to the next (default ``pp``)."""
        group: int = self.settings.microbatch_group(self.pp)
        return group
