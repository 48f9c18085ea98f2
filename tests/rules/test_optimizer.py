"""Rules about the optimizer and FSDP: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.optimizer import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

INSTANCES = "num_distributed_optimizer_instances"
SHARDS = "tensor_parallel_num_weight_shards"
BF16_ENDS = {"first_last_layers_bf16": True, "precision": "fp8_cs"}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("optimizer.do-instances", model(), {"gpus": 12, "tp": 2, INSTANCES: 4}, ("dp*cp = 6*1 = 6", "6 mod 4 = 2")),
    ("optimizer.do-instances", moe(), {"gpus": 8, "ep": 8, INSTANCES: 2}, ("edp=1", "1 mod 2 = 1")),
    (
        "optimizer.overlap-pg",
        model(),
        {"overlap_param_gather": True, "overlap_grad_reduce": False},
        ("overlap_grad_reduce=true",),
    ),
    (
        "optimizer.overlap-pg",
        model(),
        {"overlap_param_gather": True, "use_distributed_optimizer": False},
        ("use_distributed_optimizer=False",),
    ),
    ("optimizer.overlap-pg", model(), {"overlap_param_gather_with_optimizer_step": True, "pp": 2}, ("pp=2",)),
    (
        "optimizer.mfsdp-v1",
        model(),
        {"use_megatron_fsdp": True, "use_tp_pp_dp_mapping": True},
        ("use_tp_pp_dp_mapping=false",),
    ),
    ("optimizer.mfsdp-v1", model(), {"use_megatron_fsdp": True, "use_torch_fsdp2": True}, ("use_torch_fsdp2=false",)),
    ("optimizer.mfsdp-v2", model(), {"use_megatron_fsdp_v2": True, "tp": 2, "cp": 4}, ("tp=2", "cp=4")),
    ("optimizer.mfsdp-v2", model(), {"use_megatron_fsdp_v2": True, "vpp": 1}, ("vpp=1",)),
    ("optimizer.mfsdp-v2", moe(), {"use_megatron_fsdp_v2": True}, ("128 experts",)),
    ("optimizer.mfsdp-v2", model(), {"use_megatron_fsdp_v2": True, "precision": "fp8_cs"}, ("fp8_cs",)),
    ("optimizer.mfsdp-v2", model(), {"use_megatron_fsdp_v2": True, INSTANCES: 2}, ("instances=2",)),
    (
        "optimizer.mfsdp-v2",
        model(),
        {"use_megatron_fsdp_v2": True, "optimizer_cpu_offload": True},
        ("optimizer_cpu_offload=True",),
    ),
    (
        "optimizer.mfsdp-v2",
        model(),
        {"use_megatron_fsdp_v2": True, "use_precision_aware_optimizer": True},
        ("use_precision_aware_optimizer=True",),
    ),
    ("optimizer.embed-wgrad", model(), {"defer_embedding_wgrad_compute": True}, ("pp=1",)),
    (
        "optimizer.embed-wgrad",
        model(),
        {"defer_embedding_wgrad_compute": True, "pp": 2, "gradient_accumulation_fusion": False},
        ("gradient_accumulation_fusion=False",),
    ),
    (
        "optimizer.embed-wgrad",
        model(),
        {"defer_embedding_wgrad_compute": True, "pp": 2, "wgrad_deferral_limit": -1},
        ("wgrad_deferral_limit=-1",),
    ),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 6}, ("6 mod 4 = 2",)),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 2}, ("2 mod 4 = 2",)),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 8, "gpus": 12}, ("groups of 2", "dp=3", "3 mod 2 = 1")),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 8, INSTANCES: 2}, ("instances=2",)),
    (
        "optimizer.bf16-ends",
        model(),
        BF16_ENDS | {"pp": 8, "num_layers_at_start_in_bf16": 5},
        ("=5", "32", "pp=8", "= 4"),
    ),
    ("optimizer.bf16-ends", model(), BF16_ENDS | {"num_layers_at_end_in_bf16": -1}, ("num_layers_at_end_in_bf16=-1",)),
    ("optimizer.bf16-ends", model(), BF16_ENDS | {"precision": "fp8_ds"}, ("fp8_ds",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("optimizer.do-instances", model(), {"gpus": 16, "tp": 2, "etp": 2, INSTANCES: 2}),
    ("optimizer.do-instances", moe(), {"gpus": 16, "ep": 8, INSTANCES: 2}),
    ("optimizer.overlap-pg", model(), {"overlap_param_gather": True}),
    ("optimizer.overlap-pg", model(), {"overlap_param_gather_with_optimizer_step": True, "pp": 4, "vpp": 2}),
    (
        "optimizer.overlap-pg",
        model(),
        {"overlap_param_gather": True, "use_distributed_optimizer": False, "use_megatron_fsdp": True},
    ),
    ("optimizer.mfsdp-v1", model(), {"use_megatron_fsdp": True, "tp": 2, "pp": 2, "cp": 2}),
    ("optimizer.mfsdp-v1", model(), {"use_tp_pp_dp_mapping": True}),
    ("optimizer.mfsdp-v2", model(), {"use_megatron_fsdp_v2": True}),
    ("optimizer.mfsdp-v2", moe(), {"use_megatron_fsdp": True, "tp": 2}),
    ("optimizer.embed-wgrad", model(), {"defer_embedding_wgrad_compute": True, "pp": 2}),
    ("optimizer.embed-wgrad", model(), {"gradient_accumulation_fusion": False}),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 8}),
    ("optimizer.gtp", model(), {"tp": 4, SHARDS: 4, INSTANCES: 2}),
    ("optimizer.gtp", model(), {"tp": 4}),
    ("optimizer.bf16-ends", model(), BF16_ENDS | {"pp": 8, "num_layers_at_start_in_bf16": 4}),
    ("optimizer.bf16-ends", model(), BF16_ENDS | {"precision": "bf16", "num_layers_at_start_in_bf16": 99}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
