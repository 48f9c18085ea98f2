"""Rules about attention over tensor ranks: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.attention import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import judge, mla, model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

GATE = {"attention_output_gate": True}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("attention.heads-tp", model(num_attention_heads=28), {"tp": 8}, ("28 attention heads", "tp=8", "28 mod 8 = 4")),
    ("attention.heads-tp", mla(), {"tp": 3}, ("128 mod 3 = 2",)),
    ("attention.groups-tp", model(num_attention_heads=24, num_query_groups=6), {"tp": 4}, ("6 query groups", "tp=4")),
    # Latent attention has no query groups of its own, yet Megatron looks at them.
    ("attention.groups-tp", mla(num_query_groups=6), {"tp": 4}, ("6 query groups", "tp=4")),
    ("attention.heads-groups", model(num_query_groups=5), {}, ("32 attention heads", "5 query groups", "32 mod 5 = 2")),
    # Latent attention has no groups, but hands a count that is set to Transformer Engine, which looks at it.
    ("attention.heads-groups", mla(num_query_groups=5), {}, ("128 mod 5 = 3",)),
    (
        "attention.qkv-tp",
        model(num_attention_heads=9, num_query_groups=3, kv_channels=7),
        {"tp": 2},
        ("105", "tp=2", "105 mod 2 = 1"),
    ),
    # Projections of 72 + 2 * 8 = 88 and 72: a head of 3 channels falls between ranks, heads-tp speaks as well.
    ("attention.qkv-tp", model(num_attention_heads=24, num_query_groups=1, kv_channels=3), {"tp": 16}, ("78 mod 16",)),
    ("attention.qkv-tp", mla(v_head_dim=127, qk_head_dim=127), {"tp": 256}, ("mod 256",)),
    ("attention.mla", mla(**GATE), {}, ("attention_output_gate=True",)),
    ("attention.mla", mla(rotary_interleaved=True), {}, ("rotary_interleaved=True",)),
    ("attention.mla", mla(apply_rope_fusion=True, rope_type="rope"), {}, ("rope_type=rope",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("attention.heads-tp", model(num_attention_heads=28), {"tp": 4}),
    ("attention.heads-tp", mla(), {"tp": 64}),
    # Fewer key/value heads than tensor ranks are replicated.
    ("attention.groups-tp", model(num_query_groups=8), {"tp": 16}),
    ("attention.groups-tp", model(num_query_groups=8), {"tp": 4}),
    ("attention.groups-tp", model(num_query_groups=1), {"tp": 8}),
    ("attention.groups-tp", model(num_query_groups=None), {"tp": 32}),
    ("attention.heads-groups", model(num_query_groups=4), {}),
    ("attention.heads-groups", mla(), {}),
    ("attention.qkv-tp", model(num_attention_heads=9, num_query_groups=3, kv_channels=8), {"tp": 2}),
    ("attention.qkv-tp", model(num_query_groups=2, **GATE), {"tp": 8}),
    ("attention.qkv-tp", mla(), {"tp": 8}),
    ("attention.mla", mla(apply_rope_fusion=True, rope_type="yarn"), {}),
    ("attention.mla", model(rotary_interleaved=True, **GATE), {}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)


UNRULED: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("the hidden size is never split over tensor ranks", model(hidden_size=4100, kv_channels=128), {"tp": 32}),
    ("heads that do not divide the hidden size floor kv_channels", model(hidden_size=4127), {"tp": 32}),
    ("low-rank latents are duplicated over tensor ranks", mla(q_lora_rank=1537, kv_lora_rank=511), {"tp": 8}),
    ("rotary channels of latent attention are not split", mla(qk_pos_emb_head_dim=63, qk_head_dim=129), {"tp": 2}),
]


@pytest.mark.parametrize(("spec", "words"), [case[1:] for case in UNRULED], ids=[case[0] for case in UNRULED])
def test_widths_that_no_rule_minds(spec: ModelSpec, words: dict[str, Any]) -> None:
    assert [judge(rule, spec, **words) for rule in RULES] == [None] * len(RULES)
