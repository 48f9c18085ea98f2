"""Rules about context parallelism: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints import context, exchange
from models_catalog.schema import ModelSpec
from tests.rules.builders import hybrid, mla, model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in (*context.RULES, *exchange.RULES)}

HCP = "hierarchical_context_parallel_sizes"
A2A = {"cp_comm_type": "a2a"}
BOTH = {"cp_comm_type": "a2a+p2p"}
A2A_SOMEWHERE = {"cp_comm_type": ("p2p",) * 31 + ("a2a",)}
DSA = mla(experimental_attention_variant="dsa")

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("context.seq-2cp", model(), {"cp": 8, "seq_length": 8200}, ("2*8 = 16", "8200 mod 16 = 8")),
    ("context.cp-comm-type", model(), {"cp": 8, "cp_comm_type": ("p2p",) * 3}, ("3 entries", "32 layers")),
    ("context.cp-comm-type", model(), {"cp": 8, "cp_comm_type": "ring"}, ("ring", "cp=8", "p2p, all_gather, a2a")),
    ("context.cp-comm-type", model(), {"cp": 8, "cp_comm_type": "allgather"}, ("allgather",)),
    ("context.cp-a2a-heads", model(), A2A | {"tp": 2, "cp": 8}, ("8 query groups / tp=2", "4 mod 8 = 4")),
    (
        "context.cp-a2a-heads",
        model(num_query_groups=4),
        A2A | {"tp": 8, "cp": 2},
        ("4 query groups / tp=8", "1 mod 2 = 1"),
    ),
    ("context.cp-a2a-heads", mla(), A2A | {"tp": 64, "cp": 4}, ("128 attention heads / tp=64", "2 mod 4 = 2")),
    ("context.cp-a2a-heads", model(), A2A_SOMEWHERE | {"tp": 2, "cp": 8}, ("4 mod 8 = 4",)),
    ("context.cp-a2a-heads", model(), BOTH | {HCP: (8, 2), "tp": 2, "cp": 16}, ("level of 8", "4 mod 8 = 4")),
    ("context.cp-hier", model(), BOTH | {"cp": 8}, ("cp=8", HCP)),
    ("context.cp-hier", model(), BOTH | {"cp": 8, HCP: (2, 2)}, ("[2, 2]", "to 4", "cp=8")),
    ("context.cp-hier", model(), BOTH | {"cp": 8, HCP: (2, 2, 2)}, ("are 3", "2 levels")),
    ("context.cp-hier", model(), {HCP: (4, 2)}, ("to 8", "cp=1")),
    ("context.cp-swa", model(window_size=128), {"cp": 2}, ("128 tokens", "cp=2", "p2p", "cp_comm_type=a2a")),
    ("context.cp-swa", model(window_size=128), BOTH | {HCP: (1, 2), "cp": 2}, ("p2p",)),
    ("context.cp-swa", model(softmax_type="learnable"), {"cp": 2, "cp_comm_type": "all_gather"}, ("learnable", "a2a")),
    (
        "context.cp-sft",
        model(),
        {"task": "sft", "cp": 2, "calculate_per_token_loss": False},
        ("sft", "cp=2", "calculate_per_token_loss=true"),
    ),
    (
        "context.cp-sft",
        model(),
        {"task": "lora", "cp": 2, "average_in_collective": True},
        ("lora", "average_in_collective=false"),
    ),
    ("context.hybrid-cp", model(), {"hybrid_context_parallel": True, "gpus": 3}, ("3*1 = 3",)),
    (
        "context.pack-mbs",
        model(),
        {"packed_sequences": "offline", "micro_batch_size": 2},
        ("micro_batch_size=2", "to 1"),
    ),
    ("context.pack-mbs", model(), {"packed_sequences": "in-batch"}, ("micro_batch_size=1", "to 2")),
    ("context.dsa", DSA, {"cp": 4, "cp_comm_type": "p2p"}, ("cp=4", "p2p", "cp_comm_type=allgather")),
    ("context.dsa", DSA, A2A | {"cp": 4}, ("a2a",)),
    ("context.dsa", mla(experimental_attention_variant="dsa", add_bias_linear=True), {}, ("add_bias_linear=True",)),
    ("context.cp-comm-list", model(num_layers=2), {"cp": 2, "cp_comm_type": ("p2p", "p2p")}, ("list of 2", "cp=2")),
    ("context.cp-channels", model(kv_channels=90), {"cp": 2, "cp_comm_type": "a2a"}, ("90 mod 8 = 2", "cp=2")),
    ("context.cp-mla-gather", mla(), {"cp": 2, "cp_comm_type": "a2a"}, ("cp=2", "a2a", "use p2p")),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("context.seq-2cp", model(), {"cp": 4, "seq_length": 8200}),
    ("context.seq-2cp", model(), {"seq_length": 8191}),
    ("context.cp-comm-type", model(), {"cp": 8, "cp_comm_type": ("p2p", "a2a") * 16}),
    ("context.cp-comm-type", model(), {"cp": 4, "cp_comm_type": "all_gather"}),
    ("context.cp-comm-type", model(), {"cp_comm_type": ("ring",) * 3}),
    ("context.cp-comm-type", DSA, {"cp": 4, "cp_comm_type": "allgather"}),
    ("context.cp-a2a-heads", model(), A2A | {"tp": 2, "cp": 4}),
    ("context.cp-a2a-heads", model(), A2A | {"tp": 3, "cp": 1}),
    ("context.cp-a2a-heads", model(), {"tp": 2, "cp": 8}),
    ("context.cp-a2a-heads", mla(), A2A | {"tp": 32, "cp": 4}),
    ("context.cp-a2a-heads", model(), BOTH | {HCP: (4, 4), "tp": 2, "cp": 16}),
    ("context.cp-a2a-heads", hybrid("M*M-"), {"cp": 3, "cp_comm_type": ("a2a", "p2p", "a2a", "a2a")}),
    ("context.cp-hier", model(), BOTH | {"cp": 8, HCP: (4, 2)}),
    ("context.cp-hier", model(), {"cp": 8, HCP: (4, 2)}),
    ("context.cp-hier", model(), {"cp": 8, HCP: (2, 2, 2)}),
    ("context.cp-swa", model(window_size=128), A2A | {"cp": 2}),
    ("context.cp-swa", model(window_size=128), {"cp": 2, "cp_comm_type": "all_gather"}),
    ("context.cp-swa", model(window_size=128), BOTH | {HCP: (2, 1), "cp": 2}),
    ("context.cp-swa", model(window_size=128), {}),
    ("context.cp-swa", model(window_size=128, window_attn_skip_freq=1), {"cp": 2}),
    ("context.cp-swa", model(window_size=128, window_attn_skip_freq=2), {"cp": 2, "cp_comm_type": ("a2a", "p2p") * 16}),
    ("context.cp-swa", model(softmax_type="learnable"), A2A | {"cp": 2}),
    ("context.cp-sft", model(), {"task": "sft", "cp": 2, "calculate_per_token_loss": True}),
    ("context.cp-sft", model(), {"task": "sft", "cp": 2}),
    ("context.cp-sft", model(), {"task": "lora", "cp": 2, "average_in_collective": False}),
    ("context.cp-sft", model(), {"task": "sft", "calculate_per_token_loss": False}),
    ("context.cp-sft", model(), {"task": "sft"}),
    ("context.cp-sft", model(), {"cp": 2}),
    ("context.hybrid-cp", model(), {"hybrid_context_parallel": True, "gpus": 6, "dp": 3, "cp": 2}),
    ("context.pack-mbs", model(), {"packed_sequences": "offline"}),
    ("context.pack-mbs", model(), {"packed_sequences": "in_batch", "micro_batch_size": 2}),
    ("context.pack-mbs", model(), {"micro_batch_size": 2}),
    ("context.dsa", DSA, {"cp": 4, "cp_comm_type": "allgather"}),
    ("context.dsa", DSA, {"cp": 4, "cp_comm_type": "all_gather"}),
    ("context.dsa", DSA, {"cp": 4}),
    ("context.dsa", DSA, {"cp_comm_type": "p2p"}),
    ("context.dsa", mla(), {"cp": 4}),
    ("context.cp-comm-list", model(num_layers=2), {"cp": 1, "cp_comm_type": ("p2p", "p2p")}),
    ("context.cp-channels", model(kv_channels=90), {"cp": 2, "cp_comm_type": "p2p"}),
    ("context.cp-mla-gather", mla(), {"cp": 2, "cp_comm_type": "p2p"}),
    ("context.cp-mla-gather", model(), {"cp": 2, "cp_comm_type": "a2a"}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
