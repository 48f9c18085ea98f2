"""Nanoseconds of GPU work per layer and micro-batch, forward and backward, and the floor that the host sets.

The coefficients per token come from :mod:`constraints.timing.work` as look-ups by the few degrees that they depend on, so
that the solver sees products and sums of integers only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import Recompute
from constraints.memory.activations import shard_tokens, tokens
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing.accumulation import table_bytes
from constraints.timing.rates import rates_of, whole
from constraints.timing.ring import is_ring, ring_work
from constraints.timing.work import Work, core_attention, expert_work, gemm, head_work, layer_work, moved
from models_catalog.schema import LayerKind

__all__ = [
    "attention_ns",
    "dense_ns",
    "embedding_ns",
    "experts_ns",
    "head_ns",
    "host_ns",
    "layer_ns",
    "mtp_ns",
    "ring_ns",
]

PS_PER_NS = 1000
LONG_SEQUENCE = 1 << 20
"""Tokens from which on coefficients are whole nanoseconds per token: products of picoseconds would leave 50 bits."""

Table = Callable[..., Any]


def scale(p: Problem) -> int:
    """Units of a coefficient per nanosecond."""
    return PS_PER_NS if p.seq_length <= LONG_SEQUENCE else 1


def coefficient(p: Problem, ps: Any) -> Any:
    """Picoseconds per token in the units of :func:`scale`, rounded up."""
    return whole(ps * scale(p) / PS_PER_NS)


def layer_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Quantity:
    """GEMMs, attention, bytes and casts of one layer, what is computed again included; no communication.

    ``recompute``, here and below, stands in the place of what is decided.
    """
    time = dense_ns(a, p, x, kind, recompute)
    if kind.mixer == "attention":
        time = time + ring_ns(a, p, x, recompute)
    return time + experts_ns(a, p, x, recompute) if kind.feedforward == "moe" else time


@once
def dense_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Quantity:
    """One layer without its routed experts."""

    def coefficient_of(option: Recompute) -> Quantity:
        return a.lookup(_per_token(kind, option), p, x.tp, x.sequence_parallel)

    per_token = a.choose(recompute or x.recompute, coefficient_of)
    time = a.ceil_div(a.mul(tokens(a, p, x), per_token), scale(p))
    return time + a.lookup(_fixed(kind), p, x.tp, x.sequence_parallel)


@once
def experts_ns(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """Routed experts: grouped GEMMs that lose with few rows per expert, the traffic of routed rows, and launches: some for
    the layer, and for each expert in low precision, whose inputs are cast one by one; and its weight gradients added up."""
    r, local = rates_of(p), a.floor_div(p.model.experts, x.ep)
    rows = a.mul(shard_tokens(a, p, x), x.etp) * p.model.moe_router_topk
    filled = rows + local * whole(r.small_m)
    chosen = recompute or x.recompute
    products = a.choose(chosen, lambda option: a.lookup(_products(option), p, x.etp))
    bytes_ = a.choose(chosen, lambda option: a.lookup(_row_bytes(option), p, x.etp))
    time = a.mul(filled, products) + a.mul(rows, bytes_)
    fixed = a.mul(local, a.lookup(_per_expert, p, x.etp)) + whole(r.row_kernels_ps / PS_PER_NS)
    return a.ceil_div(time, scale(p)) + fixed


@once
def attention_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Core attention of one layer, forward and backward: what a ring of keys and values can hide behind."""
    return a.ceil_div(a.mul(tokens(a, p, x), a.lookup(_core, p, x.tp)), scale(p))


