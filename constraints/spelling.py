"""One table of every layout word: its short names, Megatron's field, where Bridge keeps it, Megatron-LM's flag.

Sources: NVIDIA/Megatron-LM@d98e8a6 ``megatron/training/arguments.py``, ``megatron/core/model_parallel_config.py`` and
``transformer/transformer_config.py``; NVIDIA-NeMo/Megatron-Bridge@067f987 ``src/megatron/bridge/training/config.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from constraints.layout import Settings

__all__ = ["SPELLINGS", "Spelling", "canonical_name", "read_value", "spelling_of"]

LARGEST = 10**7


@dataclass(frozen=True)
class Spelling:
    """One word. ``kind``: int, float, bool, str, ints, strs, or "str or strs". ``field`` is Megatron's and Bridge's name;
    ``section`` Bridge's container (empty: not a Bridge field); ``flag`` Megatron-LM's (empty: none)."""

    name: str
    kind: str
    field: str
    section: str = "model"
    flag: str = ""
    also: tuple[str, ...] = ()
    least: int = 1

    @property
    def path(self) -> str:
        """The Bridge override, as in ``model.tensor_model_parallel_size``."""
        return f"{self.section}.{self.field}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every undotted word for it."""
        return (self.name, self.field, *self.also)


_DECISIONS = (
    Spelling("tp", "int", "tensor_model_parallel_size", flag="--tensor-model-parallel-size"),
    Spelling("pp", "int", "pipeline_model_parallel_size", flag="--pipeline-model-parallel-size"),
    Spelling(
        "vpp",
        "int",
        "virtual_pipeline_model_parallel_size",
        flag="--num-virtual-stages-per-pipeline-rank",
        also=("vp", "virtual_pipeline_size"),
    ),
    Spelling("cp", "int", "context_parallel_size", flag="--context-parallel-size"),
    Spelling("ep", "int", "expert_model_parallel_size", flag="--expert-model-parallel-size"),
    Spelling("etp", "int", "expert_tensor_parallel_size", flag="--expert-tensor-parallel-size"),
    Spelling("dp", "int", "data_parallel_size", section=""),
    Spelling("edp", "int", "expert_data_parallel_size", section=""),
    Spelling("sp", "bool", "sequence_parallel", flag="--sequence-parallel"),
    Spelling("mbs", "int", "micro_batch_size", section="train", flag="--micro-batch-size"),
    Spelling("gbs", "int", "global_batch_size", section="train", flag="--global-batch-size"),
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

_DDP = (
    "num_distributed_optimizer_instances",
    "use_distributed_optimizer",
    "overlap_grad_reduce",
    "overlap_param_gather",
    "use_megatron_fsdp",
    "use_megatron_fsdp_v2",
    "data_parallel_sharding_strategy",
    "average_in_collective",
    "fp8_param_gather",
    "reuse_grad_buf_for_mxfp8_param_ag",
)
_DIST = ("use_tp_pp_dp_mapping", "use_torch_fsdp2")
_OVERLAP = ("overlap_param_gather_with_optimizer_step", "tp_comm_overlap")
_KINDS = {
    "cp_comm_type": "str or strs",
    "hierarchical_context_parallel_sizes": "ints",
    "data_parallel_sharding_strategy": "str",
    "moe_token_dispatcher_type": "str",
    "moe_flex_dispatcher_backend": "str",
    "moe_expert_capacity_factor": "float",
    "cuda_graph_impl": "str",
    "cuda_graph_modules": "strs",
    "microbatch_group_size_per_vp_stage": "int",
    "dataset_seq_length": "int",
    "packed_sequences": "str",
}
_ALSO = {
    "hierarchical_context_parallel_sizes": ("hcp",),
    "microbatch_group_size_per_vp_stage": ("microbatch_group_size",),
    "cuda_graph_modules": ("cuda_graph_scope",),
    "use_te_rng_tracker": ("te_rng_tracker", "rng.te_rng_tracker"),
}
_FLAGS = {"microbatch_group_size_per_vp_stage": "--microbatch-group-size-per-virtual-pipeline-stage"}


def _of_setting(name: str, default: Any) -> Spelling:
    """A switch: a Boolean unless said otherwise; in Bridge on the model unless it belongs to another container."""
    section = "ddp" if name in _DDP else "dist" if name in _DIST else "comm_overlap" if name in _OVERLAP else "model"
    field = name
    if name == "dataset_seq_length":
        section, field = "dataset", "seq_length"
    if name == "packed_sequences":
        section = ""
    if name == "check_for_nan_in_loss":
        section = "rerun_state_machine"
    whole = isinstance(default, int) and not isinstance(default, bool)
    kind = _KINDS.get(name, "int" if whole else "bool")
    flag = _FLAGS.get(name, "--" + name.replace("_", "-"))
    least = 0 if name.startswith(("num_layers_at", "cpu_offloading", "wgrad")) else 1
    return Spelling(name, kind, field, section, flag, _ALSO.get(name, ()), least)


SPELLINGS: tuple[Spelling, ...] = (
    *_DECISIONS,
    *_SPLIT,
    *_RECOMPUTE,
    *(_of_setting(f.name, f.default) for f in fields(Settings)),
)
"""Every layout word, in the order in which layouts are written."""


@cache
def _by_word() -> dict[str, Spelling]:
    """Undotted words, Bridge overrides and Megatron-LM flags to their spelling. ``dataset.seq_length`` only dotted."""
    words: dict[str, Spelling] = {}
    for spelling in SPELLINGS:
        names = spelling.names if spelling.name != "dataset_seq_length" else (spelling.name,)
        for word in names:
            words.setdefault(word, spelling)
        if spelling.section:
            words[spelling.path] = spelling
        if spelling.flag:
            words[spelling.flag] = spelling
    for (
        spelling
    ) in SPELLINGS:  # Bridge lets the same switches be set through comm_overlap, ddp, optimizer and the model
        for section in ("model", "ddp", "comm_overlap", "dist", "optimizer", "mixed_precision"):
            if spelling.section:
                words.setdefault(f"{section}.{spelling.field}", spelling)
    return words


def spelling_of(word: str) -> Spelling | None:
    """The spelling that ``word`` (a short name, a field, an override or a flag) belongs to, or ``None``."""
    return _by_word().get(word)


def known_words() -> list[str]:
    """Every undotted word, for suggestions."""
    return [word for word in _by_word() if "." not in word and not word.startswith("--")]


def canonical_name(word: str) -> str:
    """The name under which this table knows ``word``; ``word`` itself if it does not."""
    spelling = spelling_of(word)
    return spelling.name if spelling else word


def read_value(name: str, value: Any) -> Any:
    """``value`` as the word's kind: text is parsed, ready values are checked. ``None`` and "null" mean "not set".

    Raises ``ValueError`` with a message that says what was expected.

    >>> read_value("tp", "8"), read_value("sp", "true"), read_value("recompute_modules", "mlp,moe")
    (8, True, ('mlp', 'moe'))
    """
    spelling = spelling_of(name)
    assert spelling is not None, name
    if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none", "")):
        return None
    return _READERS[spelling.kind](spelling, value)


def _integer(spelling: Spelling, value: Any) -> int:
    if isinstance(value, str):
        text = value.strip()
        if not text.lstrip("-").isdigit() or len(text) > 18:
            raise ValueError(f"must be a whole number, not {value!r}")
        value = int(text)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {value!r}")
    if not spelling.least <= value <= LARGEST:
        raise ValueError(f"is {value}: it must be from {spelling.least} to {LARGEST}")
    return value


def _float(spelling: Spelling, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"must be a number, not {value!r}") from None
    if isinstance(value, bool) or not abs(number) <= 1e9:
        raise ValueError(f"must be a number of sensible size, not {value!r}")
    return number


def _boolean(spelling: Spelling, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0"):
        return value.strip().lower() in ("true", "1")
    if type(value) is int and value in (0, 1):
        return bool(value)
    raise ValueError(f"must be true or false, not {value!r}")


def _text(spelling: Spelling, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 10_000:
        raise ValueError(f"must be a word, not {str(value)[:60]!r}")
    return value.strip().strip("'\"")


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text.replace("'", '"'))
            except ValueError:
                value = text.strip("[]").split(",")
        else:
            value = text.replace(",", " ").split()
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, not {value!r}")
    return [item.strip().strip("'\"") if isinstance(item, str) else item for item in value]


def _integers(spelling: Spelling, value: Any) -> tuple[int, ...]:
    return tuple(_integer(spelling, item) for item in _items(value))


def _texts(spelling: Spelling, value: Any) -> tuple[str, ...]:
    return tuple(_text(spelling, item) for item in _items(value))


def _text_or_texts(spelling: Spelling, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) and not value.strip().startswith("["):
        return _text(spelling, value)
    return _texts(spelling, value)


_TOKENS = {"embedding": "E", "decoder": "t", "mtp": "m", "loss": "L"}


def _layout(spelling: Spelling, value: Any) -> str:
    """A layout string, or Megatron's nested lists of layer names as one."""
    if isinstance(value, str):
        return _text(spelling, value)
    chunks = []
    for chunk in _items(value):
        names = chunk if isinstance(chunk, list | tuple) else [chunk]
        unknown = [name for name in names if name not in _TOKENS]
        if unknown:
            raise ValueError(f"has {unknown[0]!r}: a chunk is a list of {', '.join(_TOKENS)}")
        chunks.append("".join(_TOKENS[name] for name in names))
    return "|".join(chunks)


_READERS = {
    "int": _integer,
    "float": _float,
    "bool": _boolean,
    "str": _text,
    "ints": _integers,
    "strs": _texts,
    "str or strs": _text_or_texts,
    "layout": _layout,
}
