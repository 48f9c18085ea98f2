"""Time of all collectives and transfers that one rank takes part in during one optimizer step, before any overlap.

Integer nanoseconds by group: ``tp cp ep pp dp``. Per layer and micro-batch, forward + backward (``A`` is one all-gather
or reduce-scatter of the full tensor)::

    tp   5 A per block with sequence parallelism (2 + 3: the saved shard is gathered again), of which 3 carry what was cast
         in low precision (:mod:`.quantized`); 4 A without; full recompute +2
    cp   ring: 3 (c-1) steps of K and V; all-to-all: 2 + 2; recompute +1
    ep   4 all-to-alls of n' h topk copies, 4 A over etp of the routed rows; recompute of the experts +2
    pp   one residual stream forward and one back per chunk boundary
    dp   once per step: gradients reduced (4 B), parameters gathered (2 B), dense and experts over their own groups

The slowest rank is the slowest pipeline stage: ranks of one stage do the same. Not counted: scalars (losses, norms).
Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/tensor_parallel/mappings.py``,
``transformer/moe/token_dispatcher.py``, ``pipeline_parallel/schedules.py``, ``distributed/param_and_grad_buffer.py``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, ceil_div, once
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Recompute
from constraints.memory.activations import shard_tokens, stage_input_bytes, tensor_tokens, tokens
from constraints.memory.optimizer import gradient_bytes, trains_all
from constraints.memory.parameters import dense_parameters, embedding_parameters, expert_parameters
from constraints.pipeline.again import kinds_meant, layers_again
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing import collectives
from constraints.timing.quantized import PARTS, gathered
from models_catalog.schema import LayerKind

__all__ = [
    "GROUPS",
    "communication_ns",
    "context_collectives",
    "dense_gradients",
    "expert_tensor_gather",
    "layer_gradients",
    "parameter_bytes",
    "quantized_gather",
    "stage_communication",
    "tensor_calls",
    "tensor_collective",
    "tied_embedding",
    "transfer",
]

GROUPS = ("tp", "cp", "ep", "pp", "dp")

KIB = 1024
PS_PER_NS = 1000
PARAMETER_BYTES = 2

GATHERED_IN_FP8 = ("fp8_cs", "fp8_ds", "fp8_sc")
"""Precisions whose GEMM weights ``fp8_param_gather`` gathers as they are; MXFP8's are cast after they were gathered in bf16
(``megatron/core/distributed/param_and_grad_buffer.py``, ``reuse_grad_buf_for_mxfp8_param_ag``)."""

Times = dict[str, Quantity]


def communication_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Nanoseconds per optimizer step that a rank of ``stage`` spends in collectives and transfers."""
    once, per_micro_batch = _stage_times(a, p, x, stage)
    total: Quantity = 0
    for part, count in per_micro_batch:
        together: Quantity = 0
        for time in part.values():
            together = together + time
        total = total + a.mul(a.mul(x.num_microbatches, together), count)
    for part, count in once:
        for time in part.values():
            total = total + a.mul(time, count)
    return total


