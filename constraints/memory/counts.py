"""A whole model's parameters, unsharded and with the vocabulary as published, by the formulas of the memory rule.

Published counts differ in what they leave out: MTP layers (usually), one or both embeddings from the active count (gpt-oss,
Moonlight). Here everything the model has is counted, except its MTP layers, which :func:`mtp_parameters` counts.
"""

from __future__ import annotations

from collections import Counter

from constraints.memory.mixers import norm_elements
from constraints.memory.parameters import all_experts, layer_sizes
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["mtp_parameters", "parameter_counts"]


def parameter_counts(model: ModelSpec) -> tuple[int, int]:
    """All parameters, and those that one token passes through: ``moe_router_topk`` routed experts of each MoE layer.

    >>> tiny = ModelSpec("tiny", num_layers=1, hidden_size=4, num_attention_heads=2, vocab_size=10, ffn_hidden_size=8)
    >>> parameter_counts(tiny)  # 2 * 40 embedding and output, 4 * 16 attention, 2 * 32 feed-forward, 3 norms of 4
    (220, 220)
    """
    total, active = _layers(model, Counter(model.layer_kinds))
    ends = _embeddings(model) + norm_elements(model) + _stream_head(model)
    return total + ends, active + ends


def mtp_parameters(model: ModelSpec) -> tuple[int, int]:
    """All and active parameters of the MTP layers that are stored: inner layers, the ``2h -> h`` projection, three norms."""
    total, active = _layers(model, Counter(model.mtp_kinds))
    own = 2 * model.hidden_size**2 + norm_elements(model, 3) + _stream_head(model)
    return model.mtp_stored * (total + own), model.mtp_stored * (active + own)


def _layers(model: ModelSpec, kinds: Counter[LayerKind]) -> tuple[int, int]:
    total = active = 0
    for kind, count in kinds.items():
        dense = sum(layer_sizes(model, kind)) * count
        total, active = total + dense, active + dense
        if kind.feedforward == "moe":
            experts = all_experts(model) * count
            total, active = total + experts, active + experts // model.experts * model.moe_router_topk
    return total, active


def _embeddings(model: ModelSpec) -> int:
    tables = 1 if model.share_embeddings_and_output_weights else 2
    positions = model.max_position_embeddings or 0 if model.position_embedding_type == "learned_absolute" else 0
    return (tables * model.vocab_size + positions) * model.hidden_size


def _stream_head(model: ModelSpec) -> int:
    """What brings hyper-connected streams together before the final norm: ``n`` weights a token, their biases, a scale."""
    n = model.residual_streams
    return 0 if n == 1 else n * n * model.hidden_size + n + 1
