"""From a line of ``meshwright check --batch`` to the Megatron Bridge configuration that a training job would make of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

__all__ = ["Job", "NotDrivable", "UnknownField", "configuration", "is_latent"]

CATALOG_ONLY = frozenset(
    (
        "name",
        "norms_per_layer",
        "qk_layernorm_all_heads",
        "window_num_attention_heads",
        "window_num_query_groups",
        "window_kv_channels",
        "mtp_dense",
        "hf_id",
        "family",
        "aliases",
        "total_parameters",
        "active_parameters",
        "parameters_exact",
        "parameters_include_mtp",
        "sources",
        "note",
        "max_position_embeddings",
        "csa_compress_ratios",
        "o_groups",
        "o_lora_rank",
        "enable_hyper_connections",
        "num_residual_streams",
        "position_embedding_type",
        "rope_type",
        "multi_latent_attention",
    )
)
"""Fields of a model's entry that are no field of a provider, or speak of positions, which decide no layout."""

LAYERS_OF_ANOTHER_HAND = frozenset({"csa_compress_ratios", "window_num_attention_heads", "window_num_query_groups"})
"""Fields of models whose layers are written outside Megatron-Core."""

PRECISIONS = {
    "bf16": "bf16_mixed",
    "fp16": "fp16_mixed",
    "fp8_cs": "bf16_with_fp8_current_scaling_mixed",
    "fp8_ds": "bf16_with_fp8_delayed_scaling_mixed",
    "fp8_sc": "bf16_with_fp8_subchannel_scaling_mixed",
    "fp8_mx": "bf16_with_mxfp8_mixed",
}

OLDER_NAMES = {"cuda_graph_modules": "cuda_graph_scope"}
"""What a field was called before."""

CONTAINERS = ("model", "train", "ddp", "dist", "optimizer", "dataset", "rerun_state_machine", "rng")


class UnknownField(Exception):
    """The configuration has no such field: Hydra refuses the override."""


class NotDrivable(Exception):
    """The real thing cannot be asked this here."""


@dataclass(frozen=True)
class Job:
    """What is asked: the model's entry, and the layout as Bridge overrides (``container.field`` to value)."""

    gpus: int
    gpu: str
    seq_length: int
    model: dict[str, Any]
    layout: dict[str, Any]
    precision: str = "bf16"
    task: str = "pretrain"

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> Job:
        return cls(**{f.name: line[f.name] for f in fields(cls) if f.name in line})


def is_latent(model: dict[str, Any]) -> bool:
    return bool(model.get("multi_latent_attention"))


def configuration(job: Job, overrides: list[str] | None = None) -> Any:
    """The ``ConfigContainer`` of ``job``; ``overrides`` (Hydra's words) go through Bridge's own parser instead of the
    job's layout.

    Raises :class:`UnknownField` for a field that this version does not have, :class:`NotDrivable` for a model that it
    does not build.
    """
    from megatron.bridge.training import config

    container = config.ConfigContainer(
        train=config.TrainingConfig(train_iters=10, micro_batch_size=1, global_batch_size=job.gpus),
        model=_provider(job),
        optimizer=config.OptimizerConfig(
            optimizer="adam", lr=1e-4, bf16=True, use_distributed_optimizer=True, clip_grad=0.0
        ),
        ddp=config.DistributedDataParallelConfig(use_distributed_optimizer=True, overlap_grad_reduce=False),
        scheduler=config.SchedulerConfig(),
        dataset=_dataset(job),
        logger=config.LoggerConfig(),
        tokenizer=config.TokenizerConfig(tokenizer_type="NullTokenizer", vocab_size=job.model["vocab_size"]),
        checkpoint=config.CheckpointConfig(),
        dist=config.DistributedInitConfig(use_gloo_process_groups=False),
        rng=config.RNGConfig(),
        rerun_state_machine=config.RerunStateMachineConfig(),
        mixed_precision=PRECISIONS[job.precision],
    )
    if overrides is None:
        for path, value in job.layout.items():
            _set(container, path, value)
        return container
    from megatron.bridge.training.utils.omegaconf_utils import process_config_with_overrides

    return process_config_with_overrides(container, cli_overrides=overrides)


