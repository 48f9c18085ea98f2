"""Rules about experts and routing: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints import experts, routing
from models_catalog.schema import ModelSpec
from tests.rules.builders import hybrid, model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id.removeprefix("experts."): rule for rule in (*experts.RULES, *routing.RULES)}
SHARED = {"moe_shared_expert_intermediate_size": 2048}
Case = tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]

BROKEN: list[Case] = [
    ("ep-needs-moe", model(), {"ep": 2}, ("ep=2", "dense", "expert_model_parallel_size=1")),
    ("experts-ep", moe(), {"ep": 3}, ("128 experts", "ep=3", "128 mod 3 = 2")),
    ("moeffn-etp", moe(moe_ffn_hidden_size=770), {"etp": 4}, ("770", "etp=4", "770 mod 4 = 2")),
    ("moeffn-etp", moe(moe_ffn_hidden_size=None, ffn_hidden_size=6143), {"etp": 2}, ("6143 mod 2 = 1",)),
    ("shared-tp", moe(moe_shared_expert_intermediate_size=2050), {"tp": 8}, ("2050", "tp=8", "2050 mod 8 = 2")),
    ("moe-tp-needs-sp", moe(), {"tp": 2, "ep": 4}, ("128 experts", "tp=2", "set sequence_parallel=true")),
    ("moe-ffn", model(moe_ffn_hidden_size=1536), {}, ("moe_ffn_hidden_size=1536", "num_moe_experts")),
    ("moe-ffn", model(moe_ffn_hidden_size=1536, moe_layer_freq=(1, 1)), {}, ("1536",)),
    ("topk", moe(num_moe_experts=4), {}, ("moe_router_topk=8", "4 experts")),
    ("topk-presoftmax", moe(moe_router_topk=1), {}, ("moe_router_topk=1", "moe_router_pre_softmax=true")),
    ("topk-presoftmax", model(moe_router_topk=1), {}, ("moe_router_topk=1",)),
    (
        "group-routing",
        moe(moe_router_num_groups=7, moe_router_group_topk=2),
        {},
        ("128 experts", "moe_router_num_groups=7", "128 mod 7 = 2"),
    ),
    ("group-routing", moe(moe_router_num_groups=8, moe_router_group_topk=9), {}, ("group_topk=9 of 8 groups",)),
    ("group-routing", moe(moe_router_group_topk=2), {}, ("group_topk=2", "without moe_router_num_groups")),
    ("group-routing", model(moe_router_num_groups=8, moe_router_group_topk=2), {}, ("without experts",)),
    (
        "group-routing",
        moe(moe_router_num_groups=8, moe_router_group_topk=4, moe_router_topk_limited_devices=4),
        {},
        ("group_topk=4", "limited_devices=4"),
    ),
    (
        "group-routing-runtime",
        moe(num_moe_experts=8, moe_router_topk=4, moe_router_num_groups=8, moe_router_group_topk=2),
        {},
        ("8 experts in 8 groups are 1", "floor(4 / 2) = 2"),
    ),
    ("group-routing-runtime", moe(moe_router_topk_limited_devices=4), {"ep": 2}, ("4 of 2 groups", "ep=2")),
    ("expert-bias", moe(moe_router_enable_expert_bias=True), {}, ("moe_router_score_function=softmax", "sigmoid")),
    ("bias-etp", moe(add_bias_linear=True), {"tp": 2, "etp": 2}, ("128 experts", "etp=2")),
    ("shared-bias", moe(add_bias_linear=True, **SHARED), {}, ("2048", "add_bias_linear=True")),
    ("moe-freq", moe(moe_layer_freq=(1,) * 47), {}, ("47 entries", "48 layers")),
    ("moe-freq", moe(moe_layer_freq=(2,) * 48), {}, ("[2]",)),
    ("latent", moe(moe_latent_size=0), {}, ("moe_latent_size=0",)),
    (
        "expert-bias-sigmoid",
        moe(moe_router_enable_expert_bias=True, moe_router_score_function="sqrtsoftplus"),
        {},
        ("sqrtsoftplus", "sigmoid"),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("ep-needs-moe", model(), {"ep": 1}),
    ("ep-needs-moe", moe(), {"ep": 2}),
    ("experts-ep", moe(), {"ep": 4}),
    ("experts-ep", moe(moe_layer_freq=(0,) * 48), {"ep": 3}),
    ("experts-ep", hybrid("M-M*", num_moe_experts=128), {"ep": 3}),
    ("moeffn-etp", moe(moe_ffn_hidden_size=770), {"tp": 4, "etp": 1}),
    ("moeffn-etp", moe(), {"etp": 4}),
    ("shared-tp", moe(moe_shared_expert_intermediate_size=2050), {"tp": 2, "etp": 8}),
    ("shared-tp", moe(), {"tp": 8}),
    ("moe-tp-needs-sp", moe(), {"tp": 2, "ep": 4, "sequence_parallel": True}),
    ("moe-tp-needs-sp", moe(), {"tp": 1, "etp": 2}),
    ("moe-tp-needs-sp", model(), {"tp": 2}),
    ("moe-ffn", model(moe_ffn_hidden_size=1536, moe_layer_freq=(0, 1)), {}),
    ("moe-ffn", model(moe_ffn_hidden_size=1536, moe_layer_freq=2), {}),
    ("moe-ffn", moe(moe_ffn_hidden_size=1536), {}),
    ("topk", moe(num_moe_experts=8), {}),
    ("topk", model(moe_router_topk=8), {}),
    ("topk-presoftmax", moe(moe_router_topk=1, moe_router_pre_softmax=True), {}),
    ("topk-presoftmax", moe(moe_router_topk=1, moe_router_score_function="sigmoid"), {}),
    ("topk-presoftmax", moe(moe_router_topk=1, moe_router_load_balancing_type="sinkhorn"), {}),
    ("group-routing", moe(moe_router_num_groups=8, moe_router_group_topk=4), {"ep": 4}),
    ("group-routing", moe(moe_router_num_groups=7), {}),
    ("group-routing-runtime", moe(moe_router_num_groups=8, moe_router_group_topk=3), {"ep": 4}),
    ("group-routing-runtime", moe(moe_router_topk=2, moe_router_num_groups=8, moe_router_group_topk=4), {}),
    ("group-routing-runtime", moe(moe_router_topk_limited_devices=4), {"ep": 4}),
    ("expert-bias", moe(moe_router_enable_expert_bias=True, moe_router_score_function="sigmoid"), {}),
    ("bias-etp", moe(add_bias_linear=True), {"tp": 2, "etp": 1}),
    ("bias-etp", model(add_bias_linear=True), {"tp": 2, "etp": 2}),
    ("shared-bias", moe(add_bias_linear=True), {}),
    ("shared-bias", moe(**SHARED), {}),
    ("moe-freq", moe(moe_layer_freq=(0,) * 3 + (1,) * 45), {}),
    ("moe-freq", model(moe_layer_freq=(1,) * 47), {}),
    ("latent", moe(moe_latent_size=1024), {}),
    ("latent", model(moe_latent_size=0), {}),
    (
        "expert-bias-sigmoid",
        moe(moe_router_enable_expert_bias=True, moe_router_score_function="sigmoid"),
        {},
    ),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
