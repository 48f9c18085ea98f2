"""What "best" means, as lexicographic tiers of integer expressions, down to one answer.

The first tier is the objective; the next ones are the agreed tie-breaks: less recompute, smaller tp, pp, cp, vpp and
etp, larger ep, larger micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from constraints.arithmetic import Integers
from constraints.layout import Layout
from constraints.memory.budget import layout_stages
from constraints.problem import Problem
from constraints.timing.communication import communication_ns
from solver.model import Model

__all__ = ["OBJECTIVES", "TIE_BREAKS", "Objective", "layout_communication_ns", "tie_break_key"]

TIE_BREAKS = (
    ("tp", 1),
    ("pp", 1),
    ("cp", 1),
    ("vpp", 1),
    ("etp", 1),
    ("ep", -1),
    ("micro_batch_size", -1),
)
"""After "less recompute": (decision, sign); +1 prefers small, -1 large."""


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


def _post_communication(model: Model) -> Any:
    a, x, problem = model.arithmetic, model.x, model.problem
    times = model.on_slowest(lambda stage: communication_ns(a, problem, x, stage))
    highest = max((time if isinstance(time, int) else time.high) for time, _ in times)
    slowest = a.range(0, highest, "communication_ns")
    for time, literal in times:
        model.at_most(time, slowest, when=literal)
    if problem.global_batch_size is not None:
        return slowest
    return a.floor_div(slowest, x.global_batch_size)


def _measure_communication(problem: Problem, layout: Layout) -> int:
    time = layout_communication_ns(problem, layout)
    if problem.global_batch_size is not None:
        return time
    return time // layout.global_batch_size


def _communication_unit(problem: Problem) -> str:
    return "seconds per step" if problem.global_batch_size is not None else "nanoseconds per token"


def _seconds(problem: Problem, layout: Layout) -> float:
    time = layout_communication_ns(problem, layout)
    if problem.global_batch_size is not None:
        return time / 1e9
    return time / (layout.global_batch_size * problem.seq_length)


OBJECTIVES = {
    "communication": Objective(
        "communication", _communication_unit, _post_communication, _measure_communication, _seconds
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
    a, x = model.arithmetic, model.x
    total: Any = 0
    digits: list[tuple[Any, int]] = [(_recompute_level(model), len(x.recompute.options))]
    for name, sign in TIE_BREAKS:
        quantity = getattr(x, name)
        values = a.values_of(quantity)
        digits.append((_place(model, quantity, values, sign), len(values)))
    for digit, size in digits:
        total = total * size + digit
    return total


def _recompute_level(model: Model) -> Any:
    level = model.arithmetic.choose(model.x.recompute, lambda option: model.x.recompute.options.index(option))
    return level


def _place(model: Model, quantity: Any, values: tuple[int, ...], sign: int) -> Any:
    """The index of ``quantity`` in its ordered values, counted from the preferred end."""
    if len(values) == 1:
        return 0
    ordered = values if sign > 0 else tuple(reversed(values))
    place = model.arithmetic.range(0, len(values) - 1, "place")
    rows = [(value, i) for i, value in enumerate(ordered)]
    model.cp.add_allowed_assignments([quantity.expression(), place.expression()], rows)
    return place


def tie_break_key(problem: Problem, layout: Layout) -> tuple[int, ...]:
    """The order that the tie-breaks mean, for plain layouts: smaller is better."""
    recompute = problem.recompute_options.index(layout.recompute)
    return (recompute, *(sign * (getattr(layout, name) or 1) for name, sign in TIE_BREAKS))