def stage_communication(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> dict[str, int]:
    """The same for plain integers, by group; the values add up to :func:`communication_ns`."""
    once, per_micro_batch = _stage_times(a, p, x, stage)
    out: Counter[str] = Counter()
    for part, count in per_micro_batch:
        for group, time in part.items():
            out[group] += time * count * x.num_microbatches
    for part, count in once:
        for group, time in part.items():
            out[group] += time * count
    return {group: out[group] for group in GROUPS}


def _stage_times(
    a: Arithmetic, p: Problem, x: Degrees, stage: Stage
) -> tuple[list[tuple[Times, int]], list[tuple[Times, int]]]:
    """(once per step, per micro-batch), each a list of times and how often the stage pays them."""
    per_micro_batch = [(_layer(a, p, x, kind), count) for kind, count in stage.layers]
    per_micro_batch += [(_again(a, p, x, kind), count) for kind, count in layers_again(a, p, x, stage)]
    once = [(layer_gradients(a, p, x, kind), count) for kind, count in stage.layers]
    gathers = (2 if stage.embedding else 0) + 3 * stage.heads  # embedding: one each way; head: one forward, two back
    per_micro_batch.append(({"tp": tensor_collective(a, p, x)}, gathers))
    per_micro_batch.append(({"pp": transfer(a, p, x)}, 2 * stage.boundaries))
    tables = int(stage.holds_embedding_copy) + int(stage.heads > 0)
    shared = p.model.share_embeddings_and_output_weights and tables > 0
    once.append(({"dp": dense_gradients(a, p, x, embedding_parameters(a, p, x))}, 1 if shared else tables))
    if shared and stage.boundaries:
        once.append(({"pp": tied_embedding(a, p, x)}, 1))
    return [part for part in once if part[1]], [part for part in per_micro_batch if part[1]]


def _timed(a: Arithmetic, bytes_: Quantity, ps_per_kib: Quantity, latency: Quantity) -> Quantity:
    """Nanoseconds of one call: ``latency + bytes * cost``, rounded up; a group of one has no cost and no latency."""
    return a.ceil_div(a.mul(a.ceil_div(bytes_, KIB), ps_per_kib), PS_PER_NS) + latency


@once
def tensor_collective(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One all-gather of the residual stream over the tensor group."""
    cost = a.lookup(collectives.tensor_ring, p, x.tp)
    latency = a.lookup(collectives.tensor_latency, p, x.tp)
    return _timed(a, tokens(a, p, x) * (2 * p.model.hidden_size), cost, latency)


@once
def quantized_gather(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One all-gather of the residual stream as it was cast, nothing where products run in 16 bits."""
    found = gathered(p)
    if found is None:
        return 0
    cost = a.lookup(collectives.tensor_ring, p, x.tp)
    latency = a.lookup(collectives.tensor_latency, p, x.tp)
    return _timed(a, tokens(a, p, x) * ceil_div(p.model.hidden_size * found.parts, PARTS), cost, latency)


@once
def _layer(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Times:
    """Of one layer and micro-batch, forward and backward, before any overlap.

    ``recompute``, here and below, stands in the place of what is decided.
    """
    times: Times = {"tp": tensor_collectives(a, p, x, kind, recompute)}
    if kind.mixer != "none":
        times["cp"] = context_collectives(a, p, x, recompute)
    if kind.feedforward == "moe":
        times["ep"] = _experts(a, p, x, recompute)
    return times


@once
def _again(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind | None) -> Times:
    """What a layer that block recompute computes again takes more than one that it leaves alone; of any kind at least, if
    ``None``."""
    if kind is None:
        every = [_again(a, p, x, known) for known in kinds_meant(p.model, kind)]
        return {group: a.minimum(*(times.get(group, 0) for times in every)) for group in every[0]}
    plain = _layer(a, p, x, kind, NO_RECOMPUTE)
    return {group: time - plain[group] for group, time in _layer(a, p, x, kind, WHOLE_LAYERS).items()}


@once
def tensor_collectives(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Quantity:
    """Tensor parallelism of one layer: without sequence parallelism 4 gathers' worth a block, with it one gather more."""
    calls, quantized = tensor_calls(a, p, x, kind, recompute)
    return a.mul(tensor_collective(a, p, x), calls) + a.mul(quantized_gather(a, p, x), quantized)


def tensor_calls(
    a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None
) -> tuple[Quantity, Quantity]:
    """Tensor collectives in one layer, forward and backward: gathers' worth in 16 bits, and gathers of what was cast."""
    blocks, found = (kind.mixer != "none") + has_tensor_feedforward(p, kind), gathered(p)
    again = a.choose(recompute or x.recompute, lambda option: _recomputed_blocks(p, kind, option))
    calls = 2 * again + 4 * blocks
    if found is None:
        return calls + x.sequence_parallel * blocks, 0
    forward = a.mul(x.sequence_parallel, again + blocks)
    return calls - forward - x.sequence_parallel * blocks, forward + x.sequence_parallel * (
        1 + found.of_gradient
    ) * blocks


def has_tensor_feedforward(p: Problem, kind: LayerKind) -> int:
    """1 if the layer has a feed-forward part split over tensor ranks: a dense one, or a shared expert."""
    shared = kind.feedforward == "moe" and bool(p.model.moe_shared_expert_intermediate_size)
    return int(kind.feedforward == "dense" or shared)


def _recomputed_blocks(p: Problem, kind: LayerKind, option: Recompute) -> int:
    """Blocks whose collectives of the forward pass, two each, recomputation repeats."""
    feedforward = has_tensor_feedforward(p, kind)
    if option.is_uniform:
        return (kind.mixer != "none") + feedforward
    module = {"dense": "mlp", "moe": "moe"}.get(kind.feedforward, "")
    return feedforward if option.drops(module) else 0


@once
def context_collectives(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """Context parallelism of one attention layer, in the way the request's ``cp_comm_type`` names."""
    model, n, split = p.model, tokens(a, p, x), tensor_tokens(a, p, x)
    heads = model.num_attention_heads
    if model.multi_latent_attention:
        key = heads * ((model.qk_head_dim or 0) + (model.qk_pos_emb_head_dim or 0))
        query, value = key, heads * (model.v_head_dim or 0)
        key_value_bytes = split * (2 * (key + value))
    else:
        query, value = heads * model.head_dim, model.query_groups * model.head_dim
        key = value
        key_value_bytes = a.maximum(split * (4 * key), n * (4 * model.head_dim))
    kind = p.settings.cp_comm_type
    again = a.choose(recompute or x.recompute, lambda option: 1 if option.is_uniform else 0)
    latency = a.lookup(collectives.context_latency, p, x.tp, x.cp)
    if kind == "a2a":
        cost = a.lookup(collectives.context_all_to_all, p, x.tp, x.cp)
        return a.mul(_timed(a, key_value_bytes + split * (4 * query), cost, latency), again + 2)
    if kind in ("all_gather", "allgather"):
        cost = a.lookup(collectives.context_ring, p, x.tp, x.cp)
        return a.mul(_timed(a, a.mul(key_value_bytes, x.cp), cost, latency), again + 3)
    cost = a.lookup(collectives.context_step, p, x.tp, x.cp)
    return a.mul(a.mul(_timed(a, key_value_bytes, cost, latency), x.cp - 1), again + 3)


@once
def _experts(a: Arithmetic, p: Problem, x: Degrees, recompute: Any = None) -> Quantity:
    """Dispatch and combine of one MoE layer: an all-to-all over ep and, inside it, gathers of the rows over etp."""
    width = 2 * (p.model.moe_latent_size or p.model.hidden_size) * p.model.moe_router_topk
    shard = shard_tokens(a, p, x)
    cost = a.lookup(collectives.expert_all_to_all, p, x.etp, x.ep)
    latency = a.lookup(collectives.expert_latency, p, x.etp, x.ep)
    dispatch = _timed(a, shard * width, cost, latency)
    gather = expert_tensor_gather(a, p, x)
    again = a.choose(recompute or x.recompute, lambda option: 2 if option.is_uniform or option.drops("moe") else 0)
    return a.mul(dispatch + gather, again + 4)


@once
def expert_tensor_gather(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One gather or scatter of the routed rows over the expert-tensor group."""
    width = 2 * (p.model.moe_latent_size or p.model.hidden_size) * p.model.moe_router_topk
    cost = a.lookup(collectives.expert_tensor_ring, p, x.etp)
    latency = a.lookup(collectives.expert_tensor_latency, p, x.etp)
    return _timed(a, a.mul(shard_tokens(a, p, x), x.etp) * width, cost, latency)


@once
def transfer(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One residual stream between pipeline neighbours."""
    latency = p.gpu.network_latency_ns if p.gpus > p.nvlink_domain else p.gpu.collective_latency_ns
    return _timed(a, stage_input_bytes(a, p, x), collectives.pipeline_step(p), latency)


@once
def layer_gradients(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Times:
    """Gradients and parameters of one layer, once per step, without the latency that buckets share."""
    ring = a.lookup(collectives.dense_data_ring, p, x.tp, x.pp)
    dense = _reduced(a, p, dense_parameters(a, p, x, kind), ring, parameter_bytes(p))
    if kind.feedforward != "moe":
        return {"dp": dense}
    per_kib = a.lookup(collectives.expert_data_ring, p, a.mul(x.etp, x.ep), x.pp)
    return {"dp": dense + _reduced(a, p, expert_parameters(a, p, x, kind), per_kib, parameter_bytes(p))}


def dense_gradients(a: Arithmetic, p: Problem, x: Degrees, elements: Quantity) -> Quantity:
    """Of what is never in fp8: over the dense data-parallel group with context parallelism, ``tp`` apart."""
    return _reduced(a, p, elements, a.lookup(collectives.dense_data_ring, p, x.tp, x.pp), PARAMETER_BYTES)


def parameter_bytes(p: Problem) -> int:
    """Bytes that one element of a GEMM weight is gathered in."""
    return 1 if p.settings.fp8_param_gather and p.precision in GATHERED_IN_FP8 else PARAMETER_BYTES


def _reduced(a: Arithmetic, p: Problem, elements: Quantity, per_kib: Quantity, gathered: int) -> Quantity:
    if not trains_all(p):
        return 0
    return _timed(a, elements * (gradient_bytes(p) + gathered), per_kib, 0)


@once
def tied_embedding(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """The all-reduce that keeps the first and last rank's copies of a tied embedding alike."""
    elements = embedding_parameters(a, p, x)
    return _timed(a, elements * (2 * gradient_bytes(p)), collectives.pipeline_step(p), p.gpu.network_latency_ns)
