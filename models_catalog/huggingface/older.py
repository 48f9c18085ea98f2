"""Decoders from before Llama set the shape: LayerNorm, biases, no gate, learned positions or ALiBi, parallel parts.

Sources: transformers' configuration and modelling files of each ``model_type``; Megatron Bridge converts none of them.
"""

from __future__ import annotations

from collections.abc import Callable

from models_catalog.huggingface.reader import Reader
from models_catalog.huggingface.shared import Values, common

__all__ = ["OLDER"]


def _gpt2(r: Reader) -> Values:
    values = common(r, tied=True, norm="LayerNorm")
    return {
        **values,
        "ffn_hidden_size": r.integer("n_inner", default=4 * values["hidden_size"]),
        "add_bias_linear": True,
        "position_embedding_type": "learned_absolute",
    }


def _gpt_neox(r: Reader) -> Values:
    """Attention and feed-forward run in parallel, each behind a norm of its own."""
    r.needed("intermediate_size")
    return {**common(r, norm="LayerNorm"), "add_bias_linear": True}


def _phi(r: Reader) -> Values:
    """Attention and feed-forward read one normed input; every linear layer has a bias, the output layer too."""
    r.needed("intermediate_size")
    return {
        **common(r, norm="LayerNorm"),
        "norms_per_layer": 1,
        "add_bias_linear": True,
        "qk_layernorm": r.truth("qk_layernorm", False),
    }


def _bloom(r: Reader) -> Values:
    """ALiBi, which Megatron-Core has not, instead of position embeddings.

    Its norm behind the word embeddings is not counted.
    """
    values = common(r, tied=True, norm="LayerNorm")
    return {
        **values,
        "max_position_embeddings": r.integer("seq_length", "max_position_embeddings"),
        "ffn_hidden_size": 4 * values["hidden_size"],
        "add_bias_linear": True,
        "position_embedding_type": "none",
    }


def _falcon(r: Reader) -> Values:
    """Falcon-40B and -180B norm the input twice, for attention and for feed-forward; Falcon-7B once, with one key head."""
    values = common(r, tied=True, norm="LayerNorm")
    new, parallel = r.truth("new_decoder_architecture", False), r.truth("parallel_attn", True)
    groups = r.integer("num_kv_heads", "n_head_kv", default=values["num_attention_heads"])
    norms = r.integer("num_ln_in_parallel_attn", default=2 if new else 1)
    return {
        **values,
        "num_query_groups": groups if new else 1 if r.truth("multi_query", True) else values["num_attention_heads"],
        "ffn_hidden_size": r.integer("ffn_hidden_size", default=4 * values["hidden_size"]),
        "max_position_embeddings": values["max_position_embeddings"] or 2048,
        "norms_per_layer": norms if parallel or new else 2,
        "add_bias_linear": r.truth("bias", False),
        "position_embedding_type": "none" if r.truth("alibi", False) else "rope",
    }


OLDER: dict[str, Callable[[Reader], Values]] = {
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "phi": _phi,
    "bloom": _bloom,
    "falcon": _falcon,
}
