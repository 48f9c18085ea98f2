"""Rules about feed-forward width and vocabulary: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.feedforward import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import hybrid, model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

BARE = {"should_pad_vocab": False, "vocab_size": 50257}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("feedforward.ffn-tp", model(ffn_hidden_size=14337), {"tp": 2}, ("14337", "tp=2", "14337 mod 2 = 1")),
    ("feedforward.ffn-tp", model(ffn_hidden_size=14337, gated_linear_unit=False), {"tp": 2}, ("14337 mod 2 = 1",)),
    ("feedforward.ffn-tp", model(ffn_hidden_size=None, hidden_size=4097), {"tp": 8}, ("16388 mod 8 = 4",)),
    ("feedforward.ffn-tp", moe(ffn_hidden_size=6143, moe_layer_freq=(0, *(1,) * 47)), {"tp": 2}, ("6143 mod 2 = 1",)),
    ("feedforward.ffn-tp", hybrid("M-M*", ffn_hidden_size=6143), {"tp": 2}, ("6143 mod 2 = 1",)),
    ("feedforward.vocab-pad", model(**BARE), {"tp": 8}, ("50257", "tp=8", "50257 mod 8 = 1", "should_pad_vocab=True")),
    ("feedforward.mtp-tp", model(hidden_size=2880, mtp_num_layers=1), {"tp": 7}, ("2880", "tp=7", "2880 mod 7 = 3")),
    (
        "feedforward.mtp-tp",
        hybrid("M*/M*", num_layers=2, hidden_size=2880, mtp_num_layers=1),
        {"tp": 7},
        ("2880 mod 7 = 3",),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("feedforward.ffn-tp", model(), {"tp": 8}),
    # Where every layer is MoE, no dense layer is built and its width does not matter.
    ("feedforward.ffn-tp", moe(ffn_hidden_size=6143), {"tp": 2}),
    ("feedforward.ffn-tp", hybrid("MEM*", ffn_hidden_size=6143, num_moe_experts=8), {"tp": 2}),
    ("feedforward.ffn-tp", model(ffn_hidden_size=14337), {"tp": 1}),
    ("feedforward.vocab-pad", model(vocab_size=50257), {"tp": 8}),
    ("feedforward.vocab-pad", model(should_pad_vocab=False, vocab_size=50256), {"tp": 8}),
    ("feedforward.mtp-tp", model(hidden_size=2880), {"tp": 7}),
    # A hybrid model builds MTP layers from a part of its pattern: without one there is none.
    ("feedforward.mtp-tp", hybrid("M*", num_layers=2, hidden_size=2880, mtp_num_layers=1), {"tp": 7}),
    ("feedforward.mtp-tp", model(hidden_size=2880, mtp_num_layers=1), {"tp": 8}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
