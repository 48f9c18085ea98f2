"""Peak allocation of one pipeline stage: what always lies there, and the fullest of three moments.

::

    peak = parameters + gradients + optimizer + weight-gradient cache + workspace
           + max(forward  : activations in flight + the losses being computed,
                 backward : activations in flight + max(one layer's backward, the loss's backward),
                 step     : fp32 copies of owned gradients or moments; activations are gone)

Summing the moments over-counts; leaving the step out under-counts where few ranks share the experts' state. Source: the
phases of Megatron-Core's 1F1B and interleaved schedules (``constraints/pipeline/schedule.py``).
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import NO_RECOMPUTE
from constraints.memory import activations, adapters, optimizer, parameters
from constraints.memory.loss import loss_backward_bytes, loss_forward_bytes
from constraints.memory.overhead import always_bytes
from constraints.memory.recomputed import beyond_shares, inputs_of_groups, rebuilt_bytes
from constraints.pipeline.again import alive_again
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind

__all__ = ["PHASES", "allocated_bytes", "peaks", "phases", "static_components"]

PHASES = ("forward", "backward", "step")

Parts = dict[str, Quantity]


def allocated_bytes(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """PyTorch's peak allocation on ``stage``, in bytes."""
    return a.maximum(*peaks(a, p, x, stage))


