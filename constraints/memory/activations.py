"""Activations that one layer keeps from its forward to its backward pass, in bytes per micro-batch.

Transformer Engine layers. ``n`` tokens are on the rank's context shard, ``n'`` after sequence parallelism, ``n_t = n/tp``
stands for a width split over tensor ranks, ``i`` is what one element of a GEMM's input costs (bf16 2, fp8 1). Per layer::

    norm       (2 + i) h n' + 4 norms n'                  input and output of the norm, statistics
    attention  (4 q + 4 heads) n_t + 4 max(k n_t, d n)     rotated q, output, log-sum-exp; k, v (one group at least);
                                                          in low precision i q n_t more, the projection's own input
    MLA        (4 lq + 4 lkv + 2 rope + 8) n' + (4 a (dn + dr) + 4 a dv + 4 a) n_t
    dense      (2 g + i) f n_t                            first projection, activation
    MoE        17 E n' + i h R + (2 g + i) fe n' topk + 4 R + (2 g + i) fs n_t        with R = n' topk etp rows
    dropout    one byte a mask: 2 h n'; attention that is not fused: (2 + 3 with dropout) heads * sequence * n_t

Rows are those of balanced routing times the request's imbalance. Source: NVIDIA/Megatron-LM@d98e8a6 and Transformer Engine
2.20, module by module; worked example in ``tests/memory``: a DeepSeek-V3 MoE layer at 4096 tokens keeps 1.75 GiB.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import Recompute
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind

__all__ = [
    "backward_bytes",
    "kept_bytes",
    "mtp_bytes",
    "shard_tokens",
    "stage_input_bytes",
    "tensor_tokens",
    "tokens",
]

ROUTER_BYTES = 17
"""Per expert and token: fp32 logits, scores, probabilities, a row-id map, and a byte of routing map."""

INPUT_PARTS = {"bf16": 64, "fp16": 64, "fp32": 128, "fp8_mx": 33, "nvfp4": 18}
"""32nds of a byte that one element of a GEMM's kept input costs; other fp8 recipes keep one byte."""

PARTS = 32


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
    """``n / tp`` rounded up: at so many tokens a whole-width tensor costs what a rank's part of its width does at ``n``."""
    return a.ceil_div(tokens(a, p, x), x.tp)


