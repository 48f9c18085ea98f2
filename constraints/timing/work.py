"""Picoseconds of work per token of one layer on one rank, by tensor degree: GEMMs by shape, attention, bytes moved, casts.

A GEMM ``(m, n, k)`` takes ``2 m n k`` FLOP at the rate of its precision, its width rounded up to whole tiles, times ``1 +
K0/k`` forward, ``1 + K0/n`` for the data gradient and ``1 + K0/m`` for the weight gradient; ``m`` is the number of tokens, so
all is linear in it, the last with a constant. Everything here is per token of the rank's context shard, except routed experts
(per routed row). Forms and figures: ai-dynamo/aiconfigurator@095f58a (kernel tables); attention counts causal FLOP, runs in
bf16 whatever the precision of the GEMMs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from constraints.layout import Recompute
from constraints.problem import Problem
from constraints.timing.rates import Rates, rates_of
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["Work", "attention_flop", "attention_span", "expert_work", "head_work", "layer_work"]

ATTENTION_TILE = 128
"""Keys of one tile of a fused kernel: a window costs one tile more than it is wide."""

GEMM_TILE = 256
"""Columns of a GEMM's tile: the last one costs as much as a full one (NVIDIA, Matrix Multiplication Background User's Guide,
tile quantization; 256 x 128 is the largest and fastest). The other side of a weight gradient's tile is the smaller loss."""

STATE_PASSES, SCAN_CHUNK = 13, {"mamba": 128, "gdn": 64}
"""The state of each chunk of tokens, fp32, is written or read 4 times forward and 9 backward (where it is computed again);
chunks: ``chunk_size`` of ``MambaMixer``, and of flash-linear-attention."""

FORWARD_SHARE = 1 / 3
"""Of the bytes that a block moves in both directions."""


@dataclass(frozen=True)
class Work:
    """Picoseconds: ``forward`` and ``backward`` per token, ``fixed`` per micro-batch (the weight gradients: their
    loss at few tokens, and what adding them up shows of its bytes)."""

    forward: Any = 0.0
    backward: Any = 0.0
    fixed: Any = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward, self.fixed + other.fixed)

    def times(self, share: float) -> Work:
        """The same for a ``share`` of the tokens; what does not depend on tokens stays."""
        return Work(self.forward * share, self.backward * share, self.fixed)

    @property
    def both(self) -> Any:
        return self.forward + self.backward


