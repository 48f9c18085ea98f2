"""Activations that one layer keeps from its forward to its backward pass, in bytes per micro-batch.

bf16, Transformer Engine layers, fused attention. ``n`` tokens are on the rank's context shard, ``n'`` after sequence
parallelism, ``n_t = n/tp`` stands for a width split over tensor ranks. Per layer::

    norm       (4h + 4 norms) n'                          input and output of the norm, statistics
    attention  (4q + 4 heads) n_t + 4 max(k n_t, d n)     rotated q, output, log-sum-exp; k, v (one group at least)
    MLA        (4 lq + 4 lkv + 2 rope + 8) n' + (4 a (dn + dr) + 4 a dv + 4 a) n_t
    dense      (2g + 2) f n_t                             first projection, activation
    MoE        17 E n' + 2h R + (2g + 2) fe n' topk + 4 R + (2g + 2) fs n_t        with R = n' topk etp rows

Source: NVIDIA/Megatron-LM@d98e8a6 module by module; worked example in ``tests/memory``: a DeepSeek-V3 MoE layer at 4096
tokens keeps 1.75 GiB.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import Recompute
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["backward_bytes", "kept_bytes", "shard_tokens", "stage_input_bytes", "tensor_tokens", "tokens"]

ROUTER_BYTES = 17
"""Per expert and token: fp32 logits, scores, probabilities, a row-id map, and a byte of routing map."""


@once
def tokens(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Tokens of one micro-batch on one context rank, ``n``."""
    return a.mul(a.ceil_div(p.seq_length, x.cp), x.micro_batch_size)


@once
def shard_tokens(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Tokens whose residual stream one rank keeps, ``n'``: ``n / tp`` with sequence parallelism."""
    return a.ceil_div(tokens(a, p, x), x.sequence_shards)


@once
def tensor_tokens(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """``n / tp`` rounded up: a full-width tensor split over tensor ranks costs as much as its whole width at these tokens."""
    return a.ceil_div(tokens(a, p, x), x.tp)


@once
def stage_input_bytes(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One residual-stream tensor, bf16: what a fully recomputed layer keeps, and what pipeline ranks send."""
    return shard_tokens(a, p, x) * (2 * p.model.hidden_size)


@once
def kept_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    """Bytes kept by one layer of ``kind``. Full recompute here is ``uniform``: one input per group of layers.

    Block recompute drops whole layers of a chunk and is accounted for where the chunk is known
    (:mod:`constraints.memory.stage`).
    """
    if recompute.is_full and recompute.method == "uniform":
        return a.ceil_div(stage_input_bytes(a, p, x), max(1, recompute.num_layers or 1))
    return _mixer_bytes(a, p, x, kind, recompute) + _feedforward_bytes(a, p, x, kind, recompute)


@once
def backward_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    """Bytes alive for a moment while a layer of ``kind`` runs backward, what it computes again included."""
    n, shard = tokens(a, p, x), shard_tokens(a, p, x)
    h = p.model.hidden_size
    if kind.feedforward == "moe":
        rows = a.mul(shard, x.etp) * p.model.moe_router_topk
        transient = rows * (8 * h) + shard * (3 * p.model.gate * p.model.expert_ffn * p.model.moe_router_topk)
    else:
        transient = tensor_tokens(a, p, x) * (2 * p.model.gate * p.model.ffn) + shard * (2 * h) + n * (2 * h)
    if recompute.is_full:
        layers = max(1, recompute.num_layers or 1) if recompute.method == "uniform" else 1
        return transient + kept_bytes(a, p, x, kind, Recompute()) * layers
    return transient + kept_bytes(a, p, x, kind, Recompute()) - kept_bytes(a, p, x, kind, recompute)


def _norm_bytes(model: ModelSpec) -> int:
    """Per token: the norm's input and output, and its fp32 statistics."""
    return 4 * model.hidden_size + 4 * model.norm_vectors


def _mixer_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    model, shard, split = p.model, shard_tokens(a, p, x), tensor_tokens(a, p, x)
    if kind.mixer == "none":
        return 0
    if kind.mixer == "mamba":
        inner = (model.mamba_num_heads or 0) * (model.mamba_head_dim or 0)
        state = (model.mamba_num_groups or 0) * (model.mamba_state_dim or 0)
        return shard * _norm_bytes(model) + split * (10 * inner + 4 * state)
    if kind.mixer == "gdn":
        key = (model.linear_num_key_heads or 0) * (model.linear_key_head_dim or 0)
        value = (model.linear_num_value_heads or 0) * (model.linear_value_head_dim or 0)
        return shard * _norm_bytes(model) + split * (8 * key + 10 * value)
    if model.multi_latent_attention:
        return _latent_attention_bytes(model, shard, split, recompute)
    q, k = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
    key_value = a.maximum(split * (4 * k), tokens(a, p, x) * (4 * model.head_dim))
    return shard * _norm_bytes(model) + split * (4 * q + 4 * model.num_attention_heads) + key_value


def _latent_attention_bytes(model: ModelSpec, shard: Quantity, split: Quantity, recompute: Recompute) -> Quantity:
    heads = model.num_attention_heads
    nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
    latents = 4 * (model.q_lora_rank or 0) + 4 * (model.kv_lora_rank or 0) + 2 * rope + 8
    per_head = 4 * (nope + rope) + 4 * value + 4
    if recompute.drops("mla_up_proj"):
        per_head -= 4 * (nope + rope) + 2 * value
    norm = _norm_bytes(model) - (2 * model.hidden_size if recompute.drops("layernorm") else 0)
    return shard * (norm + latents) + split * (heads * per_head)


def _feedforward_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    model, shard, split = p.model, shard_tokens(a, p, x), tensor_tokens(a, p, x)
    if kind.feedforward == "none":
        return 0
    if kind.feedforward == "dense":
        kept = 0 if recompute.drops("mlp") else (2 * model.gate + 2) * model.ffn
        return shard * _norm_bytes(model) + split * kept
    h, topk = model.hidden_size, model.moe_router_topk
    if recompute.drops("moe"):
        return shard * (4 * h)
    norm = _norm_bytes(model) - (2 * h if recompute.drops("layernorm") else 0)
    activation = 2 * model.gate + (0 if recompute.drops("moe_act") else 2)
    rows = a.mul(shard, x.etp) * topk
    shared = 0 if recompute.drops("shared_experts") else model.moe_shared_expert_intermediate_size or 0
    return (
        shard * (norm + ROUTER_BYTES * model.experts + activation * model.expert_ffn * topk)
        + rows * (2 * (model.moe_latent_size or h) + 4)
        + split * ((2 * model.gate + 2) * shared)
    )
