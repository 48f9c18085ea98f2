"""A Hugging Face ``config.json`` as a model. Reads integers; never executes anything, never goes to the network.

Covered: decoder-only families whose layers Megatron Bridge maps one to one. Anything else is refused by its
``model_type`` rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models_catalog.errors import InvalidEntry
from models_catalog.schema import ModelSpec

__all__ = ["MODEL_TYPES", "model_from_hf"]

Config = dict[str, Any]


class _Reader:
    """Takes keys out of one config and says which one is missing or wrong."""

    def __init__(self, config: Config, origin: str) -> None:
        self.config, self.origin = config, origin

    def integer(self, *names: str, default: int | None = None, least: int = 1) -> int | None:
        """The first of ``names`` that is there, a whole number of at least ``least``."""
        for name in names:
            value = self.config.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**9:
                raise InvalidEntry(self.origin, name, f"is {value!r}: it must be a whole number from {least} up")
            return value
        return default

    def needed(self, *names: str) -> int:
        """Like :meth:`integer`, but it must be there."""
        value = self.integer(*names)
        if value is None:
            raise InvalidEntry(self.origin, names[0], "is missing")
        return value

    def truth(self, name: str, default: bool) -> bool:
        value = self.config.get(name, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise InvalidEntry(self.origin, name, f"is {value!r}: it must be true or false")
        return value


def model_from_hf(config: Config, origin: str) -> ModelSpec:
    """The model that ``config`` describes. Raises :class:`~models_catalog.errors.InvalidEntry` naming the key."""
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise InvalidEntry(origin, "model_type", "is missing")
    if kind not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise InvalidEntry(origin, "model_type", f"is {kind!r}, which is not read here; known: {known}")
    reader = _Reader(config, origin)
    values = _common(reader, kind)
    values |= _FAMILIES[kind](reader)
    from models_catalog.validation import validated_model

    return validated_model({name: value for name, value in values.items() if value is not None}, origin)


def _common(r: _Reader, kind: str) -> dict[str, Any]:
    name = r.config.get("_name_or_path") or kind
    heads = r.needed("num_attention_heads")
    return {
        "name": str(name).rstrip("/").split("/")[-1].lower()[:100] or kind,
        "family": kind,
        "num_layers": r.needed("num_hidden_layers"),
        "hidden_size": r.needed("hidden_size"),
        "ffn_hidden_size": r.needed("intermediate_size"),
        "num_attention_heads": heads,
        "num_query_groups": r.integer("num_key_value_heads", default=heads),
        "kv_channels": r.integer("head_dim"),
        "vocab_size": r.needed("vocab_size"),
        "max_position_embeddings": r.integer("max_position_embeddings"),
        "share_embeddings_and_output_weights": r.truth("tie_word_embeddings", kind in ("gemma2", "gemma3_text")),
        "gated_linear_unit": True,
        "normalization": "RMSNorm",
        "sources": [r.origin],
    }


def _dense(r: _Reader) -> dict[str, Any]:
    return {"add_qkv_bias": r.truth("attention_bias", False)}


def _qwen2(r: _Reader) -> dict[str, Any]:
    return {"add_qkv_bias": True}


def _qwen3(r: _Reader) -> dict[str, Any]:
    return {"qk_layernorm": True, "add_qkv_bias": r.truth("attention_bias", False)}


def _experts(r: _Reader, experts: str, width: str) -> dict[str, Any]:
    return {
        "num_moe_experts": r.needed(experts),
        "moe_router_topk": r.needed("num_experts_per_tok"),
        "moe_ffn_hidden_size": r.needed(width),
    }


def _mixtral(r: _Reader) -> dict[str, Any]:
    return _experts(r, "num_local_experts", "intermediate_size")


def _qwen_moe(r: _Reader) -> dict[str, Any]:
    layers, step = r.needed("num_hidden_layers"), r.integer("decoder_sparse_step", default=1) or 1
    dense = set(r.config.get("mlp_only_layers") or [])
    pattern = [int((i + 1) % step == 0 and i not in dense) for i in range(layers)]
    return {**_experts(r, "num_experts", "moe_intermediate_size"), "moe_layer_freq": pattern}


def _qwen2_moe(r: _Reader) -> dict[str, Any]:
    shared = r.integer("shared_expert_intermediate_size")
    extra = {"moe_shared_expert_intermediate_size": shared, "moe_shared_expert_gate": shared is not None}
    return {"add_qkv_bias": True, **_qwen_moe(r), **extra}


def _qwen3_moe(r: _Reader) -> dict[str, Any]:
    return {**_qwen3(r), **_qwen_moe(r)}


def _olmoe(r: _Reader) -> dict[str, Any]:
    return {**_experts(r, "num_experts", "intermediate_size"), "qk_layernorm": True, "moe_router_pre_softmax": True}


def _leading_dense(r: _Reader, width: str = "moe_intermediate_size") -> dict[str, Any]:
    """DeepSeek's way: ``first_k_dense_replace`` dense layers, then experts, some of them shared."""
    layers, dense = r.needed("num_hidden_layers"), r.integer("first_k_dense_replace", default=0, least=0) or 0
    if dense > layers:
        raise InvalidEntry(r.origin, "first_k_dense_replace", f"is {dense}, more than num_hidden_layers {layers}")
    shared, groups = r.integer("n_shared_experts", default=0, least=0) or 0, r.integer("n_group") or 1
    values = {
        **_experts(r, "n_routed_experts", width),
        "moe_layer_freq": [0] * dense + [1] * (layers - dense),
        "moe_shared_expert_intermediate_size": shared * r.needed(width) or None,
        "mtp_num_layers": r.integer("num_nextn_predict_layers", least=0) or None,
    }
    if groups > 1:
        values |= {"moe_router_num_groups": groups, "moe_router_group_topk": r.needed("topk_group")}
    if r.config.get("scoring_func") == "sigmoid" or r.config.get("topk_method") == "noaux_tc":
        values |= {"moe_router_score_function": "sigmoid", "moe_router_enable_expert_bias": True}
    return values