def _set(container: Any, path: str, value: Any) -> None:
    section, _, name = path.partition(".")
    if section == "comm_overlap":
        if container.comm_overlap is None:
            from megatron.bridge.training.comm_overlap import CommOverlapConfig

            container.comm_overlap = CommOverlapConfig(tp_comm_overlap=False)
        owner = container.comm_overlap
    elif section in CONTAINERS:
        owner = getattr(container, section)
    elif section == "mixed_precision" and name:
        from megatron.bridge.training.mixed_precision import get_mixed_precision_config

        owner = container.mixed_precision = get_mixed_precision_config(container.mixed_precision)
    else:
        setattr(container, path, value)
        return
    name = name if hasattr(owner, name) else OLDER_NAMES.get(name, name)
    if not hasattr(owner, name):
        raise UnknownField(f"{path}: {type(owner).__name__} has no such field")
    setattr(owner, name, value)


def _provider(job: Job) -> Any:
    import torch

    model = job.model
    odd = sorted(LAYERS_OF_ANOTHER_HAND & {name for name, value in model.items() if value})
    if odd or model.get("enable_hyper_connections"):
        raise NotDrivable(f"layers are written outside Megatron-Core: {', '.join(odd) or 'enable_hyper_connections'}")
    make = _provider_class(job)
    given: dict[str, Any] = {"should_pad_vocab": True, "share_embeddings_and_output_weights": False}
    given |= {"add_bias_linear": False, "normalization": "RMSNorm", "seq_length": job.seq_length}
    given |= {"gradient_accumulation_fusion": True, "bias_dropout_fusion": False}  # kernels; Bridge looks for the first
    if model.get("num_moe_experts"):  # as every family of Bridge sets them
        given |= {"moe_grouped_gemm": True, "moe_token_dispatcher_type": "alltoall"}
    known = {f.name for f in fields(make)}
    for name, value in model.items():
        if name in CATALOG_ONLY or value is None:
            continue
        if name == "window_size":
            value = (value - 1, 0)
        if name not in known:
            raise UnknownField(f"model.{name}: {make.__name__} has no such field")
        given[name] = list(value) if isinstance(value, tuple) and name != "window_size" else value
    if given.get("gated_linear_unit"):
        given.setdefault("activation_func", torch.nn.functional.silu)
    if is_latent(model):
        given |= {"multi_latent_attention": True, "rope_type": model.get("rope_type") or "rope"}
    if not model.get("hybrid_override_pattern"):
        given["position_embedding_type"] = "rope"
    return make(**given, bf16=True, params_dtype=torch.bfloat16)


def _provider_class(job: Job) -> Any:
    if job.model.get("hybrid_override_pattern") is not None:
        try:
            from megatron.bridge.models.hybrid.hybrid_provider import HybridModelProvider
        except ImportError:
            from megatron.bridge.models.mamba.mamba_provider import MambaModelProvider as HybridModelProvider
        if is_latent(job.model) or set(job.model["hybrid_override_pattern"]) & set("D+G"):
            raise NotDrivable("a hybrid pattern with latent attention, sparse attention or gated delta nets")
        return HybridModelProvider
    if is_latent(job.model):
        from megatron.bridge.models.mla_provider import MLAModelProvider

        return MLAModelProvider
    from megatron.bridge.models.gpt_provider import GPTModelProvider

    return GPTModelProvider


def _dataset(job: Job) -> Any:
    from megatron.bridge.training import config

    if job.task == "pretrain":
        return config.MockGPTDatasetConfig(
            random_seed=1,
            reset_attention_mask=False,
            reset_position_ids=False,
            eod_mask_loss=False,
            seq_length=job.seq_length,
            num_dataset_builder_threads=1,
            data_sharding=True,
            dataloader_type="single",
            num_workers=0,
        )
    try:
        from megatron.bridge.data.builders.gpt_sft import GPTSFTDatasetConfig as FineTuning
    except ImportError:
        FineTuning = config.FinetuningDatasetConfig
    return FineTuning(dataset_root="/nowhere", seq_length=job.seq_length, dataloader_type="batch", num_workers=0)
