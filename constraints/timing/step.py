"""Nanoseconds of one optimizer step, and where they go.

``step = pipeline + hops + exposed data parallelism + optimizer + fixed``, as the slowest stage paces it. A stage is the sum
of its layers, embedding and heads, each layer no shorter than the host needs to launch it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from constraints.arithmetic import Arithmetic, Quantity, Remembering, once
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Layout
from constraints.memory.budget import layout_stages
from constraints.memory.optimizer import dense_shards, expert_shards, gradient_bytes, trains_all
from constraints.memory.parameters import dense_parameters, embedding_parameters, expert_parameters
from constraints.partition.kinds import runs_of
from constraints.partition.rank import Rank
from constraints.pipeline.again import kinds_meant, layers_again, layers_again_in_all
from constraints.pipeline.assignment import Chunk
from constraints.pipeline.profile import Stage
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing.accumulation import sharded
from constraints.timing.communication import dense_gradients, layer_gradients, parameter_bytes, tied_embedding, transfer
from constraints.timing.compute import embedding_ns, head_ns, host_ns, layer_ns, mtp_ns
from constraints.timing.crossing import IN_STEP, OF, usual_length
from constraints.timing.overlap import exposed_gathers_ns, exposed_layer_ns
from constraints.timing.pipeline import PARTS, hops, pipelined
from constraints.timing.rates import rates_of, whole
from models_catalog.schema import LayerKind

__all__ = ["StepTime", "busy_ns", "model_parts", "part_times", "stage_ns", "stage_step", "step_time", "whole_model_ns"]

PS_PER_NS = 1000
UPDATE_BYTES, BUFFER_BYTES = 30, 6
"""Optimizer traffic: per element that a rank owns (fp32 gradient, master and two moments read and written, bf16 copy
written), and per element that it stores (gradient buffer zeroed, parameter cast)."""
HIDDEN_BEHIND_CHUNK, HIDDEN_BEHIND_CORE = 0.8, 0.9
HEAD_GATHERS, EMBEDDING_GATHERS = 3, 2
"""Gathers of the residual stream: one forward and two back at the head, one each way at the embedding."""


@dataclass(frozen=True)
class Again:
    """What a layer of ``kind`` that block recompute computes again takes more than one that it leaves alone; one of any kind
    at least, if it is ``None``."""

    kind: LayerKind | None


Built = LayerKind | str
"""What a stage is built of: layers of a kind, ``"head"`` (output projection and loss), ``"embedding"``, ``"mtp"``."""
Part = Built | Again


@once
def part_ns(a: Arithmetic, p: Problem, x: Degrees, part: Part) -> Quantity:
    """One micro-batch, forward and backward, through one part: GPU work and exposed communication, or the host's floor."""
    if part == "head":
        return head_ns(a, p, x) + exposed_gathers_ns(a, p, x, HEAD_GATHERS)
    if part == "embedding":
        return embedding_ns(a, p, x) + exposed_gathers_ns(a, p, x, EMBEDDING_GATHERS)
    if isinstance(part, str):
        return mtp_ns(a, p, x)
    if isinstance(part, Again):
        return a.minimum(*(_again_ns(a, p, x, kind) for kind in kinds_meant(p.model, part.kind)))
    return _layer_ns(a, p, x, part)


def _again_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    return a.maximum(0, _layer_ns(a, p, x, kind, WHOLE_LAYERS) - _layer_ns(a, p, x, kind, NO_RECOMPUTE))


def _layer_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind, recompute: Any = None) -> Quantity:
    busy = layer_ns(a, p, x, kind, recompute)
    for exposed in exposed_layer_ns(a, p, x, kind, recompute).values():
        busy = busy + exposed
    return a.maximum(busy, host_ns(p, kind))


@once
def part_times(a: Arithmetic, p: Problem, x: Degrees, part: Part) -> tuple[Quantity, Quantity]:
    """One micro-batch through a part, and all of them."""
    single = part_ns(a, p, x, part)
    return single, a.mul(x.num_microbatches, single)


def _built(layers: Iterable[tuple[LayerKind, Quantity]], embedding: int, heads: int, mtp: int) -> dict[Part, Quantity]:
    counts: dict[Part, Quantity] = dict(layers)
    counts |= {"head": heads, "embedding": embedding, "mtp": mtp}
    return {part: count for part, count in counts.items() if not isinstance(count, int) or count}


