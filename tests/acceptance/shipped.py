"""NVIDIA's shipped recipes as requests and layout words: what each one sets, and what Megatron Bridge makes of it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from constraints.problem import Problem
from constraints.reading import Reading, read_layout
from models_catalog.errors import UnknownName
from models_catalog.loader import all_models, find_model, load_gpu
from models_catalog.schema import ModelSpec
from solver.request import Request
from solver.resolution import resolve
from solver.verdict import Verdict, check

__all__ = ["COLUMNS", "NO_COLUMN", "WORDS", "Recipe", "shipped_recipes"]

FILE = Path(__file__).parent.parent / "data" / "recipes.csv"

SAME = (
    "mbs",
    "gbs",
    "tp",
    "pp",
    "cp",
    "vp",
    "ep",
    "etp",
    "sp",
    "pp_layout",
    "num_layers_in_first_pipeline_stage",
    "num_layers_in_last_pipeline_stage",
    "account_for_embedding_in_pipeline_split",
    "account_for_loss_in_pipeline_split",
    "recompute_granularity",
    "recompute_method",
    "recompute_num_layers",
    "recompute_modules",
    "cpu_offloading",
    "cpu_offloading_num_layers",
    "fine_grained_activation_offloading",
    "cuda_graph_impl",
    "cuda_graph_scope",
    "cuda_graph_modules",
    "moe_token_dispatcher_type",
    "moe_flex_dispatcher_backend",
    "moe_shared_expert_overlap",
    "cp_comm_type",
    "calculate_per_token_loss",
    "moe_expert_capacity_factor",
    "moe_pad_expert_input_to_capacity",
    "fp8_param_gather",
    "gradient_accumulation_fusion",
    "grad_reduce_in_fp32",
    "cross_entropy_fusion_impl",
    "dataset_seq_length",
)
"""Columns whose names are layout words."""

WORDS = {name: name for name in SAME} | {
    "first_last_bf16": "first_last_layers_bf16",
    "ddp_use_distributed_optimizer": "use_distributed_optimizer",
    "ddp_use_megatron_fsdp": "use_megatron_fsdp",
    "ddp_data_parallel_sharding_strategy": "data_parallel_sharding_strategy",
    "ddp_overlap_grad_reduce": "overlap_grad_reduce",
    "ddp_overlap_param_gather": "overlap_param_gather",
    "ddp_num_distributed_optimizer_instances": "num_distributed_optimizer_instances",
    "ovl_tp_comm_overlap": "tp_comm_overlap",
    "ovl_overlap_moe_expert_parallel_comm": "overlap_moe_expert_parallel_comm",
    "ovl_delay_wgrad_compute": "delay_wgrad_compute",
    "ovl_overlap_param_gather_with_optimizer_step": "overlap_param_gather_with_optimizer_step",
    "opt_optimizer": "optimizer",
    "opt_use_precision_aware_optimizer": "use_precision_aware_optimizer",
    "opt_main_params_dtype": "main_params_dtype",
    "opt_exp_avg_dtype": "exp_avg_dtype",
    "opt_exp_avg_sq_dtype": "exp_avg_sq_dtype",
    "packing": "packed_sequences",
}
"""Column to layout word."""

MODEL_COLUMNS = {
    "hf_id",
    "provider",
    "arch_set_in_recipe",
    "mtp_num_layers",
    "hybrid_layer_pattern",
    "moe_grouped_gemm",
}
REQUEST_COLUMNS = {"kind", "recipe", "path", "task", "num_gpus", "gpu", "precision", "seq_length", "shape_check"}

COLUMNS = set(WORDS) | MODEL_COLUMNS | REQUEST_COLUMNS

NO_COLUMN = {
    ("recipes/glm/h100/glm5.py", "glm52_pretrain_416gpu_h100_bf16_config"): {"microbatch_group_size_per_vp_stage": 16},
    ("recipes/glm/h100/glm5.py", "glm52_sft_416gpu_h100_bf16_config"): {"microbatch_group_size_per_vp_stage": 16},
}
"""What these recipes set beside the columns; without it their micro-batches do not come out."""

PROVIDERS = {"OlMoEModelProvider": "olmoe-1b-7b"}
"""Providers whose class holds the architecture of one model."""
NO_LANGUAGE_MODELS = {"WanModelProvider"}
OTHER_MEGATRON = {"deepseek-ai/DeepSeek-V4-Flash", "deepseek-ai/DeepSeek-V4-Pro"}
"""Models that Bridge builds on Megatron-Core's dev branch (b3b1e2d) only: ``experimental_attention_variant=dsv4_hybrid``
and ``enable_hyper_connections`` (models/deepseek/deepseek_v4_bridge.py) are unknown to d98e8a6, whose rules are held here."""

STAND_INS = {"vr200": "gb300", "r100": "b300"}
"""For GPUs that the catalog does not have. Legality asks a GPU only for its compute capability and its name."""


@dataclass(frozen=True)
class Recipe:
    """One recipe: its row, without the cells that it leaves empty."""

    row: dict[str, str]

    def __getattr__(self, column: str) -> str:
        """A cell, empty where the recipe does not set the field."""
        if column not in COLUMNS:
            raise AttributeError(column)
        return self.row.get(column, "")

    @property
    def key(self) -> tuple[str, str]:
        return self.path, self.recipe

    def number(self, column: str, default: int = 1) -> int:
        return int(self.row.get(column, default))

    @property
    def gpus(self) -> int:
        """As the name says; for a name without a number the least world, pp * max(tp*cp, ep*etp)."""
        dense = self.number("tp") * self.number("cp")
        expert = self.number("ep") * self.number("etp")
        return self.number("num_gpus", self.number("pp") * max(dense, expert))

    @property
    def model(self) -> ModelSpec | None:
        """The catalog's entry with what the recipe changes in it; ``None`` if there is none, or not for this Megatron."""
        if self.hf_id in OTHER_MEGATRON:
            return None
        name = self.hf_id or PROVIDERS.get(self.provider)
        found = _catalogued(name) if name else _same_architecture(self.row)
        if found is None:
            return None
        changes: dict[str, Any] = {}
        if self.mtp_num_layers:
            changes["mtp_num_layers"] = int(self.mtp_num_layers) or None
        if self.hybrid_layer_pattern:
            changes["hybrid_override_pattern"] = self.hybrid_layer_pattern
        if self.moe_grouped_gemm:
            changes["moe_grouped_gemm"] = self.moe_grouped_gemm == "True"
        return replace(found, **changes)

    @property
    def words(self) -> dict[str, Any]:
        """The layout as the recipe writes it, and what Bridge derives from it.

        ``CommOverlapConfig._get_model_comm_overlap_cfgs`` (training/comm_overlap.py) sends overlapped and unbatched where
        virtual stages interleave; a recipe with ``ovl_*`` has that configuration.
        """
        words: dict[str, Any] = {word: self.row[column] for column, word in WORDS.items() if column in self.row}
        for name in ("recompute_modules", "cuda_graph_scope", "cuda_graph_modules"):
            if name in words:
                words[name] = words[name].split(";")
        if "packed_sequences" in words:
            words["packed_sequences"] = "offline" if words["packed_sequences"] == "True" else None
        if self.ovl_tp_comm_overlap:
            interleaved = self.number("pp") > 1 and self.number("vp") > 1
            words |= {"overlap_p2p_comm": interleaved, "batch_p2p_comm": self.number("pp") > 1 and not interleaved}
        return words | NO_COLUMN.get(self.key, {})

    @property
    def problem(self) -> Problem:
        """The request. The sequence is the dataset's: ``scripts/training/recipe_runner.py`` sets the model's to it."""
        model = self.model
        assert model is not None
        length = self.number("dataset_seq_length", self.number("seq_length", 0))
        gpu = self.gpu.lower() or "h100"
        request = Request(
            model=model.name,
            gpus=self.gpus,
            gpu=gpu if _has_gpu(gpu) else STAND_INS[gpu],
            seq_length=length,
            precision=self.precision,
            task=self.task,
        )
        return replace(resolve(request), model=model)

    def reading(self, problem: Problem | None = None) -> Reading:
        return read_layout(self.words, problem or self.problem)

    def verdict(self) -> Verdict:
        problem = self.problem
        reading = self.reading(problem)
        return check(problem, reading.layout, reading.warnings)


