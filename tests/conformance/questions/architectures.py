"""Random architectures of every family: small, because only divisibility counts, and mostly of numbers that divide well."""

from __future__ import annotations

from random import Random
from typing import Any

__all__ = ["FAMILIES", "architecture"]

FAMILIES = (
    "dense",
    "dense",
    "experts",
    "experts",
    "mixed",
    "latent",
    "windowed",
    "hybrid",
    "hybrid",
    "linear",
    "latent",
)
HEADS = (4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
LAYERS = (4, 6, 8, 10, 12, 15, 16, 20, 22, 24, 30, 31, 32, 36, 46, 48, 61)


def architecture(family: str, draw: Random, number: int) -> dict[str, Any]:
    """A model's entry with Megatron's field names, called ``family-number``."""
    model = {"name": f"{family}-{number}", **_trunk(draw), **_MAKERS[family](draw)}
    if family == "hybrid":
        model["num_layers"] = len(model["hybrid_override_pattern"].split("/")[0].replace("|", ""))
    if family == "mixed":
        dense = draw.randint(1, 3)
        model["moe_layer_freq"] = draw.choice([[0] * dense + [1] * (model["num_layers"] - dense), 2])
    return model


def _trunk(draw: Random) -> dict[str, Any]:
    heads = draw.choice(HEADS)
    groups = draw.choice([d for d in range(1, heads + 1) if heads % d == 0 and d in (1, 2, 3, 4, 5, 6, 8, 16, heads)])
    channels = draw.choice((64, 64, 128, 80, 96))
    trunk = {
        "num_layers": draw.choice(LAYERS),
        "hidden_size": draw.choice((heads * channels, heads * 64, 1024, 2048, 2880)),
        "num_attention_heads": heads,
        "num_query_groups": groups,
        "kv_channels": channels,
        "ffn_hidden_size": draw.choice((2048, 3072, 4096, 5504, 11008, 14336, 1536 * 3)),
        "gated_linear_unit": draw.random() < 0.8,
        "vocab_size": draw.choice((32000, 50257, 128256, 151936)),
    }
    if draw.random() < 0.1:
        trunk["share_embeddings_and_output_weights"] = True
    if draw.random() < 0.1:
        trunk["qk_layernorm"] = True
    if draw.random() < 0.08:
        del trunk["kv_channels"]
    if draw.random() < 0.05:
        del trunk["num_query_groups"]
    return trunk


def _dense(draw: Random) -> dict[str, Any]:
    return {"mtp_num_layers": 1} if draw.random() < 0.1 else {}


def _experts(draw: Random) -> dict[str, Any]:
    experts = draw.choice((8, 16, 24, 32, 48, 64, 96, 128, 160, 256))
    model: dict[str, Any] = {
        "num_moe_experts": experts,
        "moe_router_topk": draw.choice([k for k in (1, 2, 4, 6, 8) if k <= experts]),
        "moe_ffn_hidden_size": draw.choice((512, 768, 1024, 1408, 1536, 2048)),
    }
    if model["moe_router_topk"] == 1:
        model["moe_router_pre_softmax"] = True
    if draw.random() < 0.35:
        model["moe_shared_expert_intermediate_size"] = draw.choice((512, 1024, 1408, 2048))
    if draw.random() < 0.3:
        model |= {"moe_router_score_function": "sigmoid", "moe_router_enable_expert_bias": True}
    if draw.random() < 0.2:
        groups = draw.choice([g for g in (2, 4, 8) if experts % g == 0])
        model |= {"moe_router_num_groups": groups, "moe_router_group_topk": draw.randint(1, groups)}
    if draw.random() < 0.1:
        model["mtp_num_layers"] = draw.choice((1, 1, 2))
    return model


def _mixed(draw: Random) -> dict[str, Any]:
    return _experts(draw)


def _latent(draw: Random) -> dict[str, Any]:
    model = {
        "multi_latent_attention": True,
        "q_lora_rank": draw.choice((None, 384, 1536)),
        "kv_lora_rank": draw.choice((512, 511, 256)),
        "qk_head_dim": draw.choice((128, 64)),
        "qk_pos_emb_head_dim": 64,
        "v_head_dim": draw.choice((128, 64)),
        "num_query_groups": None,
        "kv_channels": None,
    }
    more = _mixed(draw) if draw.random() < 0.8 else {}
    return {name: value for name, value in (model | more).items() if value is not None or name in DROPPED}


DROPPED = ("num_query_groups", "kv_channels")
"""Fields that another family has and this one leaves to Megatron's defaults."""


def _windowed(draw: Random) -> dict[str, Any]:
    model: dict[str, Any] = {"window_size": draw.choice((128, 1024))}
    if draw.random() < 0.7:
        model["window_attn_skip_freq"] = draw.choice((2, 4, 6))
    if draw.random() < 0.4:
        model["softmax_type"] = "learnable"
    return model | (_experts(draw) if draw.random() < 0.4 else {})


def _hybrid(draw: Random) -> dict[str, Any]:
    length = draw.choice((8, 12, 16, 24, 30))
    experts = draw.random() < 0.3
    symbols = "".join(draw.choice("MMMM*-" + "EE" * experts) for _ in range(length - 2)) + "M*"
    heads = draw.choice((16, 32, 48, 64, 128))
    model: dict[str, Any] = {
        "hybrid_override_pattern": symbols,
        "mamba_num_heads": heads,
        "mamba_head_dim": 64,
        "mamba_state_dim": 128,
        "mamba_num_groups": draw.choice([g for g in (1, 2, 4, 8, 16) if heads % g == 0]),
        "mtp_num_layers": None,
    }
    if experts:
        model |= {name: value for name, value in _experts(draw).items() if name != "mtp_num_layers"}
        if "E" not in symbols:
            model["hybrid_override_pattern"] = "E" + symbols[1:]
    return model


def _linear(draw: Random) -> dict[str, Any]:
    """Gated delta nets between attention layers."""
    keys = draw.choice((8, 16, 32))
    return {
        "experimental_attention_variant": "gated_delta_net",
        "linear_attention_freq": draw.choice((2, 4)),
        "linear_num_key_heads": keys,
        "linear_num_value_heads": keys * draw.choice((1, 2, 2)) + draw.choice((0, 0, 0, 1)),
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    } | (_experts(draw) if draw.random() < 0.5 else {})


_MAKERS = {
    "linear": _linear,
    "dense": _dense,
    "experts": _experts,
    "mixed": _mixed,
    "latent": _latent,
    "windowed": _windowed,
    "hybrid": _hybrid,
}