@once
def ring_ns(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """What the attention of one layer takes longer in a ring, forward and backward."""
    if not is_ring(p):
        return 0

    def coefficient_of(option: Recompute) -> Quantity:
        return a.lookup(_ring_again if option.is_uniform or option.drops("core_attn") else _ring, p, x.tp, x.cp)

    per_token = a.choose(recompute or x.recompute, coefficient_of)
    return a.ceil_div(a.mul(tokens(a, p, x), per_token), scale(p))


def head_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Output projection and loss."""
    return a.ceil_div(a.mul(tokens(a, p, x), a.lookup(_head, p, x.tp)), scale(p)) + a.lookup(_head_fixed, p, x.tp)


def embedding_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """The embedding's rows, gathered and their gradients scattered, and the table of these added to the main gradients."""
    rows = shard_tokens(a, p, x) * coefficient(p, moved(rates_of(p), 12 * p.model.hidden_size).both)
    return a.ceil_div(rows, scale(p)) + a.lookup(_table, p, x.tp)


def mtp_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """What an MTP layer has beside a decoder layer and its loss: the ``2h -> h`` projection and norms."""
    return a.ceil_div(a.mul(tokens(a, p, x), a.lookup(_mtp, p, x.tp)), scale(p))


def host_ns(p: Problem, kind: LayerKind) -> Any:
    """Time in which the host can launch one layer, forward and backward: a floor, whatever the GPU."""
    r = rates_of(p)
    mixer = {"attention": r.host_attention_ps, "mamba": r.host_mamba_ps, "gdn": r.host_mamba_ps}.get(kind.mixer, 0)
    feedforward = {"dense": r.host_dense_ps, "moe": r.host_moe_ps}.get(kind.feedforward, 0)
    return whole((mixer + feedforward) / PS_PER_NS)


# -- tables, by the degrees that they depend on


@lru_cache(maxsize=4096)
def _per_token(kind: LayerKind, recompute: Recompute) -> Table:
    work = layer_work(kind, recompute)
    return lambda p, tp, sequence_parallel: coefficient(p, work(p, tp, sequence_parallel).both)


@lru_cache(maxsize=1024)
def _fixed(kind: LayerKind) -> Table:
    work = layer_work(kind, Recompute())
    return lambda p, tp, sequence_parallel: whole(work(p, tp, sequence_parallel).fixed / PS_PER_NS)


@lru_cache(maxsize=1024)
def _products(recompute: Recompute) -> Table:
    work = expert_work(recompute)
    return lambda p, etp: coefficient(p, work(p, etp)[0].both)


@lru_cache(maxsize=1024)
def _row_bytes(recompute: Recompute) -> Table:
    work = expert_work(recompute)
    return lambda p, etp: coefficient(p, work(p, etp)[1])


def _core(p: Problem, tp: int) -> Any:
    return coefficient(p, core_attention(rates_of(p), p, tp).both)


def _ring(p: Problem, tp: int, cp: int) -> Any:
    return coefficient(p, ring_work(p, tp, cp).both)


def _ring_again(p: Problem, tp: int, cp: int) -> Any:
    work = ring_work(p, tp, cp)
    return coefficient(p, work.both + work.forward)


def _per_expert(p: Problem, etp: int) -> Any:
    r, model = rates_of(p), p.model
    weights = (model.gate + 1) * (model.moe_latent_size or model.hidden_size) * model.expert_ffn / etp
    return whole((r.expert_casts_ps + weights * r.accumulation_ps) / PS_PER_NS)


def _table(p: Problem, tp: int) -> Any:
    return whole(p.model.vocab_size * p.model.hidden_size / tp * table_bytes(p) * rates_of(p).hbm_ps / PS_PER_NS)


def _head(p: Problem, tp: int) -> Any:
    return coefficient(p, head_work(p, tp).both)


def _head_fixed(p: Problem, tp: int) -> Any:
    return whole(head_work(p, tp).fixed / PS_PER_NS)


def _mtp(p: Problem, tp: int) -> Any:
    h, r = p.model.hidden_size, rates_of(p)
    projection: Work = gemm(r, h / tp, 2 * h, trained=p.task != "lora")
    return coefficient(p, projection.both + moved(r, 40 * h / tp).both)