def _deepseek(r: _Reader) -> dict[str, Any]:
    return {
        **_leading_dense(r),
        "num_query_groups": None,
        "kv_channels": None,
        "qk_layernorm": True,
        "multi_latent_attention": True,
        "q_lora_rank": r.integer("q_lora_rank"),
        "kv_lora_rank": r.needed("kv_lora_rank"),
        "qk_head_dim": r.needed("qk_nope_head_dim"),
        "qk_pos_emb_head_dim": r.needed("qk_rope_head_dim"),
        "v_head_dim": r.needed("v_head_dim"),
    }


def _deepseek_v2(r: _Reader) -> dict[str, Any]:
    return {**_deepseek(r), "moe_router_pre_softmax": True}


def _glm4_moe(r: _Reader) -> dict[str, Any]:
    return {
        **_leading_dense(r),
        "add_qkv_bias": r.truth("attention_bias", False),
        "qk_layernorm": r.truth("use_qk_norm", False),
        "moe_router_score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
    }


def _gpt_oss(r: _Reader) -> dict[str, Any]:
    return {
        **_experts(r, "num_local_experts", "intermediate_size"),
        "add_bias_linear": True,
        "softmax_type": "learnable",
        "window_size": r.integer("sliding_window"),
        "window_attn_skip_freq": 2,
    }


_FAMILIES: dict[str, Callable[[_Reader], dict[str, Any]]] = {
    "llama": _dense,
    "mistral": _dense,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3": _qwen3,
    "qwen3_moe": _qwen3_moe,
    "olmoe": _olmoe,
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek,
    "kimi_k2": _deepseek,
    "glm4_moe": _glm4_moe,
    "gpt_oss": _gpt_oss,
}

MODEL_TYPES = tuple(sorted(_FAMILIES))
"""The ``model_type`` values that are read."""
