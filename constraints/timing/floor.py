"""A floor under the step time, by few degrees at a time: what keeps the solver's proof short.

The time of a layer is a maximum of lines in the micro-batch ``b``, none of which is negative at 0, so it is nowhere
below ``alpha b + beta``, the line found by evaluating the formulas themselves at two large ``b``. ``p`` stages of ``t c
d`` ranks share ``B`` sequences, so ``m b`` is ``B / d``, and the stages' mean load of all micro-batches is ``B t c alpha
/ W`` of the whole model, whatever ``d`` and ``p``, and ``m beta / p``; both depend on ``t`` for the dense part (``c``
cancels), on ``w`` and ``e`` for experts and dispatch; ``alpha`` of context parallelism on ``t`` and ``c``. On top come a
bubble of ``(p - 1) / (m v)`` and the mean stage's gradients.

The mean stage is a floor too where the degrees are known and the layers not yet placed (:func:`mean_stage_ns`): all stages
together take the whole model's time, and a stage that takes longer than the mean only paces a longer step.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from constraints.arithmetic import Arithmetic, Quantity, Remembering
from constraints.layout import NO_RECOMPUTE, WHOLE_LAYERS, Layout, Recompute
from constraints.memory.optimizer import gradient_bytes, trains_all
from constraints.memory.parameters import all_experts, layer_sizes
from constraints.partition.kinds import runs_of
from constraints.pipeline.again import CountsAtLeast, kinds_meant, layers_again_in_all
from constraints.problem import Problem
from constraints.rule import Degrees
from constraints.timing.accumulation import sharded
from constraints.timing.collectives import dense_data_ring, expert_data_ring
from constraints.timing.communication import parameter_bytes
from constraints.timing.compute import dense_ns, experts_ns, head_ns, ring_ns
from constraints.timing.overlap import exposed_context_ns, exposed_experts_ns, exposed_tensor_ns
from constraints.timing.pipeline import PARTS
from constraints.timing.rates import rates_of
from constraints.timing.step import model_parts, part_times, whole_model_ns
from models_catalog.schema import LayerKind

__all__ = ["mean_stage_ns", "step_floors_ns"]

Table = Callable[..., int]
Layers = tuple[tuple[LayerKind, int], ...]
PS_PER_NS = 1000
KIB = 1024
COARSE = 64
"""The bubble is reckoned in so many nanoseconds, so that its products stay small."""
LARGE = (512, 1024)
"""Micro-batches between which the tangent is taken."""
ROUNDED = 32
"""Nanoseconds that rounding up may have added to one layer."""


def step_floors_ns(
    a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity, kind: LayerKind, crowded: Quantity
) -> list[Quantity]:
    """Nanoseconds that no layout with these degrees can go below: per step, or per sequence if the batch is free.

    The first is the mean stage's. Some stage holds ``crowded / pp`` layers of ``kind`` at least, which are more than its
    share where they do not come out even.
    """
    once = _once_per_step_ns(a, p, x)
    if p.global_batch_size is None:
        once = a.floor_div(once, x.global_batch_size)
    mean = _even_ns(a, p, x, _layers(p), 1 + p.model.mtp_layers)
    mean = mean + _again_ns(a, p, x, layers_again_in_all(a, p, x, chunks))
    busy = a.mul(_even_ns(a, p, x, ((kind, 1),), 0), crowded)
    busy = busy + _again_ns(a, p, x, _crowded_again(a, p, x, chunks, kind, crowded))
    floors = [_paced(a, x, mean, mean, chunks) + once]
    return floors if isinstance(busy, int) and busy == 0 else [*floors, _paced(a, x, busy, mean, chunks)]


def mean_stage_ns(a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity, hops_64: Quantity) -> Quantity:
    """Nanoseconds that a step takes at least, wherever the layers go: as a stage that holds ``1/pp`` of the model paces it.

    ``hops_64`` as :func:`~constraints.timing.step.stage_step` takes it. Gradients and the optimizer come on top.
    """
    every: Quantity = 0
    for part, count in model_parts(a, p, x, chunks).items():
        _, all_of_them = part_times(a, p, x, part)
        every = every + a.mul(all_of_them, count)
    single = whole_model_ns(a, p, x, chunks)
    elsewhere = single - a.ceil_div(single, x.pp)
    return a.floor_div(every, x.pp) + a.floor_div(elsewhere, chunks) + a.floor_div(hops_64, PARTS)


def _paced(a: Arithmetic, x: Degrees, busy: Quantity, mean: Quantity, chunks: Quantity) -> Quantity:
    """The step with a stage that computes for ``busy``, and the bubble that it waits for all others once."""
    others = a.maximum(0, a.mul(a.floor_div(mean, COARSE), x.pp) - a.ceil_div(busy, COARSE))
    return busy + a.floor_div(others, a.mul(x.num_microbatches, chunks)) * COARSE


def _even_ns(a: Arithmetic, p: Problem, x: Degrees, layers: Layers, heads: int) -> Quantity:
    """All micro-batches through ``layers`` and ``heads``, every stage busy with its mean share."""
    floor = a.choose(x.recompute, lambda option: a.lookup(_dense(option, layers, heads), p, x.tp, x.sequence_parallel))
    floor = floor + a.lookup(_context(layers), p, x.tp, x.cp)
    floor = floor + _shared(a, p, x, a.lookup(_dense_each(layers, heads), p, x.tp, x.sequence_parallel))
    if p.model.is_moe:
        floor = floor + a.lookup(_experts(layers), p, x.etp, x.ep)
        floor = floor + _shared(a, p, x, a.lookup(_experts_each(layers), p, x.etp, x.ep))
    return floor


def _shared(a: Arithmetic, p: Problem, x: Degrees, each: Quantity) -> Quantity:
    """A mean stage's part of what all micro-batches take that take ``each`` whatever their size."""
    if p.global_batch_size is None:
        return a.floor_div(each, a.mul(x.pp, a.mul(x.micro_batch_size, x.dp)))
    return a.floor_div(a.mul(x.num_microbatches, each), x.pp)