@cache
def shipped_recipes() -> tuple[Recipe, ...]:
    """Every row of the file."""
    with FILE.open(newline="", encoding="utf-8") as lines:
        return tuple(Recipe({name: cell for name, cell in row.items() if cell != ""}) for row in csv.DictReader(lines))


@cache
def _catalogued(name: str) -> ModelSpec | None:
    try:
        return find_model(name)
    except UnknownName:
        return None


def _same_architecture(row: dict[str, str]) -> ModelSpec | None:
    """The entry whose integers, and pattern of layers, are those that the recipe spells out."""
    integers = json.loads(row.get("arch_set_in_recipe", "{}"))
    if "num_layers" not in integers or row["provider"] in NO_LANGUAGE_MODELS:
        return None
    pattern = row.get("hybrid_layer_pattern")
    for model in all_models():
        main = (model.hybrid_override_pattern or "").split("/")[0].replace("|", "")
        if main == (pattern or "") and all(_value(model, name) == value for name, value in integers.items()):
            return model
    return None


def _value(model: ModelSpec, field: str) -> Any:
    """A field with Megatron's default filled in."""
    defaults = {"num_query_groups": model.query_groups, "kv_channels": model.head_dim, "ffn_hidden_size": model.ffn}
    return defaults.get(field, getattr(model, field))


@cache
def _has_gpu(name: str) -> bool:
    try:
        load_gpu(name)
    except UnknownName:
        return False
    return True
