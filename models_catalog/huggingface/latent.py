"""Multi-latent attention: DeepSeek and those who build on it."""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.experts import shared_expert
from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import (
    Values,
    dense_first,
    experts,
    gated,
    grouped_routing,
    mtp,
    sigmoid_routing,
)

__all__ = ["LATENT"]

RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
"""transformers' words for the attention layers of ``deepseek_v4``, and how many keys become one."""


def _latent(r: Reader) -> Values:
    """Ranks and widths of the latents; heads have no key/value groups and no one width."""
    return {
        **gated(r),
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


def _sparse(r: Reader, *, dense: int) -> Values:
    return {
        **experts(r, "n_routed_experts", "moe_intermediate_size"),
        **dense_first(r, default=dense),
        **shared_expert(r, "n_shared_experts", "moe_intermediate_size"),
        **grouped_routing(r),
        **mtp(r),
    }


def _deepseek_v2(r: Reader) -> Values:
    """``deepseek/deepseek_v2_bridge.py``: softmax before the choice; groups only if ``topk_method`` limits to them."""
    values = {**_latent(r), **_sparse(r, dense=0)}
    if r.word("topk_method") != "group_limited_greedy":
        values |= {"moe_router_num_groups": None, "moe_router_group_topk": None}
    return {**values, "moe_router_pre_softmax": True, "moe_router_load_balancing_type": "seq_aux_loss"}


def _deepseek_v3(r: Reader) -> Values:
    """``deepseek/deepseek_v3_bridge.py``, ``kimi/kimi_bridge.py``."""
    return {**_latent(r), **_sparse(r, dense=0), **sigmoid_routing(pre_softmax=True)}


def _glm4_moe_lite(r: Reader) -> Values:
    """``glm/glm47_flash_bridge.py``."""
    return {**_latent(r), **_sparse(r, dense=1), **sigmoid_routing(pre_softmax=True)}


def _sparse_attention(r: Reader, variant: str = "dsa") -> Values:
    """``glm_moe_dsa/glm5_bridge.py``: an indexer picks the ``index_topk`` keys that a query attends to."""
    return {
        "experimental_attention_variant": variant,
        "dsa_indexer_n_heads": r.needed("index_n_heads"),
        "dsa_indexer_head_dim": r.needed("index_head_dim"),
        "dsa_indexer_topk": r.needed("index_topk"),
        "dsa_indexer_topk_freq": r.integer("index_topk_freq", default=1),
        "dsa_indexer_skip_topk_offset": r.count("index_skip_topk_offset"),
    }


def _glm_moe_dsa(r: Reader) -> Values:
    return {**_latent(r), **_sparse(r, dense=3), **sigmoid_routing(pre_softmax=True), **_sparse_attention(r)}


def _deepseek_v32(r: Reader) -> Values:
    return {**_deepseek_v3(r), **_sparse_attention(r)}


def _deepseek_v4(r: Reader) -> Values:
    """``deepseek/deepseek_v4_bridge.py``: keys compressed by layer, hyper-connections, every layer with experts."""
    width, rope = r.needed("head_dim"), r.integer("qk_rope_head_dim", default=64) or 64
    if rope >= width:
        r.refuse("qk_rope_head_dim", f"is {rope}: it is a part of head_dim {width}")
    inner = Reader({**r.config, "intermediate_size": r.needed("moe_intermediate_size")}, r.origin, r.places, r.prefix)
    return {
        **gated(inner),
        **experts(r, "n_routed_experts", "moe_intermediate_size"),
        **shared_expert(r, "n_shared_experts", "moe_intermediate_size", default=1),
        **mtp(r),
        "num_query_groups": None,
        "kv_channels": None,
        "qk_layernorm": True,
        "multi_latent_attention": True,
        "q_lora_rank": r.needed("q_lora_rank"),
        "kv_lora_rank": width,
        "qk_head_dim": width - rope,
        "qk_pos_emb_head_dim": rope,
        "v_head_dim": width,
        **_sparse_attention(r, "dsv4_hybrid"),
        "csa_compress_ratios": _compress_ratios(r),
        "o_groups": r.needed("o_groups"),
        "o_lora_rank": r.needed("o_lora_rank"),
        "enable_hyper_connections": True,
        "num_residual_streams": r.integer("hc_mult", default=4),
        "moe_router_score_function": r.word("scoring_func") or "sqrtsoftplus",
        "moe_router_enable_expert_bias": True,
        "moe_router_load_balancing_type": "noaux_tc",
    }


def _compress_ratios(r: Reader) -> list[int]:
    """A number for each layer, of the decoder and of the MTP layers behind it: 0 where keys are not compressed."""
    layers, depth = r.needed("num_hidden_layers"), r.count("num_nextn_predict_layers")
    ratios = r.integers("compress_ratios")
    if ratios is None:
        types = r.words("layer_types", tuple(RATIOS), layers)
        if types is None:
            r.refuse("compress_ratios", "is missing, and so is layer_types")
        rates = r.below("compress_rates") if r.config.get("compress_rates") is not None else None
        ratios = [RATIOS[kind] if rates is None else rates.count(kind, default=RATIOS[kind]) for kind in types]
    if len(ratios) < layers:
        r.refuse("compress_ratios", f"has {len(ratios)} entries, the model has {layers} layers")
    return (ratios + [0] * depth)[: layers + depth]


LATENT: dict[str, Callable[[Reader], Values]] = {
    "deepseek_v2": _deepseek_v2,
    "deepseek_v3": _deepseek_v3,
    "deepseek_v32": _deepseek_v32,
    "deepseek_v4": _deepseek_v4,
    "kimi_k2": _deepseek_v3,
    "glm4_moe_lite": _glm4_moe_lite,
    "glm_moe_dsa": _glm_moe_dsa,
}