def stage_parts(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> dict[Part, Quantity]:
    """What ``stage`` is built of."""
    built = _built(stage.layers, int(stage.embedding), stage.heads, stage.mtp)
    return built | {Again(kind): count for kind, count in layers_again(a, p, x, stage)}


@once
def model_parts(a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity) -> dict[Part, Quantity]:
    """What the whole model is built of, and so the stages of any pipeline of ``chunks`` chunks a rank together."""
    model = p.model
    counts = Counter(model.layer_kinds)
    for kind in model.mtp_kinds:
        counts[kind] += model.mtp_layers
    built = _built(sorted(counts.items()), 1, 1 + model.mtp_layers, model.mtp_layers)
    return built | {Again(kind): count for kind, count in layers_again_in_all(a, p, x, chunks)}


@once
def whole_model_ns(a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity) -> Quantity:
    """One micro-batch through the whole model."""
    return _through(a, p, x, model_parts(a, p, x, chunks))


def stage_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """One micro-batch through ``stage``."""
    return _through(a, p, x, stage_parts(a, p, x, stage))


def _through(a: Arithmetic, p: Problem, x: Degrees, parts: Mapping[Part, Quantity]) -> Quantity:
    """One micro-batch through so many of each part."""
    total: Quantity = 0
    for part, count in parts.items():
        total = total + a.mul(part_ns(a, p, x, part), count)
    return total


def _in_step(a: Arithmetic, p: Problem, x: Degrees, stage: Stage, here: Quantity) -> Quantity:
    """One micro-batch through an end of an interleaved pipeline, which takes ``here`` by itself, with the waits of its
    chunks (:mod:`.crossing`)."""
    runs, count = runs_of(p.model), len(stage.chunks)
    assert runs is not None, "layers that alternate have no usual chunk"
    length = usual_length(p.model.num_layers, x.pp, count)
    usual = stage_ns(a, p, x, stage.of_chunk(p.model, Chunk(runs.prefix, runs.prefix + length)))
    alone = a.maximum(here, usual * count)
    together: Quantity = 0
    for chunk in stage.chunks:
        together = together + a.maximum(usual, stage_ns(a, p, x, stage.of_chunk(p.model, chunk)))
    return a.ceil_div(alone * (OF - IN_STEP) + together * IN_STEP, OF)


def _core_in_step(
    a: Arithmetic, p: Problem, x: Degrees, rank: Rank, in_all: Quantity, chunks: Quantity, weight: int
) -> Quantity:
    """The same, at least, of a rank whose counts are quantities: the core as it paces it; ``in_all`` is one micro-batch
    through the whole model."""
    every: Quantity = 0
    here: Quantity = 0
    for parts, times in (
        (_built(rank.usual, 0, 0, 0), OF - IN_STEP),
        (_built(rank.together, 0, rank.heads, rank.mtp), IN_STEP),  # an embedding may hide in a short first chunk
    ):
        for part, count in parts.items():
            single, all_of_them = part_times(a, p, x, part)
            here, every = here + a.mul(single, count) * times, every + a.mul(all_of_them, count) * times
    return pipelined(a, every, in_all * OF - here, chunks, weight // OF)


def _core(a: Arithmetic, p: Problem, x: Degrees, stage: Stage, chunks: Quantity, weight: int = PARTS) -> Quantity:
    """All micro-batches, as ``stage`` paces them, in 64ths of a nanosecond (or in ``weight``-ths of 64ths)."""
    here, in_all, every, elsewhere = stage_parts(a, p, x, stage), model_parts(a, p, x, chunks), 0, 0
    for part in {**in_all, **here}:
        single, all_of_them = part_times(a, p, x, part)
        count, others = here.get(part, 0), in_all.get(part, 0) - here.get(part, 0)
        if isinstance(part, Again) and part.kind is not None:
            others = a.maximum(0, others)
        every, elsewhere = every + a.mul(all_of_them, count), elsewhere + a.mul(single, others)
    if isinstance(stage, Rank):
        if stage.together:
            return _core_in_step(a, p, x, stage, stage_ns(a, p, x, stage) + elsewhere, chunks, weight)
    elif stage.is_interleaved_end and runs_of(p.model) is not None:
        alone = stage_ns(a, p, x, stage)
        paced = _in_step(a, p, x, stage, alone)
        every, elsewhere = a.mul(x.num_microbatches, paced), a.maximum(0, alone + elsewhere - paced)
    return pipelined(a, every, elsewhere, chunks, weight)


def stage_step(
    a: Arithmetic, p: Problem, x: Degrees, stage: Stage, chunks: Quantity, hops_64: Quantity
) -> tuple[Quantity, Quantity]:
    """The step as ``stage`` paces it, in 64ths of a nanosecond, twice, of which the larger counts; ``hops_64`` is what
    :func:`~constraints.timing.pipeline.hops` says.

    Gradients and parameters count as far as they show at least, or as far as they outlast what hides them.

    They hide behind the last micro-batch of a mean chunk; in an interleaved pipeline behind all chunks that ``pp``
    micro-batches still go through after it (``megatron/core/pipeline_parallel/schedules.py``,
    ``grad_sync_virtual_microbatch_id``); Megatron-FSDP's behind nearly all of the step.
    """
    r = rates_of(p)
    rest = hops_64 + _update_ns(a, p, x, stage) * PARTS
    rest = rest + whole(r.fixed_ps * PARTS / PS_PER_NS)
    data, core = _gradients_ns(a, p, x, stage), _core(a, p, x, stage, chunks)
    if sharded(p):
        once_bytes = gradient_bytes(p) + parameter_bytes(p)  # FSDP gathers twice in every micro-batch
        data = a.ceil_div(a.mul(data, x.num_microbatches) * (once_bytes + parameter_bytes(p)), once_bytes)
        left = _core(a, p, x, stage, chunks, round(PARTS * (1 - HIDDEN_BEHIND_CORE)))
        return rest + core + data * share(r.exposed_fsdp), rest + data * PARTS + left
    chunk_ranks = a.mul(x.pp, chunks)
    behind = a.mul(whole_model_ns(a, p, x, chunks), chunk_ranks - x.pp + 1) * round(PARTS * HIDDEN_BEHIND_CHUNK)
    hidden = a.floor_div(behind, chunk_ranks)
    return rest + core + data * share(r.exposed_dp), rest + core + data * PARTS - hidden


def share(part: Any) -> Any:
    """A share of one in 64ths; a fit's trial shares pass as they are."""
    return round(PARTS * part) if isinstance(part, float) else PARTS * part


def _gradients_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """Gradients reduced and parameters gathered, once, before any overlap."""
    total: Quantity = 0
    for part, count in _stored(p, stage).items():
        total = total + a.mul(_part_gradients(a, p, x, part), count)
    return total


@once
def _part_gradients(a: Arithmetic, p: Problem, x: Degrees, part: Built) -> Quantity:
    if part == "table":
        return dense_gradients(a, p, x, embedding_parameters(a, p, x))
    return tied_embedding(a, p, x) if isinstance(part, str) else layer_gradients(a, p, x, part)["dp"]


def _update_ns(a: Arithmetic, p: Problem, x: Degrees, stage: Stage) -> Quantity:
    """The optimizer's step over what the stage owns, at HBM speed; LoRA's adapters are next to nothing."""
    total: Quantity = 0
    if trains_all(p):
        for part, count in _stored(p, stage).items():
            total = total + (a.mul(_update(a, p, x, part), count) if part != "tied" else 0)
    return total


@once
def _update(a: Arithmetic, p: Problem, x: Degrees, part: Built) -> Quantity:
    stored = embedding_parameters(a, p, x) if isinstance(part, str) else dense_parameters(a, p, x, part)
    owned = a.ceil_div(stored, dense_shards(a, p, x))
    if isinstance(part, LayerKind) and part.feedforward == "moe":
        experts = expert_parameters(a, p, x, part)
        owned, stored = owned + a.ceil_div(experts, expert_shards(a, p, x)), stored + experts
    per_mib = whole(rates_of(p).hbm_ps * (1 << 20) / PS_PER_NS)
    return a.ceil_div((owned * UPDATE_BYTES + stored * BUFFER_BYTES) * per_mib, 1 << 20)


def _stored(p: Problem, stage: Stage) -> dict[Built, int]:
    """What has gradients: layers by kind, ``"table"`` (an embedding or output projection), ``"tied"`` copies kept alike."""
    tables = int(stage.holds_embedding_copy) + int(stage.heads > 0)
    counts: dict[Built, int] = dict(stage.layers)
    if p.model.share_embeddings_and_output_weights and tables:
        counts |= {"table": 1, "tied": int(bool(stage.boundaries) and trains_all(p))}
    else:
        counts["table"] = tables
    return {part: count for part, count in counts.items() if count}


@dataclass(frozen=True)
class StepTime:
    """One step of a placed layout in nanoseconds; the parts add up to ``step_ns``. ``exposed_ns`` is by group;
    ``played``: the bubble is that of the schedule played through (:mod:`.played`), not of the closed form."""

    step_ns: int
    compute_ns: int
    bubble_ns: int
    exposed_ns: dict[str, int] = field(default_factory=dict)
    host_ns: int = 0
    optimizer_ns: int = 0
    fixed_ns: int = 0
    played: bool = False


def step_time(p: Problem, layout: Layout, a: Arithmetic | None = None) -> StepTime:
    """The estimate for a layout whose layers are placed (``ValueError`` if they are not)."""
    a = a or Remembering()
    found = layout_stages(p, layout)
    if found is None:
        raise ValueError("the layers of this layout are not placed")
    between = hops(a, transfer(a, p, layout), layout.num_microbatches, layout.pp, layout.chunks_per_rank)
    costs = [
        (a.maximum(*stage_step(a, p, layout, stage, layout.chunks_per_rank, between)), stage)
        for stage in _different(a, p, layout, {stage.rank: stage for stage in found}.values())
    ]
    step = a.ceil_div(a.maximum(*(cost for cost, _ in costs)), PARTS)
    if not isinstance(step, int):
        return StepTime(step, 0, 0)  # trial constants: only the sum is wanted
    return _split(a, p, layout, max(costs, key=lambda cost: cost[0])[1], step)


def busy_ns(p: Problem, layout: Layout) -> tuple[int, ...]:
    """By pipeline rank, nanoseconds of a step in which it works on micro-batches, its exposed communication included."""
    found = layout_stages(p, layout)
    if found is None:
        raise ValueError("the layers of this layout are not placed")
    a, times = Remembering(), {}
    for stage in found:
        times[stage.rank] = layout.num_microbatches * stage_ns(a, p, layout, stage)
    return tuple(times[rank] for rank in sorted(times))


def _different(a: Arithmetic, p: Problem, layout: Layout, stages: Iterable[Stage]) -> Iterable[Stage]:
    """One stage of each that are built alike: they take the same time."""
    seen: dict[Hashable, Stage] = {}
    for stage in stages:
        again = layers_again(a, p, layout, stage)
        built = (stage.layers, again, stage.embedding, stage.heads, stage.mtp, bool(stage.boundaries))
        seen.setdefault(built, stage)
    return seen.values()


def _split(a: Arithmetic, p: Problem, layout: Layout, stage: Stage, step: int) -> StepTime:
    """Where the time goes, as the slowest stage spends it."""
    m = layout.num_microbatches
    exposed: Counter[str] = Counter()
    host = busy = 0
    again = dict(stage.again(p.model, layout.recompute_layers))
    layers = [(kind, count - again.get(kind, 0), layout.recompute) for kind, count in stage.layers]
    for kind, count, recompute in [*layers, *((kind, count, WHOLE_LAYERS) for kind, count in again.items())]:
        work, shown = layer_ns(a, p, layout, kind, recompute), exposed_layer_ns(a, p, layout, kind, recompute)
        for group, time in shown.items():
            exposed[group] += time * count * m
        host += max(0, host_ns(p, kind) - work - sum(shown.values())) * count * m
    for calls, ends in ((HEAD_GATHERS, stage.heads), (EMBEDDING_GATHERS, int(stage.embedding))):
        exposed["tp"] += exposed_gathers_ns(a, p, layout, calls) * ends * m
    busy = m * stage_ns(a, p, layout, stage)
    core, update = _core(a, p, layout, stage, layout.chunks_per_rank) // PARTS, _update_ns(a, p, layout, stage)
    compute = busy - sum(exposed.values()) - host
    fixed = whole(rates_of(p).fixed_ps / PS_PER_NS)
    exposed["pp"] = hops(a, transfer(a, p, layout), m, layout.pp, layout.chunks_per_rank) // PARTS
    exposed["dp"] = step - core - update - fixed - exposed["pp"]
    return StepTime(
        step_ns=step,
        compute_ns=compute,
        bubble_ns=core - busy,
        exposed_ns={group: exposed[group] for group in ("tp", "cp", "ep", "pp", "dp")},
        host_ns=host,
        optimizer_ns=update,
        fixed_ns=fixed,
    )
