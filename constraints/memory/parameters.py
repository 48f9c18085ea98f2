"""Parameters that one rank stores, as element counts.

Dense parameters (attention, norms, dense and shared feed-forward, router, embedding) and routed experts live in
separate buffers with their own data-parallel groups, so they are counted apart. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/transformer/{attention,multi_latent_attention,mlp}.py``, ``moe/{router,experts,shared_experts}.py``,
``multi_token_prediction.py``; checked against published counts.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["dense_parameters", "embedding_parameters", "expert_parameters", "local_vocabulary", "mtp_projection"]


@once
def local_vocabulary(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Vocabulary rows on one tensor rank, padded to a multiple of ``make_vocab_size_divisible_by * tp`` in all.

    >>> # 128256 rows, divisor 128, tp = 8  ->  ceil(128256 / 1024) * 128 = 16128
    """
    model = p.model
    if not model.should_pad_vocab:
        return a.ceil_div(model.vocab_size, x.tp)
    divisor = model.make_vocab_size_divisible_by
    return a.ceil_div(model.vocab_size, x.tp * divisor) * divisor


@once
def embedding_parameters(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Elements of a word embedding or an output projection: padded rows times ``hidden_size``."""
    return local_vocabulary(a, p, x) * p.model.hidden_size


@once
def dense_parameters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements of one layer in the dense buffer of one rank."""
    sharded, replicated = layer_sizes(p.model, kind)
    return a.ceil_div(sharded, x.tp) + replicated


@once
def expert_parameters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements of one layer's routed experts on one rank: ``experts/ep * (gate+1) * h * f / etp``."""
    if kind.feedforward != "moe":
        return 0
    return a.ceil_div(all_experts(p.model), a.mul(x.ep, x.etp))


@once
def mtp_projection(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Elements that an MTP layer adds to a decoder layer: the ``2h -> h`` projection and two norms."""
    h = p.model.hidden_size
    return a.ceil_div(2 * h * h, x.tp) + 2 * p.model.norm_vectors * h


def all_experts(model: ModelSpec) -> int:
    """Elements of all routed experts of one layer."""
    width = model.moe_latent_size or model.hidden_size
    return model.experts * (model.gate + 1) * width * model.expert_ffn


def layer_sizes(model: ModelSpec, kind: LayerKind) -> tuple[int, int]:
    """One layer's dense elements: (split over tensor ranks, replicated on each)."""
    mixer, feedforward = _MIXERS[kind.mixer](model), _FEEDFORWARDS[kind.feedforward](model)
    return mixer[0] + feedforward[0], mixer[1] + feedforward[1]


def _none(model: ModelSpec) -> tuple[int, int]:
    return 0, 0


def _attention(model: ModelSpec) -> tuple[int, int]:
    h, norm = model.hidden_size, model.norm_vectors * model.hidden_size
    if model.multi_latent_attention:
        return _latent_attention(model, norm)
    q, k = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
    gate = q if model.attention_output_gate else 0
    sharded, replicated = h * (q + 2 * k + gate) + q * h, norm
    if model.add_bias_linear or model.add_qkv_bias:
        sharded += q + 2 * k
    if model.add_bias_linear:
        replicated += h
    if model.qk_layernorm:
        replicated += 2 * model.head_dim
    return sharded, replicated


def _latent_attention(model: ModelSpec, norm: int) -> tuple[int, int]:
    """MLA: down-projections are duplicated over tensor ranks with the Transformer Engine spec, up-projections split."""
    h, heads = model.hidden_size, model.num_attention_heads
    nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
    latent, query = model.kv_lora_rank or 0, model.q_lora_rank
    sharded = latent * heads * (nope + value) + heads * value * h
    replicated = norm + h * (latent + rope) + latent
    if query:
        sharded += query * heads * (nope + rope)
        replicated += h * query + query
    else:
        sharded += h * heads * (nope + rope)
    return sharded, replicated


def _mamba(model: ModelSpec) -> tuple[int, int]:
    """Mamba-2 mixer: input projection to (z, x, B, C, dt), a short convolution, output projection."""
    h, heads, groups = model.hidden_size, model.mamba_num_heads or 0, model.mamba_num_groups or 0
    inner, state = heads * (model.mamba_head_dim or 0), groups * (model.mamba_state_dim or 0)
    convolution = 5 * (inner + 2 * state)
    return h * (2 * inner + 2 * state + heads) + convolution + 3 * heads + inner + inner * h, model.norm_vectors * h


def _gated_delta_net(model: ModelSpec) -> tuple[int, int]:
    """Gated delta net: q, k of the key heads, v, z of the value heads, two gates per value head, a short convolution."""
    h, values = model.hidden_size, model.linear_num_value_heads or 0
    key = (model.linear_num_key_heads or 0) * (model.linear_key_head_dim or 0)
    value, kernel = values * (model.linear_value_head_dim or 0), model.linear_conv_kernel_dim or 4
    sharded = h * (2 * key + 2 * value + 2 * values) + kernel * (2 * key + value) + 2 * values + value * h
    return sharded, model.norm_vectors * h + (model.linear_value_head_dim or 0)


def _dense(model: ModelSpec) -> tuple[int, int]:
    h, f = model.hidden_size, model.ffn
    bias = model.add_bias_linear
    return (model.gate + 1) * h * f + (model.gate * f if bias else 0), model.norm_vectors * h + (h if bias else 0)


def _moe(model: ModelSpec) -> tuple[int, int]:
    """The router, the shared expert and the latent projections; routed experts are counted by :func:`all_experts`."""
    h, shared = model.hidden_size, model.moe_shared_expert_intermediate_size or 0
    replicated = model.norm_vectors * h + h * model.experts
    if model.moe_router_enable_expert_bias:
        replicated += model.experts
    if model.moe_shared_expert_gate:
        replicated += h
    if model.moe_latent_size:
        replicated += 2 * h * model.moe_latent_size
    return (model.gate + 1) * h * shared, replicated


_MIXERS = {"none": _none, "attention": _attention, "mamba": _mamba, "gdn": _gated_delta_net}
_FEEDFORWARDS = {"none": _none, "dense": _dense, "moe": _moe}
