"""One table of every layout word: its short names, Megatron's field, where Bridge keeps it, Megatron-LM's flags.

Sources: NVIDIA/Megatron-LM@d98e8a6 ``megatron/training/arguments.py``, ``megatron/training/argument_utils.py`` (a
field's flag is its name in hyphens unless its metadata says otherwise), ``megatron/core/model_parallel_config.py`` and
``transformer/transformer_config.py``; NVIDIA-NeMo/Megatron-Bridge@067f987 ``src/megatron/bridge/training/config.py``
and ``scripts/training/run_recipe.py`` (``-tp`` and its like).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from constraints.layout import Settings

__all__ = ["SPELLINGS", "Spelling", "canonical_name", "flag_of", "known_words", "spelling_of"]

LARGEST = 10**7


@dataclass(frozen=True)
class Spelling:
    """One word. ``kind`` is a key of ``constraints.values``. ``field`` is Megatron's and Bridge's name; ``section``
    Bridge's container (empty: not a Bridge field); ``flag`` Megatron-LM's, for a Boolean the one that sets it, and
    ``unflag`` the one that clears it (empty: there is none)."""

    name: str
    kind: str
    field: str
    section: str = "model"
    flag: str = ""
    unflag: str = ""
    also: tuple[str, ...] = ()
    least: int = 1
    most: int = LARGEST

    @property
    def path(self) -> str:
        """The Bridge override, as in ``model.tensor_model_parallel_size``."""
        return f"{self.section}.{self.field}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every undotted word for it."""
        return (self.name, self.field, *self.also)


_DECISIONS = (
    Spelling("tp", "int", "tensor_model_parallel_size", flag="--tensor-model-parallel-size", also=("-tp",)),
    Spelling("pp", "int", "pipeline_model_parallel_size", flag="--pipeline-model-parallel-size", also=("-pp",)),
    Spelling(
        "vpp",
        "int",
        "virtual_pipeline_model_parallel_size",
        flag="--num-virtual-stages-per-pipeline-rank",
        also=("vp", "virtual_pipeline_size", "-vp", "--virtual-pipeline-model-parallel-size"),
    ),
    Spelling("cp", "int", "context_parallel_size", flag="--context-parallel-size", also=("-cp",)),
    Spelling("ep", "int", "expert_model_parallel_size", flag="--expert-model-parallel-size", also=("-ep",)),
    Spelling("etp", "int", "expert_tensor_parallel_size", flag="--expert-tensor-parallel-size", also=("-etp",)),
    Spelling("dp", "int", "data_parallel_size", section=""),
    Spelling("edp", "int", "expert_data_parallel_size", section=""),
    Spelling("sp", "bool", "sequence_parallel", flag="--sequence-parallel"),
    Spelling("mbs", "int", "micro_batch_size", section="train", flag="--micro-batch-size", also=("-mb",)),
    Spelling("gbs", "int", "global_batch_size", section="train", flag="--global-batch-size", also=("-gb",)),
    Spelling("m", "int", "num_microbatches", section="", also=("ga", "gradient_accumulation_steps")),
)

_SPLIT = (
    Spelling(
        "layout",
        "layout",
        "pipeline_model_parallel_layout",
        flag="--pipeline-model-parallel-layout",
        also=("pipeline_layout", "pp_layout"),
    ),
    Spelling(
        "first", "int", "num_layers_in_first_pipeline_stage", flag="--decoder-first-pipeline-num-layers", least=-LARGEST
    ),
    Spelling(
        "last", "int", "num_layers_in_last_pipeline_stage", flag="--decoder-last-pipeline-num-layers", least=-LARGEST
    ),
    Spelling(
        "account_for_embedding",
        "bool",
        "account_for_embedding_in_pipeline_split",
        flag="--account-for-embedding-in-pipeline-split",
    ),
    Spelling(
        "account_for_loss", "bool", "account_for_loss_in_pipeline_split", flag="--account-for-loss-in-pipeline-split"
    ),
)

_RECOMPUTE = (
    Spelling("recompute_granularity", "str", "recompute_granularity", flag="--recompute-granularity"),
    Spelling("recompute_method", "str", "recompute_method", flag="--recompute-method"),
    Spelling("recompute_num_layers", "int", "recompute_num_layers", flag="--recompute-num-layers", least=0),
    Spelling("recompute_modules", "strs", "recompute_modules", flag="--recompute-modules"),
)

_SECTIONS = {
    "num_distributed_optimizer_instances": "ddp",
    "use_distributed_optimizer": "ddp",
    "overlap_grad_reduce": "ddp",
    "overlap_param_gather": "ddp",
    "use_megatron_fsdp": "ddp",
    "use_megatron_fsdp_v2": "ddp",
    "data_parallel_sharding_strategy": "ddp",
    "average_in_collective": "ddp",
    "fp8_param_gather": "ddp",
    "reuse_grad_buf_for_mxfp8_param_ag": "ddp",
    "grad_reduce_in_fp32": "ddp",
    "optimizer": "optimizer",
    "use_precision_aware_optimizer": "optimizer",
    "main_grads_dtype": "optimizer",
    "main_params_dtype": "optimizer",
    "exp_avg_dtype": "optimizer",
    "exp_avg_sq_dtype": "optimizer",
    "optimizer_cpu_offload": "optimizer",
    "optimizer_offload_fraction": "optimizer",
    "use_tp_pp_dp_mapping": "dist",
    "use_torch_fsdp2": "dist",
    "overlap_param_gather_with_optimizer_step": "optimizer",
    "check_for_nan_in_loss": "rerun_state_machine",
    "dataset_seq_length": "dataset",
    "packed_sequences": "",
}
"""Bridge's container of a switch that is not a field of the model."""

