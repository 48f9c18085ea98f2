"""What "best" means, as lexicographic tiers of integer expressions, down to one answer.

The first tier is the objective; the next ones are the agreed tie-breaks: less recompute, smaller tp, pp, cp, vpp and
etp, larger ep, larger micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from constraints.arithmetic import Integers, ceil_div
from constraints.layout import Layout
from constraints.memory.budget import layout_stages
from constraints.memory.overhead import high_bytes
from constraints.memory.stage import allocated_bytes, peaks
from constraints.problem import GIB, Problem
from constraints.timing.communication import communication_ns, transfer
from constraints.timing.floor import mean_stage_ns, step_floors_ns
from constraints.timing.pipeline import PARTS, hop_weights
from constraints.timing.step import stage_step, step_time
from solver.model import Model, count_of
from solver.tie_breaks import TIE_BREAKS

__all__ = ["OBJECTIVES", "Objective", "layout_communication_ns", "post_tie_break", "tie_break_place"]


@dataclass(frozen=True)
class Objective:
    """``post`` gives the expression to minimise, ``measure`` the same for a layout, ``value`` what is printed."""

    name: str
    unit: Callable[[Problem], str]
    post: Callable[[Model], Any]
    measure: Callable[[Problem, Layout], int]
    value: Callable[[Problem, Layout], float | int]


def layout_communication_ns(problem: Problem, layout: Layout) -> int:
    """Nanoseconds per step in collectives and transfers on the slowest rank of a placed layout."""
    stages = layout_stages(problem, layout)
    assert stages is not None, "a layout that passed the rules places its layers"
    integers = Integers()
    slowest: int = max(communication_ns(integers, problem, layout, stage) for stage in stages)
    return slowest


def _largest(model: Model, times: list[tuple[Any, Any]], name: str, parts: int = 1) -> Any:
    """The largest of the quantities whose condition holds: a variable at least as large, and no larger at an optimum.

    The quantities are in ``1/parts`` of the variable's unit; it is rounded up.
    """
    highest = max((time if isinstance(time, int) else time.high) for time, _ in times)
    largest = model.arithmetic.range(0, ceil_div(max(0, highest), parts), name)
    for time, literal in times:
        model.at_most(time, largest * parts, when=literal)
    return largest


def _post_step_time(model: Model) -> Any:
    a, x, problem = model.arithmetic, model.x, model.problem
    between = _hops(model)
    times = [
        (time, when)
        for stage, when in (*model.placement.pacing(), *model.placement.in_step())
        for time in stage_step(a, problem, x, stage, x.vpp, between)
    ]
    step = _largest(model, times, "step_ns", PARTS)
    # Floors are implied, and known long before the layers are placed.
    model.at_most(mean_stage_ns(a, problem, x, x.vpp, between), step)
    compared = _per_step(model, step)
    kind, crowded = model.placement.crowd()
    for floor in step_floors_ns(a, problem, x, x.vpp, kind, crowded):
        model.at_most(floor, compared)
    return compared


def _hops(model: Model) -> Any:
    """64ths of a nanosecond for transfers on the critical path."""
    a, x = model.arithmetic, model.x
    hop = transfer(a, model.problem, x)
    weights = [hop_weights(s.pp, s.vpp or 1) if s.pp > 1 else (0, 0) for s, _ in model.shapes]
    table = dict(zip(((s.pp, s.vpp) for s, _ in model.shapes), weights, strict=True))
    once = model.by_shape(lambda shape: table.get((shape.pp, shape.vpp), (0, 0))[0])
    growing = model.by_shape(lambda shape: table.get((shape.pp, shape.vpp), (0, 0))[1])
    return a.mul(hop, once) + a.mul(a.mul(x.num_microbatches, hop), growing)


def _post_communication(model: Model) -> Any:
    a, x, problem = model.arithmetic, model.x, model.problem
    times = model.on_slowest(lambda stage: communication_ns(a, problem, x, stage))
    return _per_step(model, _largest(model, times, "communication_ns"))


def _per_step(model: Model, time: Any) -> Any:
    """Nanoseconds of a step, or, where the batch is free, of one sequence: what steps of different size compare by."""
    if model.problem.global_batch_size is not None:
        return time
    return model.arithmetic.floor_div(time, model.x.global_batch_size)


def layout_step_ns(problem: Problem, layout: Layout) -> int:
    """Nanoseconds of one optimizer step of a placed layout."""
    return step_time(problem, layout).step_ns


def _timed(name: str, post: Callable[[Model], Any], measure: Callable[[Problem, Layout], int]) -> Objective:
    """An objective in nanoseconds per step, compared and printed per token where the batch is free."""

    def compared(problem: Problem, layout: Layout) -> int:
        time = measure(problem, layout)
        return time if problem.global_batch_size is not None else time // layout.global_batch_size

    def printed(problem: Problem, layout: Layout) -> float:
        time = measure(problem, layout)
        if problem.global_batch_size is not None:
            return time / 1e9
        return time / (layout.global_batch_size * problem.seq_length)

    return Objective(name, _time_unit, post, compared, printed)


def _time_unit(problem: Problem) -> str:
    return "seconds per step" if problem.global_batch_size is not None else "nanoseconds per token"


def _post_memory(model: Model) -> Any:
    a, x, problem = model.arithmetic, model.x, model.problem
    formulas = [
        (high_bytes(a, problem, x, peak), literal)
        for stage, literal in model.placement.holding()
        for peak in peaks(a, problem, x, stage)
    ]
    return _largest(model, formulas, "fullest_bytes_100")


def _layout_memory(problem: Problem, layout: Layout) -> int:
    """100 times the high estimate of the fullest stage in bytes."""
    stages = layout_stages(problem, layout)
    assert stages is not None, "a layout that passed the rules places its layers"
    a = Integers()
    fullest: int = max(high_bytes(a, problem, layout, allocated_bytes(a, problem, layout, stage)) for stage in stages)
    return fullest


OBJECTIVES = {
    "step-time": _timed("step-time", _post_step_time, layout_step_ns),
    "communication": _timed("communication", _post_communication, layout_communication_ns),
    "memory": Objective(
        "memory",
        lambda problem: "GiB on the fullest GPU, estimated high",
        _post_memory,
        _layout_memory,
        lambda problem, layout: round(_layout_memory(problem, layout) / 100 / GIB, 3),
    ),
    "data-parallel": Objective(
        "data-parallel",
        lambda problem: "replicas",
        lambda model: model.x.dp * -1,
        lambda problem, layout: -layout.dp,
        lambda problem, layout: layout.dp,
    ),
}


def post_tie_break(model: Model) -> Any:
    """All tie-breaks as one number whose digits are the places of the decisions' values in their domains."""
    digits: list[tuple[Any, int]] = [(_recompute_level(model), len(model.x.recompute.options))]
    for name, ordered in _preferred(model):
        digits.append((_place(model, getattr(model.x, name), ordered), len(ordered)))
    return _number(digits)


