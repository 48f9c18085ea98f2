"""Peak allocation of one pipeline stage, component by component.

``peak = static + always + activations in flight + max(one layer's backward, the loss)``: what is alive at the moment
the backward pass begins. Source: the phase model of Megatron-Core's 1F1B and interleaved schedules (see
``schedule.py``).
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.layout import Recompute
from constraints.memory import activations, optimizer, parameters
from constraints.memory.loss import loss_bytes
from constraints.memory.overhead import ALWAYS_BYTES
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind

__all__ = ["allocated_bytes", "components"]


def allocated_bytes(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """PyTorch's peak allocation on ``stage``, in bytes."""
    total: Quantity = 0
    for quantity in components(a, p, x, stage).values():
        total = total + quantity
    return total


def components(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> dict[str, Quantity]:
    """The parts of :func:`allocated_bytes` by name; they add up to it."""
    out: dict[str, Quantity] = {"parameters": 0, "gradients": 0, "optimizer": 0}
    for part in _stored(a, p, x, stage):
        for name, quantity in part.items():
            out[name] = out[name] + quantity
    out["weight_gradient_cache"] = _weight_gradient_cache(a, p, x, stage)
    out["activations"] = _live_activations(a, p, x, stage)
    out["transient"] = _transient(a, p, x, stage)
    out["workspace"] = ALWAYS_BYTES
    return out


@once
def layer_bytes(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> dict[str, Quantity]:
    """What one stored layer of ``kind`` costs, dense parameters and routed experts over their own groups."""
    dense = optimizer.training_bytes(a, p, parameters.dense_parameters(a, p, x, kind), optimizer.dense_shards(a, p, x))
    if kind.feedforward != "moe":
        return dense
    experts = optimizer.training_bytes(
        a, p, parameters.expert_parameters(a, p, x, kind), optimizer.expert_shards(a, p, x)
    )
    return {name: dense[name] + experts[name] for name in dense}


def _stored(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> list[dict[str, Quantity]]:
    shards = optimizer.dense_shards(a, p, x)
    parts = [
        {name: quantity * count for name, quantity in layer_bytes(a, p, x, kind).items()}
        for kind, count in stage.layers
    ]
    tables = int(stage.holds_embedding_copy) + int(stage.heads > 0)
    if p.model.share_embeddings_and_output_weights and stage.holds_embedding_copy:
        tables = 1
    if tables:
        embedding = optimizer.training_bytes(a, p, parameters.embedding_parameters(a, p, x), shards)
        parts.append({name: quantity * tables for name, quantity in embedding.items()})
    if stage.mtp:
        projection = optimizer.training_bytes(a, p, parameters.mtp_projection(a, p, x), shards)
        parts.append({name: quantity * stage.mtp for name, quantity in projection.items()})
    return parts


def _weight_gradient_cache(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Transformer Engine keeps one dummy bf16 weight gradient per distinct weight shape and never frees it
    (``transformer_engine/pytorch/module/base.py::get_dummy_wgrad``); routed experts share one shape."""
    if not p.settings.gradient_accumulation_fusion or not optimizer.trains_all(p):
        return 0
    total: Quantity = 0
    for kind, _ in stage.layers:
        sharded, _ = parameters.layer_sizes(p.model, kind)
        total = total + a.ceil_div(2 * sharded, x.tp)
        if kind.feedforward == "moe":
            total = total + a.ceil_div(2 * parameters.all_experts(p.model) // p.model.experts, x.etp)
    return total


def _live_activations(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    total: Quantity = 0
    for kind, count in stage.live if stage.interleaved else stage.layers:
        total = total + _in_flight(a, p, x, kind, stage.most_copies) * count
    if isinstance(x.recompute, Recompute) and x.recompute.is_full and x.recompute.method == "block":
        # Only a layout that somebody wrote can ask for block recompute: whole layers leave, their input stays.
        copies = 1 if stage.interleaved else a.minimum(stage.most_copies, x.num_microbatches)
        for kind, count in stage.checkpointed(p.model, x.recompute.num_layers or 0):
            kept = activations.kept_bytes(a, p, x, kind, x.recompute)
            total = total - (kept - activations.stage_input_bytes(a, p, x)) * count * copies
    return total


@once
def _in_flight(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, most_copies: int | None) -> Quantity:
    """Activations of one layer, for every micro-batch that 1F1B keeps alive at once (interleaved stages count those)."""
    kept = a.choose(x.recompute, lambda option: activations.kept_bytes(a, p, x, kind, option))
    if most_copies is None:
        return kept
    return a.mul(kept, a.minimum(most_copies, x.num_microbatches))


def _transient(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    backward = [_backward(a, p, x, kind) for kind, _ in stage.layers]
    return a.maximum(0, *backward, loss_bytes(a, p, x, stage.heads))


def _backward(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    return a.choose(x.recompute, lambda option: activations.backward_bytes(a, p, x, kind, option))