_FIELDS = {"dataset_seq_length": "seq_length", "use_megatron_fsdp_v2": "megatron_fsdp_version"}

_KINDS = {
    "cp_comm_type": "str or strs",
    "hierarchical_context_parallel_sizes": "ints",
    "data_parallel_sharding_strategy": "str",
    "moe_token_dispatcher_type": "str",
    "moe_flex_dispatcher_backend": "str",
    "moe_expert_capacity_factor": "float",
    "cuda_graph_impl": "str",
    "cuda_graph_modules": "strs",
    "optimizer": "str",
    "main_grads_dtype": "dtype",
    "main_params_dtype": "dtype",
    "exp_avg_dtype": "dtype",
    "exp_avg_sq_dtype": "dtype",
    "optimizer_offload_fraction": "float",
    "cross_entropy_fusion_impl": "str",
    "attention_backend": "str",
    "hidden_dropout": "float",
    "attention_dropout": "float",
    "microbatch_group_size_per_vp_stage": "int",
    "dataset_seq_length": "int",
    "packed_sequences": "str",
    "use_megatron_fsdp_v2": "version 2",
}
_ALSO = {
    "hierarchical_context_parallel_sizes": ("hcp",),
    "microbatch_group_size_per_vp_stage": ("microbatch_group_size",),
    "cuda_graph_modules": ("cuda_graph_scope", "--cuda-graph-scope"),
    "use_te_rng_tracker": ("te_rng_tracker", "rng.te_rng_tracker"),
    "overlap_p2p_comm": ("overlap_p2p_communication",),
}
_FLAGS = {
    "microbatch_group_size_per_vp_stage": "--microbatch-group-size-per-virtual-pipeline-stage",
    "use_te_rng_tracker": "--te-rng-tracker",
    "overlap_p2p_comm_warmup_flush": "--overlap-p2p-communication-warmup-flush",
    "average_in_collective": "--ddp-average-in-collective",
    "use_megatron_fsdp_v2": "--megatron-fsdp-version",
    # on by default, so there are only flags that clear them
    "grad_reduce_in_fp32": "",
    "overlap_p2p_comm": "",
    "gradient_accumulation_fusion": "",
    "check_for_nan_in_loss": "",
    # not on the Megatron-LM command line
    "batch_p2p_comm": "",
    "variable_seq_lengths": "",
    "cpu_offloading": "",
    "dataset_seq_length": "",
    "packed_sequences": "",
}
_UNFLAGS = {
    "grad_reduce_in_fp32": "--grad-reduce-in-bf16",
    "overlap_p2p_comm": "--no-overlap-p2p-communication",
    "gradient_accumulation_fusion": "--no-gradient-accumulation-fusion",
    "check_for_nan_in_loss": "--no-check-for-nan-in-loss-and-grad",
}
_MOST = {"microbatch_group_size_per_vp_stage": 4096}
"""Sizes that a replay of the schedule is as long as."""

SHARED_SECTIONS = ("model", "ddp", "comm_overlap", "dist", "optimizer", "mixed_precision")
"""Bridge lets one switch be set through several of its containers and copies it to the others."""


def _of_setting(name: str, default: Any) -> Spelling:
    """A switch: a Boolean on the model unless the tables above say otherwise."""
    whole = isinstance(default, int) and not isinstance(default, bool)
    return Spelling(
        name,
        _KINDS.get(name, "int" if whole else "bool"),
        _FIELDS.get(name, name),
        _SECTIONS.get(name, "model"),
        _FLAGS.get(name, "--" + name.replace("_", "-")),
        _UNFLAGS.get(name, ""),
        _ALSO.get(name, ()),
        0 if name.startswith(("num_layers_at", "cpu_offloading", "wgrad")) else 1,
        _MOST.get(name, LARGEST),
    )


SPELLINGS: tuple[Spelling, ...] = (
    *_DECISIONS,
    *_SPLIT,
    *_RECOMPUTE,
    *(_of_setting(f.name, f.default) for f in fields(Settings)),
)
"""Every layout word, in the order in which layouts are written."""


@cache
def _by_word() -> dict[str, Spelling]:
    """Every word to its spelling; ``seq_length`` is the request's, ``dataset.seq_length`` the data set's."""
    words: dict[str, Spelling] = {}
    for spelling in SPELLINGS:
        for word in spelling.names if spelling.name != "dataset_seq_length" else (spelling.name,):
            words.setdefault(word, spelling)
        if spelling.section:
            words[spelling.path] = spelling
        for word in (spelling.flag, spelling.unflag):
            if word:
                words[word] = spelling
    for spelling in SPELLINGS:
        for section in SHARED_SECTIONS if spelling.section not in ("", "dataset") else ():
            words.setdefault(f"{section}.{spelling.field}", spelling)
    return words


def spelling_of(word: str) -> Spelling | None:
    """The spelling that ``word`` (a short name, a field, an override or a flag) belongs to, or ``None``."""
    return _by_word().get(word)


def flag_of(word: str) -> str:
    """A flag as this table writes it: hyphens for underscores (``run_recipe.py`` takes ``--seq_length``)."""
    return word.replace("_", "-") if word.startswith("--") else word


def known_words(word: str) -> list[str]:
    """Every word of the same form as ``word`` (undotted, dotted, or flag), for suggestions."""
    form = _form(word)
    return [known for known in _by_word() if _form(known) == form]


def _form(word: str) -> str:
    return "flag" if word.startswith("-") else "path" if "." in word else "name"


def canonical_name(word: str) -> str:
    """The name under which this table knows ``word``; ``word`` itself if it does not."""
    spelling = spelling_of(word)
    return spelling.name if spelling else word