def tie_break_place(model: Model, layout: Layout) -> int | None:
    """What :func:`post_tie_break` comes to for ``layout``; ``None`` if a decision of it is not in the model's domains."""
    options = model.x.recompute.options
    recompute = model.counted if model.counted and layout.recompute.by_chunk else layout.recompute
    digits: list[tuple[Any, int]] = []
    chosen = [
        (options, recompute),
        *((ordered, getattr(layout, name) or 1) for name, ordered in _preferred(model)),
    ]
    for ordered, value in chosen:
        if value not in ordered:
            return None
        digits.append((ordered.index(value), len(ordered)))
    place: int = _number(digits)
    return place


def _number(digits: list[tuple[Any, int]]) -> Any:
    """The number with these digits, each given with how many values it has."""
    total: Any = 0
    for digit, size in digits:
        total = total * size + digit
    return total


def _preferred(model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """The decisions of the tie-breaks, each with its values, preferred ones first."""
    ranked = ((count_of(model.counted), 1), *TIE_BREAKS) if model.counted else TIE_BREAKS
    values = [(name, sign, model.arithmetic.values_of(getattr(model.x, name))) for name, sign in ranked]
    return [(name, tuple(allowed[::sign])) for name, sign, allowed in values]


def _recompute_level(model: Model) -> Any:
    level = model.arithmetic.choose(model.x.recompute, lambda option: model.x.recompute.options.index(option))
    return level


def _place(model: Model, quantity: Any, ordered: tuple[int, ...]) -> Any:
    """The index of ``quantity`` in its values, counted from the preferred end."""
    if len(ordered) == 1:
        return 0
    place = model.arithmetic.range(0, len(ordered) - 1, "place")
    rows = [(value, i) for i, value in enumerate(ordered)]
    model.cp.add_allowed_assignments([quantity.expression(), place.expression()], rows)
    return place
