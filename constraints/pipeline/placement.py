"""Where ``solve`` puts the layers for a given ``pp`` and ``vpp``: evenly, and where that does not come out, by work.

A placement is a function of the model and the pipeline shape alone. An even split is taken wherever there is one. Else
layers are dealt one at a time to the rank with the least work so far, counting the loss and the MTP layers that the
last rank also computes, so the slowest stage is as fast as whole layers allow.
"""

from __future__ import annotations

import heapq
from collections import Counter
from functools import lru_cache

from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import Assignment, from_sizes, segment_sizes, simplest_split
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["layer_flops", "loss_flops", "place"]


@lru_cache(maxsize=4096)
def place(model: ModelSpec, pp: int, vpp: int) -> tuple[Assignment, PipelineSplit] | None:
    """The assignment that ``solve`` uses on ``pp`` ranks of ``vpp`` chunks and the simplest form that says it.

    ``None`` if Megatron has no form for it: a hybrid model takes no layout string and no virtual stages. The pipes of a
    hybrid pattern place its layers where they are as many as the ranks; elsewhere rules forbid them.

    >>> from models_catalog.schema import ModelSpec
    >>> tiny = ModelSpec("tiny", num_layers=7, hidden_size=64, num_attention_heads=2, vocab_size=64)
    >>> place(tiny, 2, 1)[0].text()
    'Et*4|t*3L'
    """
    chunks, segments = pp * vpp, segment_sizes(model)
    if segments is not None and len(segments) == pp and vpp == 1:
        return from_sizes(model, pp, segments), PipelineSplit()
    even = model.num_layers % chunks == 0
    sizes = (model.num_layers // chunks,) * chunks if even else _deal(model, pp, vpp)
    assignment = from_sizes(model, pp, sizes)
    split = simplest_split(model, assignment)
    if model.is_hybrid and (vpp > 1 or split.form in ("layout", "account")):
        return None
    return assignment, split


def _deal(model: ModelSpec, pp: int, vpp: int) -> tuple[int, ...]:
    """Chunk sizes by repeatedly giving a layer to the rank with the least work, ties to the later rank.

    Later ranks hold fewer micro-batches in flight, so a spare layer costs least memory there.
    """
    common = Counter(model.layer_kinds).most_common(1)[0][0]
    layer = layer_flops(model, common)
    deeper = loss_flops(model) + sum(layer_flops(model, kind) for kind in model.mtp_kinds)
    tail = loss_flops(model) + model.mtp_layers * deeper
    floor = 1 if pp * vpp <= model.num_layers else 0
    work = [floor * vpp * layer] * pp
    work[-1] += tail
    layers = [floor * vpp] * pp
    heap = [(load, -rank) for rank, load in enumerate(work)]
    heapq.heapify(heap)
    for _ in range(model.num_layers - sum(layers)):
        load, minus_rank = heapq.heappop(heap)
        layers[-minus_rank] += 1
        heapq.heappush(heap, (load + layer, minus_rank))
    # Inside a rank the chunks are as even as possible, the longer ones first: the last one also holds the loss.
    return tuple(layers[i % pp] // vpp + (1 if i // pp < layers[i % pp] % vpp else 0) for i in range(pp * vpp))


@lru_cache(maxsize=256)
def layer_flops(model: ModelSpec, kind: LayerKind) -> int:
    """Forward multiply-adds per token of one layer's projections: only ratios between kinds and the loss are used."""
    h = model.hidden_size
    flops = 0
    if kind.mixer == "attention":
        if model.multi_latent_attention:
            nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
            heads, latent = model.num_attention_heads, model.kv_lora_rank or 0
            query_in = model.q_lora_rank or h
            flops += (h * query_in if model.q_lora_rank else 0) + query_in * heads * (nope + rope)
            flops += h * (latent + rope) + latent * heads * (nope + value) + heads * value * h
        else:
            q, k = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
            flops += h * (2 * q + 2 * k)
    elif kind.mixer in ("mamba", "gdn"):
        flops += 6 * h * h
    if kind.feedforward == "dense":
        flops += (model.gate + 1) * h * model.ffn
    elif kind.feedforward == "moe":
        width = model.moe_router_topk * model.expert_ffn + (model.moe_shared_expert_intermediate_size or 0)
        flops += (model.gate + 1) * h * width
    return flops


def loss_flops(model: ModelSpec) -> int:
    """Forward multiply-adds per token of the output projection, in the units of :func:`layer_flops`."""
    return model.hidden_size * model.vocab_size