def tiled(width: float) -> float:
    """What a product costs that is ``width`` wide, of one that fills its tiles.

    >>> tiled(4096), round(tiled(2880), 3)
    (1.0, 1.067)
    """
    return -(-width // GEMM_TILE) * GEMM_TILE / width


def gemm(
    r: Rates,
    n: float,
    k: float,
    *,
    trained: bool = True,
    quantized: bool = True,
    input_shards: int = 1,
    output_shards: int = 1,
) -> Work:
    """One projection of ``k`` inputs to ``n`` outputs, forward and backward; frozen weights have no weight gradient.

    ``input_shards`` and ``output_shards`` ranks each cast their share of the tokens' inputs, or of the outputs' gradients,
    before these are gathered (:mod:`.quantized`).
    """
    if not n or not k:
        return Work()
    flop_ps, fixed = 2 * n * k * (r.gemm_ps if quantized else r.logits_ps), 0.0
    forward, backward = flop_ps * tiled(n) * (1 + r.small_k / k), flop_ps * tiled(k) * (1 + r.small_k / n)
    if trained:
        weights = flop_ps * min(tiled(n), tiled(k))
        backward, fixed = backward + weights, weights * r.small_k + n * k * r.accumulation_ps
    if quantized:
        cast = moved(r, _cast_bytes(r, k, input_shards) + _cast_bytes(r, n, output_shards))
        return Work(forward, backward, fixed) + cast
    return Work(forward, backward, fixed)


def _cast_bytes(r: Rates, width: float, shards: int) -> Any:
    """Bytes per token to cast an operand of ``width``, of which this rank casts one of ``shards``, and may turn all."""
    return width * (r.cast_bytes / shards + r.transposed_bytes * (1 - 1 / shards))


def _between(r: Rates, inner: float, h: float, back: float, trained: bool, shards: int) -> Work:
    """A block's way in from the residual stream, ``h`` wide, to ``inner`` columns of this rank, and back from ``back``."""
    return gemm(r, inner, h, trained=trained, input_shards=shards) + gemm(
        r, h, back, trained=trained, output_shards=shards
    )


def moved(r: Rates, bytes_: Any) -> Work:
    """Bytes through HBM in forward and backward together."""
    time = bytes_ * r.hbm_ps
    return Work(time * FORWARD_SHARE, time * (1 - FORWARD_SHARE))


def attention_span(model: ModelSpec, seq_length: int) -> float:
    """Mean number of keys that a query of an attention layer meets: half the sequence, or the window where there is one.

    Mean over the model's attention layers, windowed and not: a stage of a model that alternates them holds both.
    """
    layers = [i for i, kind in enumerate(model.layer_kinds) if kind.mixer == "attention"] or [0]
    full = seq_length / 2
    window = min(full, (model.window_size or full) + ATTENTION_TILE)
    return sum(window if model.has_window(i) else full for i in layers) / len(layers)


def attention_flop(p: Problem) -> float:
    """Forward FLOP of scores and their product with the values, per token and layer: causal, windows counted."""
    model = p.model
    if model.multi_latent_attention:
        width = (model.qk_head_dim or 0) + (model.qk_pos_emb_head_dim or 0) + (model.v_head_dim or 0)
        return 2 * model.num_attention_heads * width * attention_span(model, p.seq_length)
    shapes = model.attention_shapes
    heads = sum(shape.query_width * count for shape, count in shapes) / max(1, sum(count for _, count in shapes))
    return 4 * heads * attention_span(model, p.seq_length)


def core_attention(r: Rates, p: Problem, tp: int) -> Work:
    """Scores and their product with the values."""
    forward = attention_flop(p) * r.attention_ps / tp
    return Work(forward, forward * r.attention_backward)


def _grouped(r: Rates, p: Problem, tp: int, shards: int) -> dict[str, Work]:
    model, trained = p.model, p.task != "lora"
    h, q, k = model.hidden_size, model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
    inner = (q * (2 if model.attention_output_gate else 1) + 2 * max(k, model.head_dim * tp)) / tp
    return {
        "projections": _between(r, inner, h, q / tp, trained, shards),
        "core_attn": core_attention(r, p, tp),
        "bytes": moved(r, 16 * (q + k) / tp + 24 * h / shards),
    }


def _latent(r: Rates, p: Problem, tp: int, shards: int) -> dict[str, Work]:
    model, trained = p.model, p.task != "lora"
    h, heads = model.hidden_size, model.num_attention_heads
    nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
    latent, query = model.kv_lora_rank or 0, model.q_lora_rank or 0
    down = gemm(r, latent + rope, h, trained=trained) + gemm(r, query, h, trained=trained)
    up = gemm(r, heads * (nope + rope) / tp, query or h, trained=trained, input_shards=shards)
    up = up + gemm(r, heads * (nope + value) / tp, latent, trained=trained, input_shards=shards)
    wide = heads * (2 * (nope + rope) + value)
    return {
        "projections": down.times(1 / shards) + gemm(r, h, heads * value / tp, trained=trained, output_shards=shards),
        "mla_up_proj": up,
        "core_attn": core_attention(r, p, tp),
        "bytes": moved(r, 16 * wide / 2 / tp + (24 * h + 8 * (latent + query)) / shards),
    }


def _mamba(r: Rates, p: Problem, tp: int, shards: int) -> dict[str, Work]:
    model, trained = p.model, p.task != "lora"
    h, heads = model.hidden_size, model.mamba_num_heads or 0
    inner, state = heads * (model.mamba_head_dim or 0), (model.mamba_num_groups or 0) * (model.mamba_state_dim or 0)
    # x, z, B, C, dt and the output, read and written in both directions, and the states of the chunks
    chunk_states = 4 * STATE_PASSES * inner * (model.mamba_state_dim or 0) / SCAN_CHUNK["mamba"]
    scan = moved(r, (16 * (2 * inner + 2 * state + heads) + chunk_states) / tp)
    return {
        "projections": _between(r, (2 * inner + 2 * state + heads) / tp, h, inner / tp, trained, shards),
        "scan": Work(scan.forward * r.scan_mamba, scan.backward * r.scan_mamba),
        "bytes": moved(r, 24 * h / shards),
    }


def _delta_net(r: Rates, p: Problem, tp: int, shards: int) -> dict[str, Work]:
    model, trained = p.model, p.task != "lora"
    h, values = model.hidden_size, model.linear_num_value_heads or 0
    key = (model.linear_num_key_heads or 0) * (model.linear_key_head_dim or 0)
    value = values * (model.linear_value_head_dim or 0)
    chunk_states = 4 * STATE_PASSES * value * (model.linear_key_head_dim or 0) / SCAN_CHUNK["gdn"]
    scan = moved(r, (16 * (2 * key + 2 * value + 2 * values) + chunk_states) / tp)
    return {
        "projections": _between(r, (2 * key + 2 * value + 2 * values) / tp, h, value / tp, trained, shards),
        "scan": Work(scan.forward * r.scan_gdn, scan.backward * r.scan_gdn),
        "bytes": moved(r, 24 * h / shards),
    }


_MIXERS: dict[str, Callable[[Rates, Problem, int, int], dict[str, Work]]] = {
    "attention": _grouped,
    "latent": _latent,
    "mamba": _mamba,
    "gdn": _delta_net,
}


def _mlp(r: Rates, p: Problem, width: int, tp: int, shards: int) -> Work:
    """A gated or plain MLP of ``width``, split over tensor ranks."""
    model, trained = p.model, p.task != "lora"
    h = model.hidden_size
    projections = _between(r, model.gate * width / tp, h, width / tp, trained, shards)
    return projections + moved(r, width * (5 * model.gate + 5) / tp + 20 * h / shards)


def _mixture(r: Rates, p: Problem, tp: int, shards: int) -> dict[str, Work]:
    """What a MoE layer computes for every token: router, latent projections, shared expert."""
    model, trained = p.model, p.task != "lora"
    h, latent, shared = model.hidden_size, model.moe_latent_size, model.moe_shared_expert_intermediate_size
    router = moved(r, 48 * model.experts) + gemm(r, model.experts, h, trained=trained, quantized=False)
    parts = {"router": router.times(1 / shards)}
    if latent:
        both_ways = gemm(r, latent, h, trained=trained) + gemm(r, h, latent, trained=trained)
        parts["router"] = parts["router"] + both_ways.times(1 / shards)
    if shared:
        parts["shared_experts"] = _mlp(r, p, shared, tp, shards)
    return parts


def _layer_parts(r: Rates, p: Problem, kind: LayerKind, tp: int, shards: int) -> dict[str, Work]:
    parts: dict[str, Work] = {}
    if kind.mixer != "none":
        name = "latent" if kind.mixer == "attention" and p.model.multi_latent_attention else kind.mixer
        parts |= _MIXERS[name](r, p, tp, shards)
    if kind.feedforward == "dense":
        parts["mlp"] = _mlp(r, p, p.model.ffn, tp, shards)
    elif kind.feedforward == "moe":
        parts |= _mixture(r, p, tp, shards)
    return parts


@lru_cache(maxsize=4096)
def layer_work(kind: LayerKind, recompute: Recompute) -> Callable[[Problem, int, int], Work]:
    """Of one layer without its routed experts: a function of the problem, the tensor degree and sequence parallelism.

    Under block recompute, of a layer that is not computed again.
    """

    def work(p: Problem, tp: int, sequence_parallel: int) -> Work:
        r = rates_of(p)
        shards = tp if sequence_parallel else 1
        parts = _layer_parts(r, p, kind, tp, shards)
        total = _sum(parts.values())
        return Work(total.forward, total.backward + _again(r, p, kind, recompute, parts, shards), total.fixed)

    return work


def _again(r: Rates, p: Problem, kind: LayerKind, recompute: Recompute, parts: dict[str, Work], shards: int) -> Any:
    """Forward time that is spent a second time in the backward pass."""
    if recompute.is_uniform:
        return sum(part.forward for part in parts.values())
    time = sum(
        parts[name].forward for name in ("core_attn", "mla_up_proj", "mlp") if name in parts and recompute.drops(name)
    )
    if kind.feedforward == "moe" and (recompute.drops("moe") or recompute.drops("shared_experts")):
        time = time + (parts["shared_experts"].forward if "shared_experts" in parts else 0)
    if recompute.drops("layernorm"):
        time = time + 4 * p.model.hidden_size / shards * r.hbm_ps
    return time


@lru_cache(maxsize=1024)
def expert_work(recompute: Recompute) -> Callable[[Problem, int], tuple[Work, Any]]:
    """Of the routed experts, per routed row: (the grouped GEMMs, which few rows per expert slow down; the bytes moved)."""

    def work(p: Problem, etp: int) -> tuple[Work, Any]:
        r, model, trained = rates_of(p), p.model, p.task != "lora"
        h, f = model.moe_latent_size or model.hidden_size, model.expert_ffn / etp
        products = gemm(r, model.gate * f, h, trained=trained) + gemm(r, h, f, trained=trained)
        bytes_ = ((h + r.row_elements) * r.row_passes + f * (5 * model.gate + 5)) * r.hbm_ps
        if recompute.is_uniform or recompute.drops("moe"):
            products = Work(products.forward, products.backward + products.forward, products.fixed)
            bytes_ = bytes_ * (1 + FORWARD_SHARE)
        elif recompute.drops("moe_act"):
            bytes_ = bytes_ + 2 * (model.gate + 1) * f * r.hbm_ps
        return products, bytes_

    return work


def head_work(p: Problem, tp: int) -> Work:
    """Output projection and loss, per token: logits in bf16 in any precision, 14 bytes a logit for the cross-entropy."""
    r = rates_of(p)
    rows = p.model.vocab_size / tp
    return gemm(r, rows, p.model.hidden_size, trained=p.task != "lora", quantized=False) + moved(r, 14 * rows)


def _sum(works: Iterable[Work]) -> Work:
    total = Work()
    for work in works:
        total = total + work
    return total
