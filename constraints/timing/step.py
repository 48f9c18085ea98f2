"""Nanoseconds of one optimizer step, and where they go.

``step = core + exposed data parallelism + optimizer + fixed``; ``core`` is the pipeline's closed form over the time of each
stage, and a stage is the sum of its layers, each no shorter than the host needs to launch it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from constraints.arithmetic import Arithmetic, Quantity, Remembering, once
from constraints.layout import Layout
from constraints.memory.budget import layout_stages
from constraints.memory.optimizer import dense_shards, expert_shards, trains_all
from constraints.memory.parameters import dense_parameters, embedding_parameters, expert_parameters
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing.communication import dense_gradients, layer_gradients, tied_embedding, transfer
from constraints.timing.compute import embedding_ns, head_ns, host_ns, layer_ns, mtp_ns
from constraints.timing.overlap import exposed_data_ns, exposed_layer_ns, exposed_gathers_ns
from constraints.timing.pipeline import critical_hops, pipelined_ns
from constraints.timing.rates import rates_of, whole
from models_catalog.schema import LayerKind

__all__ = ["StepTime", "assemble", "stage_data_ns", "stage_ns", "stage_update_ns", "step_time", "whole_model_ns"]

PS_PER_NS = 1000
UPDATE_BYTES, BUFFER_BYTES = 30, 6
"""Optimizer traffic: per element that a rank owns (fp32 gradient, master and two moments read and written, bf16 copy
written), and per element that it stores (gradient buffer zeroed, parameter cast)."""
HEAD_GATHERS, EMBEDDING_GATHERS = 3, 2
"""Gathers of the residual stream: one forward and two back at the head, one each way at the embedding."""


@once
def _layer(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """One layer and micro-batch, forward and backward: GPU work and exposed communication, or the host's floor."""
    busy = layer_ns(a, p, x, kind)
    for exposed in exposed_layer_ns(a, p, x, kind).values():
        busy = busy + exposed
    return a.maximum(busy, host_ns(p, kind))