@once
def stage_input_bytes(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One residual-stream tensor, bf16: what a fully recomputed layer keeps, and what pipeline ranks send."""
    return shard_tokens(a, p, x) * (2 * p.model.hidden_size)


@once
def expert_rows(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Rows that one rank's routed experts take in: its tokens' copies, times the imbalance of the routing."""
    return _imbalanced(a, p, a.mul(shard_tokens(a, p, x), x.etp) * p.model.moe_router_topk)


@once
def expert_tokens(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """:func:`expert_rows` over ``etp``: at so many rows an expert's whole width costs what a rank's part does."""
    return _imbalanced(a, p, shard_tokens(a, p, x) * p.model.moe_router_topk)


def _imbalanced(a: Arithmetic, p: Problem, rows: Quantity) -> Quantity:
    return rows if p.imbalance_percent == 100 else a.ceil_div(rows * p.imbalance_percent, 100)


@once
def kept_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    """Bytes kept by one layer of ``kind``: under uniform recompute its share of the input of a whole group, at least.

    Under block recompute, of a layer that is not computed again. How groups and blocks come out on the chunks of a rank is
    for :mod:`constraints.memory.recomputed`.
    """
    if recompute.is_uniform:
        return a.floor_div(stage_input_bytes(a, p, x), recompute.group)
    return _mixer_bytes(a, p, x, kind, recompute) + _feedforward_bytes(a, p, x, kind, recompute)


@once
def mtp_bytes(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """What an MTP layer keeps beside its transformer layer: two normed inputs and their concatenation, ``8 h n'``."""
    return stage_input_bytes(a, p, x) * 4


@once
def backward_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    """Bytes alive for a moment while a layer of ``kind`` runs backward, what it computes again by itself included."""
    h, n = p.model.hidden_size, tokens(a, p, x)
    if kind.feedforward == "moe":
        width = p.model.moe_latent_size or h
        transient = expert_rows(a, p, x) * (8 * width) + expert_tokens(a, p, x) * (
            3 * p.model.gate * p.model.expert_ffn
        )
    else:
        f = p.model.ffn if kind.feedforward == "dense" else 0
        gathered = a.mul(n * (2 * h), x.sequence_parallel)
        transient = tensor_tokens(a, p, x) * (2 * p.model.gate * f) + stage_input_bytes(a, p, x) + gathered
    if recompute.is_uniform:
        return transient + kept_bytes(a, p, x, kind, Recompute())
    return transient + kept_bytes(a, p, x, kind, Recompute()) - kept_bytes(a, p, x, kind, recompute)


def _input_parts(p: Problem) -> int:
    return INPUT_PARTS.get(p.precision, PARTS)


def _bytes(a: Arithmetic, tokens_: Quantity, parts: int) -> Quantity:
    """``parts`` 32nds of a byte for each token."""
    return tokens_ * (parts // PARTS) if parts % PARTS == 0 else a.ceil_div(tokens_ * parts, PARTS)


def _norm_parts(p: Problem, *, kept: bool = True) -> int:
    """32nds of a byte per token: the norm's input, its fp32 statistics and, unless dropped, its output."""
    model = p.model
    own = PARTS * (2 * model.hidden_size + 4 * model.norm_vectors)
    dropout = PARTS * model.hidden_size if p.settings.hidden_dropout > 0 else 0
    return own + dropout + (_input_parts(p) * model.hidden_size if kept else 0)


def _mixer_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    model, shard, split = p.model, shard_tokens(a, p, x), tensor_tokens(a, p, x)
    if kind.mixer == "none":
        return 0
    if kind.mixer == "mamba":
        inner = (model.mamba_num_heads or 0) * (model.mamba_head_dim or 0)
        state = (model.mamba_num_groups or 0) * (model.mamba_state_dim or 0)
        return _bytes(a, shard, _norm_parts(p)) + split * (10 * inner + 4 * state)
    if kind.mixer == "gdn":
        key = (model.linear_num_key_heads or 0) * (model.linear_key_head_dim or 0)
        value = (model.linear_num_value_heads or 0) * (model.linear_value_head_dim or 0)
        return _bytes(a, shard, _norm_parts(p)) + split * (8 * key + 10 * value)
    if model.multi_latent_attention:
        return _latent_attention_bytes(a, p, x, recompute)
    q, k = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
    key_value = a.maximum(split * (4 * k), tokens(a, p, x) * (4 * model.head_dim))
    own = PARTS * (4 * q + _score_bytes(p, recompute)) + _quantized_output(p, q)
    return _bytes(a, shard, _norm_parts(p)) + _bytes(a, split, own) + key_value + _exchange_bytes(a, p, x, q)


def _score_bytes(p: Problem, recompute: Recompute) -> int:
    """Per token: the log-sum-exp of fused attention, or the scores of attention that is not; both can be recomputed."""
    heads = p.model.num_attention_heads
    if recompute.drops("core_attn"):
        return 0
    if p.settings.attention_backend in ("unfused", "local"):
        return heads * p.seq_length * (5 if p.settings.attention_dropout > 0 else 2)
    return 4 * heads


def _quantized_output(p: Problem, width: int) -> int:
    """32nds of a byte: attention keeps its own bf16 output, a low-precision projection a copy of it as its input."""
    parts = _input_parts(p)
    return parts * width if parts < 64 else 0


def _exchange_bytes(a: Arithmetic, p: Problem, x: Degrees, q: int) -> Quantity:
    """With an all-to-all context exchange (cp > 1), the output before the exchange is kept as well."""
    if p.settings.cp_comm_type != "a2a":
        return 0
    return a.mul(tensor_tokens(a, p, x) * (2 * q), a.minimum(x.cp - 1, 1))


def _latent_attention_bytes(a: Arithmetic, p: Problem, x: Degrees, recompute: Recompute) -> Quantity:
    model, shard, split = p.model, shard_tokens(a, p, x), tensor_tokens(a, p, x)
    heads = model.num_attention_heads
    nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
    latents = 4 * (model.q_lora_rank or 0) + 4 * (model.kv_lora_rank or 0) + 2 * rope + 8
    width = heads * (4 * (nope + rope) + 4 * value) + _score_bytes(p, recompute)
    if recompute.drops("mla_up_proj"):
        width -= heads * (4 * (nope + rope) + 2 * value)
    norm = _norm_parts(p, kept=not recompute.drops("layernorm"))
    own = PARTS * width + _quantized_output(p, heads * value)
    return _bytes(a, shard, norm + PARTS * latents) + _bytes(a, split, own) + _exchange_bytes(a, p, x, heads * value)


def _feedforward_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Recompute) -> Quantity:
    model, shard, split = p.model, shard_tokens(a, p, x), tensor_tokens(a, p, x)
    if kind.feedforward == "none":
        return 0
    first, second = PARTS * 2 * model.gate, _input_parts(p)
    if kind.feedforward == "dense":
        kept = 0 if recompute.drops("mlp") else (first + second) * model.ffn
        return _bytes(a, shard, _norm_parts(p)) + _bytes(a, split, kept)
    if recompute.drops("moe"):
        return stage_input_bytes(a, p, x) * 2
    norm = _norm_parts(p, kept=not recompute.drops("layernorm"))
    activation = first + (0 if recompute.drops("moe_act") else second)
    shared = 0 if recompute.drops("shared_experts") else model.moe_shared_expert_intermediate_size or 0
    width = model.moe_latent_size or model.hidden_size
    return (
        _bytes(a, shard, norm + PARTS * ROUTER_BYTES * model.experts)
        + _bytes(a, expert_tokens(a, p, x), activation * model.expert_ffn)
        + _bytes(a, expert_rows(a, p, x), _input_parts(p) * width + 4 * PARTS)
        + _bytes(a, split, (first + second) * shared)
    )
