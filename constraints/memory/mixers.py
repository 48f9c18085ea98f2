"""Parameters of one layer's token mixer - attention in its kinds, Mamba, gated delta net - as element counts.

Each function gives a pair: elements split over tensor ranks, elements replicated on each. Biases and the norm before the
mixer are in it. Where layers of one kind are not alike (windowed layers with other heads, an indexer on some layers only),
each is counted at the mean of all, rounded up: the sum over the model is then right to one element a layer.

Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/transformer/{attention,multi_latent_attention,hyper_connection}.py``,
``experimental_attention_variant/dsa.py``, ``megatron/core/ssm/{mamba_mixer,gated_delta_net/common}.py``; DeepSeek-V4's
attention: transformers 5.24.0 ``models/deepseek_v4/modeling_deepseek_v4.py``.
"""

from __future__ import annotations

from models_catalog.schema import AttentionShape, ModelSpec

__all__ = ["Sizes", "hyper_connection", "mixer_sizes", "norm_elements"]

Sizes = tuple[int, int]

MAMBA_CONVOLUTION = 4
"""Taps of Mamba's short convolution: ``d_conv`` of ``MambaMixer``, which no configuration sets."""


def mixer_sizes(model: ModelSpec, mixer: str) -> Sizes:
    """Elements of one mixer of the kind that :class:`~models_catalog.schema.LayerKind` names."""
    return _MIXERS[mixer](model)


def norm_elements(model: ModelSpec, count: int = 1) -> int:
    """Elements of ``count`` norms of the hidden width: a weight, and for LayerNorm a bias."""
    return count * model.norm_vectors * model.hidden_size


def hyper_connection(model: ModelSpec) -> int:
    """Elements of one hyper-connection: ``n`` streams mapped to ``n**2 + 2n`` weights a token, biases, three scales."""
    n = model.residual_streams
    return 0 if n == 1 else (n * model.hidden_size + 1) * (n * n + 2 * n) + 3


def _none(model: ModelSpec) -> Sizes:
    return 0, 0


def _before(model: ModelSpec) -> int:
    """The norms that belong to the mixer, and the hyper-connection around it."""
    return norm_elements(model, 1 if model.norms_per_layer <= 2 else 2) + hyper_connection(model)


