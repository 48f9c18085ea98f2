"""Rules about dispatchers and overlap: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.dispatch import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import FULL, gpu, model, moe, selective
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

ALLGATHER = {"moe_token_dispatcher_type": "allgather"}
FLEX = {"moe_token_dispatcher_type": "flex"}
DEEPEP = FLEX | {"moe_flex_dispatcher_backend": "deepep"}
HYBRIDEP = FLEX | {"moe_flex_dispatcher_backend": "hybridep"}
GB200 = gpu(name="gb200-nvl72", architecture="blackwell")
SHARED = {"moe_shared_expert_intermediate_size": 2048}
OVERLAP_SHARED = {"moe_shared_expert_overlap": True}
OVERLAP = {"ep": 8, "overlap_moe_expert_parallel_comm": True}
PADDED = {"moe_router_padding_for_quantization": True}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("dispatch.dispatcher", moe(), {"moe_token_dispatcher_type": "alltoall_seq"}, ("alltoall_seq is none of",)),
    ("dispatch.dispatcher", moe(), FLEX | {"moe_flex_dispatcher_backend": "nvlink"}, ("nvlink is none of",)),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 1}, ("deepep", "etp*ep > 1, here it is 1")),
    ("dispatch.dispatcher", moe(), FLEX | {"moe_flex_dispatcher_backend": "ncclep"}, ("ncclep", "here it is 1")),
    ("dispatch.dispatcher", moe(), {"moe_flex_dispatcher_backend": "ncclep", "ep": 8}, ("ncclep", "alltoall")),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 8, "gpu": GB200}, ("deepep", "gb200-nvl72")),
    ("dispatch.dispatcher", model(), DEEPEP | {"gpu": GB200}, ("gb200-nvl72",)),
    ("dispatch.dispatcher", moe(), HYBRIDEP | {"gpu": gpu(name="v100", architecture="volta")}, ("hybridep", "v100")),
    (
        "dispatch.dispatcher",
        moe(),
        DEEPEP | {"ep": 8, "moe_expert_capacity_factor": 1.0, "moe_pad_expert_input_to_capacity": True},
        ("deepep", "moe_pad_expert_input_to_capacity=false"),
    ),
    ("dispatch.dispatcher", moe(), ALLGATHER | {"variable_seq_lengths": True}, ("allgather", "use alltoall")),
    ("dispatch.capacity", moe(), {"moe_pad_expert_input_to_capacity": True}, ("without moe_expert_capacity_factor",)),
    (
        "dispatch.capacity",
        moe(),
        {"moe_pad_expert_input_to_capacity": True, "moe_expert_capacity_factor": -1.0},
        ("moe_expert_capacity_factor=-1.0",),
    ),
    (
        "dispatch.capacity",
        moe(moe_router_load_balancing_type=("aux_loss", "sinkhorn")),
        {"moe_expert_capacity_factor": 1.5},
        ("1.5", "sinkhorn"),
    ),
    ("dispatch.shared-overlap", moe(**SHARED), OVERLAP_SHARED | ALLGATHER, ("allgather", "use alltoall")),
    (
        "dispatch.shared-overlap",
        moe(**SHARED),
        OVERLAP_SHARED | {"recompute": selective("shared_experts")},
        ("shared_experts",),
    ),
    ("dispatch.a2a-overlap", moe(), OVERLAP | {"ep": 1}, ("ep=1 must be above 1",)),
    ("dispatch.a2a-overlap", moe(), OVERLAP | {"pp": 2}, ("pp=2", "virtual_pipeline_model_parallel_size")),
    ("dispatch.a2a-overlap", moe(), OVERLAP | {"recompute": FULL}, ("full", "uniform", "recompute_num_layers=1")),
    ("dispatch.a2a-overlap", moe(), OVERLAP | {"recompute": selective("moe")}, ("moe must not be",)),
    ("dispatch.a2a-overlap", moe(), OVERLAP | ALLGATHER, ("allgather must be alltoall or flex",)),
    ("dispatch.a2a-overlap", moe(mtp_num_layers=2), OVERLAP, ("mtp_num_layers=2 must be at most 1",)),
    ("dispatch.a2a-overlap", moe(), OVERLAP | OVERLAP_SHARED, ("moe_shared_expert_overlap must be false",)),
    (
        "dispatch.a2a-overlap",
        moe(),
        OVERLAP | {"cuda_graph_impl": "transformer_engine", "cuda_graph_modules": ("attn", "mlp")},
        ("must not hold mlp",),
    ),
    ("dispatch.delay-wgrad", moe(), {"ep": 8, "delay_wgrad_compute": True}, ("overlap_moe_expert_parallel_comm=true",)),
    ("dispatch.quant-pad", moe(), PADDED, ("bf16", "alltoall")),
    ("dispatch.quant-pad", moe(), PADDED | ALLGATHER | {"precision": "fp8_cs"}, ("fp8_cs", "allgather")),
    (
        "pipeline.p2p-flags",
        model(),
        {"pp": 4, "vpp": 2, "overlap_p2p_comm": True},
        ("pp=4 vpp=2", "batch_p2p_comm=false"),
    ),
    (
        "pipeline.p2p-flags",
        model(),
        {"overlap_p2p_comm_warmup_flush": True},
        ("overlap_p2p_comm=False", "set overlap_p2p_comm=true"),
    ),
    ("dispatch.dispatcher", moe(), FLEX, ("deepep", "here it is 1")),
    ("dispatch.dispatcher", moe(), HYBRIDEP | {"megatron": "0.16"}, ("hybridep", "here it is 1")),
    ("dispatch.shared-overlap-flex", moe(**SHARED), OVERLAP_SHARED | FLEX, ("flex", "alltoall")),
    ("dispatch.a2a-overlap-mtp", moe(mtp_num_layers=1), OVERLAP, ("mtp_num_layers=1", "pp=1")),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("dispatch.dispatcher", moe(), FLEX | {"ep": 8}),
    ("dispatch.dispatcher", model(), FLEX),
    ("dispatch.dispatcher", moe(), ALLGATHER),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 2}),
    ("dispatch.dispatcher", moe(), DEEPEP | {"etp": 2}),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 8, "gpu": gpu(name="b200", architecture="blackwell")}),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 8, "gpu": gpu(name="a100-80gb", architecture="sm_80")}),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 8, "gpu": gpu(name="h100", architecture="sm90")}),
    ("dispatch.dispatcher", moe(), DEEPEP | {"ep": 8, "gpu": gpu(name="new", architecture="unheard-of")}),
    ("dispatch.dispatcher", moe(), HYBRIDEP | {"gpu": GB200}),
    ("dispatch.dispatcher", model(), DEEPEP),
    ("dispatch.dispatcher", model(), {"moe_token_dispatcher_type": "alltoall_seq"}),
    ("dispatch.capacity", moe(), {"moe_pad_expert_input_to_capacity": True, "moe_expert_capacity_factor": 1.0}),
    ("dispatch.capacity", moe(moe_router_load_balancing_type="sinkhorn"), {}),
    ("dispatch.shared-overlap", moe(**SHARED), OVERLAP_SHARED | {"recompute": selective("moe_act")}),
    ("dispatch.shared-overlap", moe(), OVERLAP_SHARED | ALLGATHER),
    ("dispatch.a2a-overlap", moe(mtp_num_layers=1), OVERLAP | {"pp": 2, "vpp": 2, "recompute": selective("moe_act")}),
    ("dispatch.a2a-overlap", moe(), {"ep": 1}),
    ("dispatch.delay-wgrad", moe(), OVERLAP | {"delay_wgrad_compute": True}),
    ("dispatch.quant-pad", moe(), PADDED | {"precision": "nvfp4"}),
    ("pipeline.p2p-flags", model(), {"pp": 4, "vpp": 2, "overlap_p2p_comm": True, "batch_p2p_comm": False}),
    ("pipeline.p2p-flags", model(), {"pp": 4, "overlap_p2p_comm": True}),
    ("pipeline.p2p-flags", model(), {"pp": 4, "vpp": 2}),
    (
        "pipeline.p2p-flags",
        model(),
        {"overlap_p2p_comm_warmup_flush": True, "overlap_p2p_comm": True, "batch_p2p_comm": False},
    ),
    ("dispatch.dispatcher", moe(), HYBRIDEP | {"megatron": "0.19"}),
    ("dispatch.shared-overlap-flex", moe(**SHARED), OVERLAP_SHARED),
    ("dispatch.a2a-overlap-mtp", moe(mtp_num_layers=1), OVERLAP | {"pp": 2, "vpp": 2}),
    ("dispatch.a2a-overlap-mtp", moe(), OVERLAP),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
