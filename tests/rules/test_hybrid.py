"""Rules about hybrid patterns and recurrent layers: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints import hybrid as patterns
from constraints import recurrent
from constraints.layout import PipelineSplit
from models_catalog.schema import ModelSpec
from tests.rules.builders import hybrid, model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in (*patterns.RULES, *recurrent.RULES)}

VARIANT = {"experimental_attention_variant": "gated_delta_net"}
GDN = model(**VARIANT, linear_num_key_heads=16, linear_num_value_heads=32)

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("hybrid.hybrid-symbols", hybrid("MX*", num_layers=3), {}, ("MX*", "holds X")),
    ("hybrid.hybrid-symbols", hybrid("M*M+"), {}, ("M*M+", "mixes")),
    ("hybrid.hybrid-symbols", hybrid("M*/MM/M*", num_layers=2), {}, ("MM, M*",)),
    ("hybrid.hybrid-symbols", hybrid("M*/M|M", num_layers=2), {}, ("M|M", "holds |")),
    ("hybrid.hybrid-symbols", hybrid("M*M", num_layers=4), {}, ("3 layers", "num_layers=4")),
    ("hybrid.hybrid-no-vpp", hybrid(), {"pp": 2, "vpp": 2}, ("vpp=2", "pp=2")),
    ("hybrid.hybrid-pipes", hybrid("M*|M*|M*"), {"pp": 2}, ("3 segments", "3 mod 2 = 1")),
    ("hybrid.hybrid-pipes", hybrid("M*|M*"), {"pp": 2, "split": PipelineSplit(first=2)}, ("2 segments", "first=2")),
    ("hybrid.pipes-used", hybrid("M*|M*|M*|M*"), {"pp": 2}, ("4 segments", "builds 2")),
    ("hybrid.pipes-used", hybrid("M*|M*"), {"pp": 1}, ("2 segments", "builds 1")),
    ("hybrid.hybrid-split", hybrid("M-M*M-M*"), {"pp": 3}, ("8 layers", "8 mod 3 = 2")),
    (
        "hybrid.hybrid-split",
        hybrid("M-M*M-M"),
        {"pp": 2, "split": PipelineSplit(account_for_loss=True)},
        ("7 mod 2 = 1",),
    ),
    ("hybrid.mamba-heads", hybrid(mamba_num_heads=112), {"tp": 32}, ("112 mod 32 = 16",)),
    ("hybrid.mamba-heads", hybrid(mamba_num_heads=None), {"tp": 3}, ("128 mod 3 = 2",)),
    ("hybrid.mamba-heads", hybrid(mamba_num_heads=None, hidden_size=4100), {}, ("4100", "64")),
    ("hybrid.mamba-groups", hybrid(), {"tp": 16}, ("8 Mamba groups", "8 mod 16 = 8")),
    ("hybrid.mamba-groups", hybrid(mamba_num_heads=100), {}, ("100 mod 8 = 4",)),
    ("hybrid.mamba-cp", hybrid(), {"tp": 4, "cp": 3}, ("32 mod 3 = 2",)),
    ("hybrid.mamba-cp", hybrid(mamba_num_heads=96, mamba_num_groups=4), {"cp": 6}, ("4 Mamba groups", "cp=6")),
    ("hybrid.mamba-fp8", hybrid(mamba_num_heads=100), {"precision": "fp8_cs"}, ("14948 mod 16 = 4",)),
    ("hybrid.gdn", GDN, {"tp": 8, "cp": 4}, ("16 key heads", "8*4 = 32", "16 mod 32 = 16")),
    ("hybrid.gdn", model(**VARIANT, linear_num_key_heads=16, linear_num_value_heads=24), {}, ("24 mod 16 = 8",)),
    ("hybrid.gdn", model(**VARIANT, linear_num_key_heads=16), {}, ("linear_num_value_heads", "16 and 0")),
    ("hybrid.hybrid-no-pipes", hybrid("M*|M*"), {"pp": 2}, ("M*|M*",)),
    ("hybrid.hybrid-no-pipes", hybrid("M*/M*", num_layers=2), {}, ("M*/M*",)),
    ("hybrid.gdn-cp", GDN, {"cp": 2}, ("cp=2",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("hybrid.hybrid-symbols", hybrid("MG*-E|M*/M*/M*", num_layers=7), {}),
    ("hybrid.hybrid-symbols", hybrid("MD+"), {}),
    ("hybrid.hybrid-symbols", model(), {}),
    ("hybrid.hybrid-no-vpp", hybrid(), {"pp": 2}),
    ("hybrid.hybrid-no-vpp", model(), {"pp": 2, "vpp": 2}),
    ("hybrid.hybrid-pipes", hybrid("M*|M*|M*|M*"), {"pp": 2}),
    ("hybrid.hybrid-pipes", hybrid("M*M*"), {"pp": 2, "split": PipelineSplit(first=3)}),
    ("hybrid.pipes-used", hybrid("M*|M*|M*|M*"), {"pp": 4}),
    ("hybrid.pipes-used", hybrid("M*M*"), {"pp": 2}),
    ("hybrid.hybrid-split", hybrid("M-M*M-M*"), {"pp": 4}),
    ("hybrid.hybrid-split", hybrid("M-M*M-M"), {"pp": 2, "split": PipelineSplit(first=3)}),
    ("hybrid.hybrid-split", hybrid("M-M|M*M-M*"), {"pp": 2}),
    ("hybrid.mamba-heads", hybrid(mamba_num_heads=112), {"tp": 16}),
    ("hybrid.mamba-heads", hybrid("**", mamba_num_heads=112), {"tp": 32}),
    ("hybrid.mamba-groups", hybrid(), {"tp": 8}),
    ("hybrid.mamba-groups", hybrid(mamba_num_groups=None), {"tp": 8}),
    ("hybrid.mamba-cp", hybrid(), {"tp": 4, "cp": 4}),
    ("hybrid.mamba-cp", hybrid(mamba_num_heads=96, mamba_num_groups=4), {"cp": 2}),
    ("hybrid.mamba-cp", hybrid(), {"tp": 3}),
    ("hybrid.mamba-cp", model(), {"tp": 4, "cp": 3}),
    ("hybrid.mamba-fp8", hybrid(), {"precision": "fp8_cs"}),
    ("hybrid.mamba-fp8", hybrid(mamba_num_heads=100), {"precision": "nvfp4"}),
    ("hybrid.gdn", GDN, {"tp": 4, "cp": 4}),
    ("hybrid.gdn", model(linear_num_key_heads=3), {"tp": 8}),
    ("hybrid.hybrid-no-pipes", hybrid("M*M*"), {"pp": 2}),
    ("hybrid.gdn-cp", GDN, {}),
    ("hybrid.gdn-cp", model(), {"cp": 2}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
