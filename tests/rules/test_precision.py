"""Rules about low precision: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.precision import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import gpu, hybrid, mla, model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}


def on(name: str, architecture: str, precision: str) -> dict[str, Any]:
    """A precision on a GPU of that name."""
    return {"precision": precision, "gpu": gpu(name=name, architecture=architecture)}


BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("precision.fp8-widths", model(hidden_size=4104), {"precision": "fp8_cs"}, ("4104 mod 16 = 8", "fp8_cs")),
    ("precision.fp8-widths", model(), {"precision": "fp8_cs", "tp": 512}, ("/ tp=512", "8 mod 16 = 8")),
    ("precision.fp8-widths", model(ffn_hidden_size=14320), {"precision": "fp8_cs", "tp": 2}, ("7160 mod 16 = 8",)),
    ("precision.fp8-widths", model(ffn_hidden_size=14352), {"precision": "fp8_mx"}, ("14352 mod 32 = 16", "fp8_mx")),
    ("precision.fp8-widths", mla(v_head_dim=8), {"precision": "fp8_cs", "tp": 128}, ("1024 / tp=128", "8 mod 16 = 8")),
    (
        "precision.fp8-widths",
        moe(moe_shared_expert_intermediate_size=2056),
        {"precision": "fp8_cs"},
        ("2056 mod 16 = 8",),
    ),
    ("precision.fp8-experts", moe(), {"precision": "fp8_mx", "etp": 16}, ("768 / etp=16", "48 mod 32 = 16")),
    ("precision.fp8-experts", moe(moe_ffn_hidden_size=776), {"precision": "fp8_cs"}, ("776 mod 16 = 8",)),
    ("precision.fp8-tokens", model(), {"precision": "fp8_cs", "seq_length": 8191}, ("8191 mod 8 = 7",)),
    ("precision.fp8-tokens", model(), {"precision": "fp8_mx", "seq_length": 4112}, ("4112 mod 32 = 16",)),
    (
        "precision.fp8-tokens",
        model(),
        {"precision": "fp8_cs", "seq_length": 128, "tp": 8, "cp": 4, "sequence_parallel": True},
        ("cp=4 * tp=8", "4 mod 8 = 4"),
    ),
    ("precision.fp8-param", model(), {"fp8_param_gather": True}, ("bf16", "fp8_param_gather=false")),
    ("precision.gpu-format", model(), on("a100", "ampere", "fp8_ds"), ("fp8_ds on a100", "8.0", "8.9 or higher")),
    ("precision.gpu-format", model(), on("l40s", "ada", "fp8_sc"), ("8.9: it wants 9.0",)),
    ("precision.gpu-format", model(), on("h100", "hopper", "fp8_mx"), ("9.0: it wants 10.0",)),
    ("precision.gpu-format", model(), on("h100", "hopper", "nvfp4"), ("nvfp4 on h100",)),
    ("precision.gpu-format", model(), on("rtx", "sm_120", "fp8_mx"), ("does not run on 12.0 and higher",)),
    ("precision.gpu-format", model(), on("mi300x", "cdna3", "fp8_mx"), ("it runs on cdna4",)),
    ("precision.gpu-format", model(), on("mi355x", "cdna4", "fp8_sc"), ("no such GEMM",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("precision.fp8-widths", model(hidden_size=4104), {}),
    ("precision.fp8-widths", model(), {"precision": "fp8_cs", "tp": 8}),
    ("precision.fp8-widths", model(ffn_hidden_size=14352), {"precision": "fp8_cs"}),
    ("precision.fp8-widths", moe(ffn_hidden_size=6143), {"precision": "fp8_cs"}),
    ("precision.fp8-widths", hybrid("MEME", ffn_hidden_size=6143), {"precision": "fp8_cs"}),
    ("precision.fp8-experts", moe(), {"precision": "fp8_cs", "etp": 16}),
    ("precision.fp8-experts", model(moe_ffn_hidden_size=776), {"precision": "fp8_cs"}),
    ("precision.fp8-tokens", model(), {"precision": "fp8_cs", "seq_length": 2052, "micro_batch_size": 2}),
    ("precision.fp8-tokens", model(), {"precision": "fp8_cs", "seq_length": 128, "tp": 8, "cp": 4}),
    ("precision.fp8-tokens", model(), {"seq_length": 8191}),
    ("precision.fp8-param", model(), {"precision": "fp8_cs", "fp8_param_gather": True}),
    ("precision.gpu-format", model(), on("a100", "ampere", "bf16")),
    ("precision.gpu-format", model(), on("v100", "volta", "fp16")),
    ("precision.gpu-format", model(), on("l40s", "ada", "fp8_cs")),
    ("precision.gpu-format", model(), on("h100", "hopper", "fp8_sc")),
    ("precision.gpu-format", model(), on("b200", "blackwell", "nvfp4")),
    ("precision.gpu-format", model(), on("rtx", "sm_120", "nvfp4")),
    ("precision.gpu-format", model(), on("mine", "9.0", "fp8_ds")),
    ("precision.gpu-format", model(), on("mi355x", "cdna4", "fp8_mx")),
    ("precision.gpu-format", model(), on("new", "unheard-of", "nvfp4")),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
