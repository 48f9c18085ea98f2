"""Rules about recompute, offload and CUDA graphs: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.layout import Recompute
from constraints.recompute import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import FULL, hybrid, mla, model, moe, selective
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

OFFLOAD = {"cpu_offloading": True, "cpu_offloading_num_layers": 2}
GRAPHS = {"cuda_graph_impl": "transformer_engine", "use_te_rng_tracker": True}
ROUTER = GRAPHS | {"cuda_graph_modules": ("attn", "moe_router", "moe_preprocess")}
STEP = {"cuda_graph_impl": "full_iteration", "use_te_rng_tracker": True, "check_for_nan_in_loss": False}
DROP_AND_PAD = {"moe_expert_capacity_factor": 1.0, "moe_pad_expert_input_to_capacity": True}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("recompute.rc-full", model(), {"recompute": Recompute("full")}, ("without recompute_method", "uniform")),
    ("recompute.rc-full", model(), {"recompute": Recompute("full", "uniform")}, ("recompute_num_layers",)),
    ("recompute.rc-full", model(), {"recompute": Recompute("some")}, ("recompute_granularity=some",)),
    ("recompute.rc-full", model(), {"recompute": Recompute("full", "uniform", 0)}, ("groups of 0",)),
    (
        "recompute.group-in-chunk",
        model(),
        {"recompute": Recompute("full", "uniform", 5), "pp": 4, "vpp": 2},
        ("recompute_num_layers=5", "8 chunks", "32 layers"),
    ),
    (
        "recompute.block-leaves-some",
        model(),
        {"recompute": Recompute("full", "block", 4), "pp": 4, "vpp": 2},
        ("recompute_num_layers=4", "8 chunks", "32 layers"),
    ),
    (
        "recompute.rc-mtp",
        model(mtp_num_layers=1),
        {"recompute": Recompute("full", "uniform", 2)},
        ("recompute_num_layers=2", "mtp_num_layers=1"),
    ),
    ("recompute.rc-sel", model(), {"recompute": selective("attn")}, ("recompute_modules holds attn",)),
    ("recompute.rc-sel", model(), {"recompute": Recompute("selective", num_layers=1)}, ("recompute_num_layers=1",)),
    ("recompute.rc-sel", model(), {"recompute": Recompute("selective", "all")}, ("recompute_method=all",)),
    ("recompute.rc-mod", model(), {"recompute": selective("mla_up_proj")}, ("mla_up_proj", "dense")),
    ("recompute.rc-mod", moe(moe_grouped_gemm=False), {"recompute": selective("moe_act")}, ("moe_grouped_gemm=true",)),
    ("recompute.rc-mod", model(), {"recompute": selective("gdn_norm_out")}, ("gated delta net",)),
    ("recompute.rc-mod", model(), {"recompute": selective("mhc")}, ("enable_mhc_connections=true",)),
    ("recompute.rc-mod", model(enable_mhc_connections=True), {"recompute": selective("mhc", "mlp")}, ("mhc", "mlp")),
    (
        "recompute.rc-mod",
        model(),
        {"recompute": selective("layernorm"), "precision": "fp8_ds"},
        ("layernorm", "fp8_ds"),
    ),
    (
        "recompute.rc-dist",
        model(),
        {"distribute_saved_activations": True, "tp": 4, "sequence_parallel": True, "recompute": FULL},
        ("tp=4", "full", "distribute_saved_activations=false"),
    ),
    ("recompute.offload", model(), OFFLOAD | {"pp": 2}, ("pp=2",)),
    ("recompute.offload", model(), OFFLOAD | {"cpu_offloading_num_layers": 32}, ("=32", "0 to 31", "32 layers")),
    ("recompute.offload", model(), OFFLOAD | {"recompute": selective("mlp")}, ("selective",)),
    ("recompute.offload", model(), OFFLOAD | {"fine_grained_activation_offloading": True}, ("fine_grained",)),
    (
        "recompute.offload",
        model(enable_mhc_connections=True),
        {"fine_grained_activation_offloading": True, "recompute": selective("mhc")},
        ("mhc",),
    ),
    (
        "recompute.mhc",
        model(enable_mhc_connections=True, mtp_num_layers=1),
        {"pp": 4, "recompute": FULL},
        ("pp=4", "mtp_num_layers=1", "full recompute"),
    ),
    ("recompute.cg", model(), GRAPHS | {"recompute": FULL}, ("full recompute", "full_iteration")),
    ("recompute.cg", model(), GRAPHS | {"use_te_rng_tracker": False}, ("use_te_rng_tracker=False",)),
    ("recompute.cg-switches", model(), GRAPHS | {"use_te_rng_tracker": None}, ("use_te_rng_tracker=true",)),
    ("recompute.cg-switches", model(), STEP | {"check_for_nan_in_loss": None}, ("check_for_nan_in_loss=false",)),
    ("recompute.cg", model(), GRAPHS | {"cuda_graph_impl": "local"}, ("cuda_graph_impl=local",)),
    ("recompute.cg", model(), GRAPHS | {"cuda_graph_modules": ("attention",)}, ("holds attention",)),
    ("recompute.cg", model(), GRAPHS | {"cuda_graph_modules": ("full_iteration",)}, ("holds full_iteration",)),
    ("recompute.cg", model(), GRAPHS | {"cuda_graph_modules": ("moe_router",)}, ("moe_router", "no experts")),
    ("recompute.cg", moe(), GRAPHS | {"cuda_graph_modules": ("moe", "moe_router")}, ("both moe and moe_router",)),
    ("recompute.cg", moe(), GRAPHS | {"cuda_graph_modules": ("moe_preprocess",)}, ("moe_preprocess without",)),
    ("recompute.cg", moe(), GRAPHS | {"cuda_graph_modules": ("mlp",)}, ("mlp", "no dense layer")),
    ("recompute.cg", moe(), GRAPHS | {"cuda_graph_modules": ("moe",)}, ("drop-and-pad",)),
    ("recompute.cg", moe(), ROUTER | {"moe_expert_capacity_factor": 1.5}, ("alltoall", "1.5")),
    ("recompute.cg", moe(), ROUTER | {"recompute": selective("moe")}, ("moe_router",)),
    ("recompute.cg", model(), GRAPHS | OFFLOAD, ("cpu_offloading=True",)),
    (
        "recompute.cg",
        moe(),
        GRAPHS | DROP_AND_PAD | {"cuda_graph_modules": ("moe",), "fine_grained_activation_offloading": True},
        ("fine_grained_activation_offloading",),
    ),
    ("recompute.cg", model(), STEP | {"check_for_nan_in_loss": True}, ("check_for_nan_in_loss=True",)),
    ("recompute.cg", model(), STEP | {"cuda_graph_modules": ("attn",)}, ("['attn']",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("recompute.rc-full", model(), {"recompute": FULL}),
    ("recompute.rc-full", model(), {"recompute": Recompute("full", "block", 99)}),
    ("recompute.rc-full", model(), {"recompute": Recompute("full", "block", 0)}),
    ("recompute.group-in-chunk", model(), {"recompute": Recompute("full", "uniform", 4), "pp": 4, "vpp": 2}),
    ("recompute.block-leaves-some", model(), {"recompute": Recompute("full", "block", 3), "pp": 4, "vpp": 2}),
    ("recompute.rc-mtp", model(mtp_num_layers=1), {"recompute": FULL}),
    ("recompute.rc-mtp", model(mtp_num_layers=1), {"recompute": Recompute("full", "block", 2)}),
    ("recompute.rc-mtp", model(), {"recompute": Recompute("full", "uniform", 2)}),
    ("recompute.rc-full", model(), {}),
    ("recompute.rc-sel", model(), {"recompute": selective("core_attn", "layernorm", "gdp_qkv")}),
    ("recompute.rc-sel", model(), {"recompute": Recompute("selective", "block")}),
    ("recompute.rc-mod", mla(), {"recompute": selective("mla_up_proj")}),
    ("recompute.rc-mod", moe(), {"recompute": selective("moe_act"), "precision": "fp8_cs"}),
    ("recompute.rc-mod", model(), {"recompute": Recompute(None, modules=("mla_up_proj",))}),
    ("recompute.rc-dist", model(), {"distribute_saved_activations": True, "tp": 4, "recompute": FULL}),
    ("recompute.rc-dist", model(), {"distribute_saved_activations": True, "tp": 4, "sequence_parallel": True}),
    ("recompute.offload", model(), OFFLOAD | {"cpu_offloading_num_layers": 31}),
    ("recompute.offload", model(), {"cpu_offloading_num_layers": 95, "pp": 2, "recompute": FULL}),
    ("recompute.mhc", model(enable_mhc_connections=True), {"recompute": selective("mhc")}),
    ("recompute.mhc", model(mtp_num_layers=1), {"pp": 4, "recompute": FULL}),
    ("recompute.cg", model(), GRAPHS | {"recompute": selective("mlp")}),
    ("recompute.cg", model(), STEP | {"use_te_rng_tracker": None, "check_for_nan_in_loss": None}),
    ("recompute.cg-switches", model(), GRAPHS),
    ("recompute.cg-switches", model(), {"cuda_graph_impl": "none"}),
    ("recompute.cg-switches", model(), STEP | {"use_te_rng_tracker": False}),
    ("recompute.cg", model(), GRAPHS | {"cuda_graph_modules": ("mlp",)}),
    ("recompute.cg", moe(moe_layer_freq=(0,) + (1,) * 47), GRAPHS | {"cuda_graph_modules": ("mlp",)}),
    ("recompute.cg", moe(), GRAPHS | DROP_AND_PAD | {"cuda_graph_modules": ("moe",)}),
    ("recompute.cg", moe(), ROUTER | {"recompute": selective("moe_act")}),
    ("recompute.cg", moe(), ROUTER | {"moe_token_dispatcher_type": "flex", "moe_expert_capacity_factor": 1.5}),
    ("recompute.cg", model(), STEP | {"recompute": FULL}),
    ("recompute.cg", model(), STEP | {"cuda_graph_impl": "local", "cuda_graph_modules": ("full_iteration",)}),
    ("recompute.cg", hybrid(), {"cuda_graph_impl": "transformer_engine", "cuda_graph_modules": ("attn", "mamba")}),
    ("recompute.cg", model(), {"cuda_graph_modules": ("full_iteration",), "recompute": FULL}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