def peaks(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> list[Quantity]:
    """The quantities of which the largest is the peak: a bound on each is a bound on it, and needs no maximum."""
    static = _resting(a, p, x, stage)
    busiest = _busiest(a, p, x, stage.kinds, stage.heads)
    if rebuilt := rebuilt_bytes(a, p, x, stage):
        busiest = a.maximum(busiest, rebuilt)
    passes = static + _live_activations(a, p, x, stage) + busiest
    passes = passes + _gathered_units(a, p, x, stage)
    return [passes, static + _step(a, p, x, stage)] if optimizer.copied_bytes(p) else [passes]


def _resting(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """The sum of :func:`static_components`, in as few products as there are kinds of part."""
    total = _weight_gradient_cache(a, p, x, stage.kinds) + always_bytes(p)
    for part, count in _stored(a, p, x, stage):
        total = total + a.mul(_sum(part), count)
    return total


@once
def _busiest(a: Arithmetic, p: Problem, x: Degrees, kinds: tuple[LayerKind, ...], heads: int) -> Quantity:
    """The largest transient of the forward and the backward pass; the activations in flight are the same in both."""
    layers = (_layer_backward(a, p, x, kind) for kind in kinds)
    return a.maximum(0, *layers, loss_forward_bytes(a, p, x, heads), loss_backward_bytes(a, p, x, heads))


def static_components(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Parts:
    """What lies there at every moment, by name."""
    out: Parts = {"parameters": 0, "gradients": 0, "optimizer": 0}
    for part, count in _stored(a, p, x, stage):
        for name, quantity in part.items():
            out[name] = out[name] + a.mul(quantity, count)
    out["weight_gradient_cache"] = _weight_gradient_cache(a, p, x, stage.kinds)
    out["workspace"] = always_bytes(p)
    return out


def phases(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> dict[str, Parts]:
    """What each of the three moments adds to :func:`static_components`."""
    live = _live_activations(a, p, x, stage)
    layers = (_layer_backward(a, p, x, kind) for kind in stage.kinds)
    backward = a.maximum(0, *layers, rebuilt_bytes(a, p, x, stage))
    gathered = _gathered_units(a, p, x, stage)
    return {
        "forward": {"activations": live, "transient": loss_forward_bytes(a, p, x, stage.heads) + gathered},
        "backward": {
            "activations": live,
            "transient": a.maximum(backward, loss_backward_bytes(a, p, x, stage.heads)) + gathered,
        },
        "step": {"activations": 0, "transient": _step(a, p, x, stage)},
    }


def _sum(parts: Parts) -> Quantity:
    total: Quantity = 0
    for quantity in parts.values():
        total = total + quantity
    return total


@once
def _dense_sizes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> tuple[Quantity, int]:
    """One layer's elements in the dense buffer of one rank: GEMM weights split over tp, and what every rank has whole."""
    sharded, replicated = parameters.layer_sizes(p.model, kind)
    return a.ceil_div(sharded, x.tp), replicated


@once
def layer_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Parts:
    """What one stored layer of ``kind`` costs, dense parameters and routed experts over their own groups."""
    weights, others = _dense_sizes(a, p, x, kind)
    dense_shards, expert_shards = optimizer.dense_shards(a, p, x), optimizer.expert_shards(a, p, x)
    parts = [optimizer.training_bytes(a, p, weights, others, dense_shards)]
    if kind.feedforward == "moe":
        experts = parameters.expert_parameters(a, p, x, kind)
        parts.append(optimizer.training_bytes(a, p, experts, 0, expert_shards))
    if not optimizer.trains_all(p):
        parts.append(optimizer.adapter_bytes(a, p, adapters.dense_adapters(a, p, x, kind), dense_shards))
        parts.append(optimizer.adapter_bytes(a, p, adapters.expert_adapters(a, p, x, kind), expert_shards))
    total = parts[0]
    for part in parts[1:]:
        total = {name: total[name] + part[name] for name in total}
    return total


def _tables(p: Problem, stage: Stage) -> int:
    """Vocabulary tables that the stage stores: embedding and output projection, one where they are tied and meet."""
    tables = int(stage.holds_embedding_copy) + int(stage.heads > 0)
    return 1 if tables and p.model.share_embeddings_and_output_weights and stage.holds_embedding_copy else tables


def _stored(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> list[tuple[Parts, int]]:
    parts = [(layer_bytes(a, p, x, kind), count) for kind, count in stage.layers]
    if tables := _tables(p, stage):
        parts.append((_table_bytes(a, p, x), tables))
    if stage.mtp:
        parts.append((_projection_bytes(a, p, x), stage.mtp))
    return parts


@once
def _table_bytes(a: Arithmetic, p: Problem, x: Degrees) -> Parts:
    """What one stored vocabulary table costs."""
    return optimizer.training_bytes(a, p, 0, parameters.embedding_parameters(a, p, x), optimizer.dense_shards(a, p, x))


@once
def _projection_bytes(a: Arithmetic, p: Problem, x: Degrees) -> Parts:
    """What the projection in front of one MTP layer costs."""
    return optimizer.training_bytes(a, p, parameters.mtp_projection(a, p, x), 0, optimizer.dense_shards(a, p, x))


@once
def _weight_gradient_cache(a: Arithmetic, p: Problem, x: Degrees, kinds: tuple[LayerKind, ...]) -> Quantity:
    """Transformer Engine keeps one dummy bf16 weight gradient per distinct weight shape and never frees it
    (``transformer_engine/pytorch/module/base.py::get_dummy_wgrad``); routed experts share one shape."""
    if not p.settings.gradient_accumulation_fusion or not optimizer.trains_all(p):
        return 0
    total: Quantity = 0
    for mixer in sorted({kind.mixer for kind in kinds}):
        total = total + a.ceil_div(2 * parameters.layer_sizes(p.model, LayerKind(mixer, "none"))[0], x.tp)
    for feedforward in sorted({kind.feedforward for kind in kinds}):
        total = total + a.ceil_div(2 * parameters.layer_sizes(p.model, LayerKind("none", feedforward))[0], x.tp)
        if feedforward == "moe":
            total = total + a.ceil_div(2 * parameters.all_experts(p.model) // p.model.experts, x.etp)
    return total


def _live_activations(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    total: Quantity = 0
    if isinstance(x.recompute_group, int):
        for kind, count in _resident(p, stage):
            total = total + a.mul(_in_flight(a, p, x, kind, stage.most_copies), count)
    else:
        total = _copies(a, x, inputs_of_groups(a, p, x, stage), stage.most_copies)
    for kind, count in alive_again(a, p, x, stage):
        total = total - a.mul(_dropped(a, p, x, kind, stage.most_copies), count)
    if more := beyond_shares(a, p, x, stage):
        total = total + _copies(a, x, more, stage.most_copies)
    if stage.mtp_live:
        total = total + _copies(a, x, activations.mtp_bytes(a, p, x), stage.most_copies) * stage.mtp_live
    if stage.embedding and p.settings.hidden_dropout > 0:
        mask = activations.shard_tokens(a, p, x) * p.model.hidden_size
        total = total + _copies(a, x, mask, stage.most_copies) * (stage.copies[0] if stage.interleaved else 1)
    return total


def _resident(p: Problem, stage: Stage) -> tuple[tuple[LayerKind, int], ...]:
    """Layers whose activations stay on the GPU, times micro-batches where interleaved; offloading (pp = 1) moves some out."""
    counts = stage.live if stage.interleaved else stage.layers
    away = p.settings.cpu_offloading_num_layers if p.settings.cpu_offloading else 0
    if not away:
        return counts
    kept = []
    for kind, count in counts:
        moved = min(count, away)
        away -= moved
        kept.append((kind, count - moved))
    return tuple(kept)


@once
def _in_flight(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, most_copies: int | None) -> Quantity:
    """Activations of one layer, for every micro-batch that 1F1B keeps alive at once (interleaved stages count those)."""
    return _copies(a, x, a.choose(x.recompute, lambda o: activations.kept_bytes(a, p, x, kind, o)), most_copies)


@once
def _dropped(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, most_copies: int | None) -> Quantity:
    """What block recompute drops of one layer that it computes again: all but its input."""
    kept = activations.kept_bytes(a, p, x, kind, NO_RECOMPUTE)
    return _copies(a, x, kept - activations.stage_input_bytes(a, p, x), most_copies)


def _copies(a: Arithmetic, x: Degrees, kept: Quantity, most: int | None) -> Quantity:
    return kept if most is None else a.mul(kept, a.minimum(most, x.num_microbatches))


@once
def _layer_backward(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    return a.choose(x.recompute, lambda option: activations.backward_bytes(a, p, x, kind, option))


def _step(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    total: Quantity = 0
    for kind, count in stage.layers:
        total = total + a.mul(_layer_step(a, p, x, kind), count)
    if tables := _tables(p, stage):
        embedding = parameters.embedding_parameters(a, p, x)
        total = total + optimizer.step_bytes(a, p, embedding, optimizer.dense_shards(a, p, x)) * tables
    return total


@once
def _layer_step(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    weights, others = _dense_sizes(a, p, x, kind)
    total = optimizer.step_bytes(a, p, weights + others, optimizer.dense_shards(a, p, x))
    if kind.feedforward == "moe":
        experts = parameters.expert_parameters(a, p, x, kind)
        total = total + optimizer.step_bytes(a, p, experts, optimizer.expert_shards(a, p, x))
    return total


def _gathered_units(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Two whole layers that Megatron FSDP has gathered at a time, with their unreduced gradients."""
    if not optimizer.shards_parameters(p):
        return 0
    each = 2 * (2 + optimizer.gradient_bytes(p))
    layers = []
    for kind in stage.kinds:
        weights, others = _dense_sizes(a, p, x, kind)
        layers.append((weights + others + parameters.expert_parameters(a, p, x, kind)) * each)
    return a.maximum(0, *layers)