@once
def _head(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    return head_ns(a, p, x) + exposed_gathers_ns(a, p, x, HEAD_GATHERS)


@once
def _embedding(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    return embedding_ns(a, p, x) + exposed_gathers_ns(a, p, x, EMBEDDING_GATHERS)


@once
def _mtp(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    return mtp_ns(a, p, x)


def stage_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """One micro-batch, forward and backward, through everything that ``stage`` builds."""
    return _built_ns(a, p, x, stage.layers, int(stage.embedding), stage.heads, stage.mtp)


def whole_model_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """One micro-batch through the whole model: what the stages of any pipeline add up to."""
    model = p.model
    counts = Counter(model.layer_kinds)
    if model.mtp_layers:
        counts[model.layer_kinds[-1]] += model.mtp_layers
    return _built_ns(a, p, x, sorted(counts.items()), 1, 1 + model.mtp_layers, model.mtp_layers)


def _built_ns(
    a: Arithmetic,
    p: Problem,
    x: Degrees,
    layers: Iterable[tuple[LayerKind, int]],
    embeddings: int,
    heads: int,
    mtp: int,
) -> Quantity:
    total: Quantity = 0
    for kind, count in layers:
        total = total + _layer(a, p, x, kind) * count
    if embeddings:
        total = total + _embedding(a, p, x)
    if heads:
        total = total + _head(a, p, x) * heads
    if mtp:
        total = total + _mtp(a, p, x) * mtp
    return total


def stage_data_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Gradients reduced and parameters gathered, once, before any overlap."""
    total: Quantity = 0
    for kind, count in stage.layers:
        total = total + layer_gradients(a, p, x, kind)["dp"] * count
    tables = _tables(p, stage)
    if tables:
        total = total + dense_gradients(a, p, x, embedding_parameters(a, p, x)) * tables
    if p.model.share_embeddings_and_output_weights and stage.boundaries and tables and trains_all(p):
        total = total + tied_embedding(a, p, x)
    return total


def stage_update_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """The optimizer's step over what the stage owns, at HBM speed; LoRA's adapters are next to nothing."""
    if not trains_all(p):
        return 0
    total: Quantity = 0
    for kind, count in stage.layers:
        total = total + _update(a, p, x, kind) * count
    tables = _tables(p, stage)
    return total + _update(a, p, x, None) * tables if tables else total


@once
def _update(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind | None) -> Quantity:
    """One layer's, or an embedding's."""
    stored = embedding_parameters(a, p, x) if kind is None else dense_parameters(a, p, x, kind)
    owned = a.ceil_div(stored, dense_shards(a, p, x))
    if kind is not None and kind.feedforward == "moe":
        experts = expert_parameters(a, p, x, kind)
        owned, stored = owned + a.ceil_div(experts, expert_shards(a, p, x)), stored + experts
    per_mib = whole(rates_of(p).hbm_ps * (1 << 20) / PS_PER_NS)
    return a.ceil_div((owned * UPDATE_BYTES + stored * BUFFER_BYTES) * per_mib, 1 << 20)


def _tables(p: Problem, stage: Stage) -> int:
    tables = int(stage.holds_embedding_copy) + int(stage.heads > 0)
    return 1 if p.model.share_embeddings_and_output_weights and tables else tables


def assemble(
    a: Arithmetic,
    p: Problem,
    x: Degrees,
    *,
    chunks: Quantity,
    slowest: Quantity,
    total: Quantity,
    hops: Quantity,
    data: Quantity,
    update: Quantity,
) -> dict[str, Quantity]:
    """The parts of a step, which add up to it: ``core``, ``pp``, ``dp``, ``optimizer``, ``fixed``."""
    r = rates_of(p)
    core = pipelined_ns(a, x.num_microbatches, chunks, slowest, total)
    return {
        "core": core,
        "pp": a.ceil_div(a.mul(hops, transfer(a, p, x)) * whole(1000 * r.exposed_pp), 1000),
        "dp": exposed_data_ns(a, p, x, data, core, total),
        "optimizer": update,
        "fixed": whole(r.fixed_ps / PS_PER_NS),
    }


@dataclass(frozen=True)
class StepTime:
    """One step of a placed layout in nanoseconds; the parts add up to ``step_ns``. ``exposed_ns`` is by group."""

    step_ns: int
    compute_ns: int
    bubble_ns: int
    exposed_ns: dict[str, int] = field(default_factory=dict)
    host_ns: int = 0
    optimizer_ns: int = 0
    fixed_ns: int = 0


def step_time(p: Problem, layout: Layout, a: Arithmetic | None = None) -> StepTime:
    """The estimate for a layout whose layers are placed (``ValueError`` if they are not)."""
    a = a or Remembering()
    found = layout_stages(p, layout)
    if found is None:
        raise ValueError("the layers of this layout are not placed")
    stages = tuple({stage.rank: stage for stage in found}.values())
    times = {stage.rank: stage_ns(a, p, layout, stage) for stage in stages}
    slowest = a.maximum(*times.values())
    parts = assemble(
        a, p, layout,
        chunks=layout.chunks_per_rank,
        slowest=slowest,
        total=whole_model_ns(a, p, layout),
        hops=critical_hops(layout.pp, layout.chunks_per_rank, layout.num_microbatches),
        data=a.maximum(*(stage_data_ns(a, p, layout, stage) for stage in stages)),
        update=a.maximum(*(stage_update_ns(a, p, layout, stage) for stage in stages)),
    )  # fmt: skip
    step: int = sum(parts.values())
    if not isinstance(step, int):
        return StepTime(step, 0, 0)  # trial constants: only the sum is wanted
    worst = max(stages, key=lambda stage: times[stage.rank])
    return _split(a, p, layout, worst, slowest, step, parts)


def _split(
    a: Arithmetic, p: Problem, layout: Layout, worst: Stage, slowest: int, step: int, parts: dict[str, int]
) -> StepTime:
    """Where the time goes, as the slowest stage spends it."""
    m = layout.num_microbatches
    exposed: Counter[str] = Counter()
    host = 0
    for kind, count in worst.layers:
        work, shown = layer_ns(a, p, layout, kind), exposed_layer_ns(a, p, layout, kind)
        for group, time in shown.items():
            exposed[group] += time * count * m
        host += max(0, host_ns(p, kind) - work - sum(shown.values())) * count
    for calls, ends in ((HEAD_GATHERS, worst.heads), (EMBEDDING_GATHERS, int(worst.embedding))):
        exposed["tp"] += exposed_gathers_ns(a, p, layout, calls) * ends * m
    compute = slowest * m - sum(exposed.values()) - host * m
    exposed["pp"], exposed["dp"] = parts["pp"], parts["dp"]
    return StepTime(
        step_ns=step,
        compute_ns=compute,
        bubble_ns=parts["core"] - slowest * m,
        exposed_ns={group: exposed[group] for group in ("tp", "cp", "ep", "pp", "dp")},
        host_ns=host * m,
        optimizer_ns=parts["optimizer"],
        fixed_ns=parts["fixed"],
    )
