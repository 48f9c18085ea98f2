"""A usual place for the layers on given ``pp`` and ``vpp``: evenly, and where that does not come out, by work.

What ``solve`` answers is the best partition of all (:mod:`constraints.partition`), which depends on every degree. This one
depends on the model and the pipeline shape alone: it shows that there is one. An even split is taken wherever there is one.
Else layers are dealt one at a time to the rank with the least work so far, counting the loss and the MTP layers that the last
rank also computes, so the slowest stage is as fast as whole layers allow.
"""

from __future__ import annotations

import heapq
from collections import Counter
from functools import lru_cache
from itertools import product

from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import Assignment, from_sizes, segment_sizes, simplest_split
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["layer_flops", "loss_flops", "place"]


@lru_cache(maxsize=4096)
def place(model: ModelSpec, pp: int, vpp: int) -> tuple[Assignment, PipelineSplit] | None:
    """The usual assignment on ``pp`` ranks of ``vpp`` chunks and the simplest form that says it.

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
    if model.is_hybrid:
        sizes = _alike_between(model.num_layers, pp) if vpp == 1 else None
        return None if sizes is None else (from_sizes(model, pp, sizes), _said(sizes))
    even = model.num_layers % chunks == 0
    sizes = (model.num_layers // chunks,) * chunks if even else _deal(model, pp, vpp)
    assignment = from_sizes(model, pp, sizes)
    return assignment, simplest_split(model, assignment)


def _alike_between(layers: int, pp: int) -> tuple[int, ...] | None:
    """The most even sizes that first and last counts say: all ranks between the ends hold the same."""
    if pp <= 2:
        return (layers,) if pp == 1 else (layers - layers // 2, layers // 2) if layers > 1 else None
    best = None
    for between in range(1, layers // (pp - 2) + 1):
        ends = layers - between * (pp - 2)
        if ends >= 2:
            sizes = (ends - ends // 2, *[between] * (pp - 2), ends // 2)
            best = min(best or sizes, sizes, key=lambda tried: sum(size**2 for size in tried))
    return best


def _said(sizes: tuple[int, ...]) -> PipelineSplit:
    """The form of sizes that are alike between the ends, where neither a layout nor counted ends may be written."""
    if len(set(sizes)) == 1:
        return PipelineSplit()
    if sizes[0] == sizes[1] or len(sizes) == 2:
        return PipelineSplit(last=sizes[-1])
    return PipelineSplit(first=sizes[0], last=None if sizes[-1] == sizes[1] else sizes[-1])


def _deal(model: ModelSpec, pp: int, vpp: int) -> tuple[int, ...]:
    """Chunk sizes by repeatedly giving a layer to the rank with the least work, ties to the later rank.

    Later ranks hold fewer micro-batches in flight, so a spare layer costs least memory there.
    """
    common = Counter(model.layer_kinds).most_common(1)[0][0]
    layer = layer_flops(model, common)
    deeper = loss_flops(model) + sum(layer_flops(model, kind) for kind in model.mtp_kinds)
    tail = loss_flops(model) + model.mtp_layers * deeper
    if pp > 1 and vpp > 1 and (sizes := _alike_inside(model.num_layers, pp, vpp, layer, tail)) is not None:
        return sizes
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


def _alike_inside(layers: int, pp: int, vpp: int, layer: int, tail: int) -> tuple[int, ...] | None:
    """Chunk sizes that are alike inside each rank but where :class:`constraints.chunks.EvenChunks` lets them differ, the
    slowest rank as fast as can be; ``None`` if that does not come out.

    ``tail`` is the work of the last rank beside its layers, in the unit of ``layer``.
    """
    best: tuple[tuple[int, int, int], tuple[int, ...]] | None = None
    for on_last, more, spare in product(range(1, layers - pp + 2), (0, 1, -1), (0, 1) if pp > 2 else (0,)):
        on_others, rest = divmod(layers - on_last - more - spare, vpp)
        longest = -(-on_last // vpp)
        least = on_last - longest * (vpp - 1)
        if rest or on_others < pp - 1 or least < 0:
            continue
        length, longer = divmod(on_others, pp - 1)
        lengths = [length] * (pp - 1 - longer) + [length + 1] * longer
        between = lengths[-1] * vpp + spare if pp > 2 else 0
        worst = max(layer * (lengths[0] * vpp + more), layer * between, layer * on_last + tail)
        if best is not None and worst > best[0][0]:
            continue
        row = [*lengths, longest]
        sizes = [lengths[0] + more, *row[1:], *(row * (vpp - 2)), *lengths, least]
        sizes[-2] += spare
        key = worst, sum(size**2 for size in sizes), abs(more) + spare
        if best is None or key < best[0]:
            best = key, tuple(sizes)
    return None if best is None else best[1]


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