def _attention(model: ModelSpec) -> Sizes:
    if model.experimental_attention_variant == "dsv4_hybrid":
        sharded, replicated = _compressed_attention(model)
    elif model.multi_latent_attention:
        sharded, replicated = _latent_attention(model)
    else:
        layers = sum(count for _, count in model.attention_shapes) or 1
        shapes = [(_grouped_attention(model, shape), count) for shape, count in model.attention_shapes]
        sharded = -(-sum(size[0] * count for size, count in shapes) // layers)
        replicated = -(-sum(size[1] * count for size, count in shapes) // layers)
    if model.softmax_type == "learnable":
        sharded += model.num_attention_heads
    return sharded, replicated + _indexer(model) + _before(model)


def _grouped_attention(model: ModelSpec, shape: AttentionShape) -> Sizes:
    h, q, k = model.hidden_size, shape.query_width, shape.key_width
    projected = q + 2 * k + (q if model.attention_output_gate else 0)
    sharded, replicated = h * projected + q * h, 0
    if model.add_bias_linear or model.add_qkv_bias:
        sharded += projected
    if model.add_bias_linear:
        replicated += h
    if model.qk_layernorm:
        normed = q + k if model.qk_layernorm_all_heads else 2 * shape.head_dim
        replicated += model.norm_vectors * normed
    return sharded, replicated


def _latent_attention(model: ModelSpec) -> Sizes:
    """MLA: down-projections are duplicated over tensor ranks with the Transformer Engine spec, up-projections split."""
    h, heads = model.hidden_size, model.num_attention_heads
    nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
    latent, query = model.kv_lora_rank or 0, model.q_lora_rank or 0
    sharded = latent * heads * (nope + value) + heads * value * h + (query or h) * heads * (nope + rope)
    replicated = h * (latent + rope) + h * query
    if model.qk_layernorm:
        replicated += model.norm_vectors * (latent + query)
    return sharded, replicated


def _indexer(model: ModelSpec) -> int:
    """DSA's indexer: queries from the latent, one key and a weight per head from the input, a LayerNorm on the key."""
    if model.experimental_attention_variant != "dsa":
        return 0
    heads, width = model.dsa_indexer_n_heads or 0, model.dsa_indexer_head_dim or 0
    h, query = model.hidden_size, model.q_lora_rank or model.hidden_size
    elements = query * heads * width + h * width + 2 * width + h * heads
    offset, frequency = max(model.dsa_indexer_skip_topk_offset, 1), model.dsa_indexer_topk_freq
    computing = sum(max(layer - offset, 0) % frequency == 0 for layer in range(1, model.num_layers + 1))
    return -(-elements * computing // model.num_layers)


def _compressed_attention(model: ModelSpec) -> Sizes:
    """DeepSeek-V4: queries through a latent, one key that is the value too, outputs in groups through a latent; and sinks.

    Layers with ``csa_compress_ratios`` 128 compress the keys; those with 4 do so twice over and have an indexer on top.
    """
    h, heads, width = model.hidden_size, model.num_attention_heads, model.v_head_dim or 0
    query, groups, output = model.q_lora_rank or 0, model.o_groups or 0, model.o_lora_rank or 0
    sharded = query * heads * width + heads * width * output + groups * output * h + heads
    replicated = h * query + query + h * width + width
    ratios = (model.csa_compress_ratios or ())[: model.num_layers]
    extra = sum(_compressor(h, width, ratio) + _scorer(model, ratio) for ratio in ratios)
    return sharded, replicated - (-extra // model.num_layers)


def _compressor(hidden: int, width: int, ratio: int) -> int:
    """Keys and gates from the input, a bias per position in a window of ``ratio`` tokens, a norm; twice as wide for 4."""
    if ratio < 2:
        return 0
    doubled = 2 * width if ratio == 4 else width
    return 2 * hidden * doubled + ratio * doubled + width


def _scorer(model: ModelSpec, ratio: int) -> int:
    if ratio != 4:
        return 0
    heads, width = model.dsa_indexer_n_heads or 0, model.dsa_indexer_head_dim or 0
    return (
        _compressor(model.hidden_size, width, ratio)
        + (model.q_lora_rank or 0) * heads * width
        + model.hidden_size * heads
    )


def _mamba(model: ModelSpec) -> Sizes:
    """Mamba-2: input projection to (z, x, B, C, dt), a short convolution with bias, (dt, A, D) per head, a norm, output."""
    h, heads, groups = model.hidden_size, model.mamba_num_heads or 0, model.mamba_num_groups or 0
    inner, state = heads * (model.mamba_head_dim or 0), groups * (model.mamba_state_dim or 0)
    convolution = (MAMBA_CONVOLUTION + 1) * (inner + 2 * state)
    return h * (2 * inner + 2 * state + heads) + convolution + 3 * heads + inner + inner * h, _before(model)


def _gated_delta_net(model: ModelSpec) -> Sizes:
    """Gated delta net: q and k of the key heads, v and z of the value heads, gates, a short convolution, a norm, output.

    ``gdn`` has two gates per value head; ``gdn2`` has them per channel, a decay per key channel, and A per key head.
    """
    h, keys, values = model.hidden_size, model.linear_num_key_heads or 0, model.linear_num_value_heads or 0
    key, value = keys * (model.linear_key_head_dim or 0), values * (model.linear_value_head_dim or 0)
    kernel = model.linear_conv_kernel_dim or 4
    channels = model.experimental_attention_variant == "gdn2"
    gates, scales = (2 * key + value, key + keys) if channels else (2 * values, 2 * values)
    sharded = h * (2 * key + 2 * value + gates) + kernel * (2 * key + value) + scales + value * h
    return sharded, _before(model) + (model.linear_value_head_dim or 0)


_MIXERS = {"none": _none, "attention": _attention, "mamba": _mamba, "gdn": _gated_delta_net}