def _crowded_again(
    a: Arithmetic, p: Problem, x: Degrees, chunks: Quantity, kind: LayerKind, crowded: Quantity
) -> CountsAtLeast:
    """``pp`` times the layers that block recompute computes again on the stage that holds ``crowded / pp`` of ``kind``."""
    first, runs = x.recompute_layers, runs_of(p.model)
    if runs is None or (isinstance(first, int) and not first):
        return ()
    full = a.maximum(1, chunks - 1)  # the very last chunk may be short
    again = a.minimum(a.mul(first, a.mul(x.pp, full)), crowded)
    early = a.minimum(again, x.pp * runs.prefix)  # at most: of the first run, which may take less
    return ((kind, again - early), (None, early))


def _again_ns(a: Arithmetic, p: Problem, x: Degrees, counts: CountsAtLeast) -> Quantity:
    """What block recompute adds to that for so many layers of each kind."""
    total: Quantity = 0
    for kind, count in counts:
        total = total + a.mul(count, a.minimum(*(_one_again_ns(a, p, x, one) for one in kinds_meant(p.model, kind))))
    return total


def _one_again_ns(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    more = a.lookup(_again(kind), p, x.tp, x.sequence_parallel)
    return more + a.lookup(_experts_again, p, x.etp, x.ep) if kind.feedforward == "moe" else more


def _once_per_step_ns(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Gradients and gathered parameters of a mean stage."""
    if sharded(p) or not trains_all(p):
        return 0
    once = a.lookup(_dense_gradients, p, x.tp, x.pp)
    if p.model.is_moe:
        once = once + a.lookup(_expert_gradients, p, a.mul(x.etp, x.ep), x.pp)
    return once


@lru_cache(maxsize=16)
def _counted(kinds: tuple[LayerKind, ...], more: tuple[LayerKind, ...]) -> Layers:
    counts = Counter(kinds + more)
    return tuple(counts.items())


def _layers(p: Problem) -> Layers:
    """Layers of the whole model by kind, MTP layers among them."""
    return _counted(p.model.layer_kinds, p.model.mtp_kinds * p.model.mtp_layers)


def _slope(p: Problem, time: Callable[[int], int], share: int) -> int:
    """Nanoseconds of a step whose micro-batches take ``time(b)`` on ``share`` of the GPUs, however they are cut."""
    low, high = LARGE
    at_high = time(high)
    rise = at_high - time(low) - ROUNDED * (p.model.num_layers + 2)
    alpha = min(rise / (high - low), (at_high - ROUNDED * (p.model.num_layers + 2)) / high)  # no chord below the origin
    return math.floor(max(0.0, float(alpha)) * (p.global_batch_size or 1) * share / p.gpus)


def _each(p: Problem, time: Callable[[int], int]) -> int:
    """Nanoseconds that micro-batches take whatever their size, of those that take ``time(b)``."""
    low, high = LARGE
    at_high = time(high)
    rise = (at_high - time(low)) / (high - low)
    return max(0, math.floor(at_high - rise * high) - ROUNDED * (p.model.num_layers + 2))


def _dense_time(p: Problem, x: Layout, layers: Layers, heads: int) -> Callable[[int], int]:
    """Layers without routed experts, tensor collectives included, and heads, by the size of micro-batches."""

    def time(size: int) -> int:
        a, sized = Remembering(), replace(x, micro_batch_size=size)
        of_layers = sum((dense_ns(a, p, sized, kind) + exposed_tensor_ns(a, p, sized, kind)) * n for kind, n in layers)
        return int(of_layers + head_ns(a, p, sized) * heads)

    return time


@lru_cache(maxsize=512)
def _dense(recompute: Recompute, layers: Layers, heads: int) -> Table:
    """The dense part by tensor degree and sequence parallelism."""

    def table(p: Problem, tp: int, sequence_parallel: int) -> int:
        x = Layout(tp=tp, sequence_parallel=bool(sequence_parallel), recompute=recompute)
        return _slope(p, _dense_time(p, x, layers, heads), tp)

    return table


@lru_cache(maxsize=512)
def _dense_each(layers: Layers, heads: int) -> Table:
    """What it takes in each micro-batch, recompute or not."""

    def table(p: Problem, tp: int, sequence_parallel: int) -> int:
        x = Layout(tp=tp, sequence_parallel=bool(sequence_parallel))
        return _each(p, _dense_time(p, x, layers, heads))

    return table


@lru_cache(maxsize=512)
def _again(kind: LayerKind) -> Table:
    """What a layer of ``kind`` takes more if it is computed again, routed experts and context apart."""

    def table(p: Problem, tp: int, sequence_parallel: int) -> int:
        def more(size: int) -> int:
            a = Remembering()
            x = Layout(tp=tp, sequence_parallel=bool(sequence_parallel), micro_batch_size=size)
            whole, none = (
                dense_ns(a, p, x, kind, option) + exposed_tensor_ns(a, p, x, kind, option)
                for option in (WHOLE_LAYERS, NO_RECOMPUTE)
            )
            return int(whole - none)

        return _slope(p, more, tp)

    return table


def _experts_again(p: Problem, etp: int, ep: int) -> int:
    """What routed experts, dispatch and combine take more if they are computed again."""

    def more(size: int) -> int:
        a, x = Remembering(), Layout(etp=etp, ep=ep, micro_batch_size=size)
        whole, none = (
            experts_ns(a, p, x, option) + exposed_experts_ns(a, p, x, option) for option in (WHOLE_LAYERS, NO_RECOMPUTE)
        )
        return int(whole - none)

    return _slope(p, more, 1)


@lru_cache(maxsize=512)
def _context(layers: Layers) -> Table:
    """Context parallelism of the attention layers."""
    attention = sum(n for kind, n in layers if kind.mixer == "attention")

    def table(p: Problem, tp: int, cp: int) -> int:
        def time(size: int) -> int:
            x = Layout(tp=tp, cp=cp, micro_batch_size=size)
            a = Remembering()
            return int((exposed_context_ns(a, p, x) + ring_ns(a, p, x)) * attention)

        return 0 if cp == 1 or not attention else _slope(p, time, tp * cp)

    return table


def _experts_time(p: Problem, etp: int, ep: int, layers: Layers) -> Callable[[int], int]:
    """Routed experts, dispatch and combine, as if the residual stream were split: the fewest rows that there can be."""
    routed = sum(n for kind, n in layers if kind.feedforward == "moe")

    def time(size: int) -> int:
        a, x = Remembering(), Layout(etp=etp, ep=ep, micro_batch_size=size)
        return int((experts_ns(a, p, x) + exposed_experts_ns(a, p, x)) * routed)

    return time


@lru_cache(maxsize=512)
def _experts(layers: Layers) -> Table:
    """Experts by their degrees."""
    return lambda p, etp, ep: _slope(p, _experts_time(p, etp, ep, layers), 1)


@lru_cache(maxsize=512)
def _experts_each(layers: Layers) -> Table:
    """What they take in each micro-batch, recompute or not."""
    return lambda p, etp, ep: _each(p, _experts_time(p, etp, ep, layers))


def _gradients(p: Problem, elements: int, parts: int, ps_per_kib: int) -> int:
    exposed = float(rates_of(p).exposed_dp) * (gradient_bytes(p) + parameter_bytes(p)) / KIB
    return math.floor(elements / parts * ps_per_kib * exposed / PS_PER_NS)


def _dense_gradients(p: Problem, tp: int, pp: int) -> int:
    elements = sum(sum(layer_sizes(p.model, kind)) * n for kind, n in _layers(p))
    return _gradients(p, elements, tp * pp, dense_data_ring(p, tp, pp)) if p.gpus % (tp * pp) == 0 else 0


def _expert_gradients(p: Problem, ranks: int, pp: int) -> int:
    layers = sum(n for kind, n in _layers(p) if kind.feedforward == "moe")
    if p.gpus % (ranks * pp):
        return 0
    ring = expert_data_ring(p, ranks, pp)
    return _gradients(p, all_experts(p.model) * layers, ranks * pp, ring)
