"""Solutions of a model with their layers placed: degrees on which no partition of them fits are noted. Imports ortools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.registry import enforced_rules
from solver.completion import placed, placed_somewhere
from solver.model import Model, count_of

__all__ = ["DEGREES", "DISTINCT", "differs", "forbid", "placed_solution", "recomputing_more", "with_other_chunks"]

DISTINCT = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size")
"""Two layouts in which none of these differs, nor what is recomputed, are one to a person who asks for several."""
DEGREES = (*DISTINCT, "sequence_parallel")
FOLLOWING = ("dp", "edp", "num_microbatches")
"""What follows from the degrees, unless the rules that say so are left out."""


def placed_solution(
    model: Model, solve: Callable[[], Callable[[Any], int] | None], *, fitting: bool = True
) -> Layout | None:
    """The first of the solutions that ``solve`` finds in turn whose layers can be placed, somewhere; ``None`` when there are
    no more.

    ``solve`` gives what reads a value of the solution. Without ``fitting`` memory is not asked about. Degrees that are left
    are forbidden in the model, as far as the rule of memory is in force.
    """
    while (value := solve()) is not None:
        layout = model.layout(value)
        asked = _on(model, layout)
        found = placed_somewhere(asked, layout, fitting=fitting)
        if found is not None:
            return found
        if not fitting or placed_somewhere(asked, layout, fitting=False) is None:
            return layout  # no form says where its layers go, which rules may forgive
        forbid(model, layout)
    return None


def forbid(model: Model, layout: Layout) -> None:
    """Note that no partition of the layers fits the degrees of ``layout``, nor those with other virtual stages that do not
    fit either: where one is too full, its like mostly are, and each would be another search."""
    asked = _on(model, layout)
    full = {layout.vpp or 1} | {x.vpp for x in _likes(model, layout) if x.vpp and placed_somewhere(asked, x) is None}
    unless = [model.literals[CAPACITY].negated()] if model.explain else []
    decisions = (*DEGREES, *FOLLOWING) if model.explain else DEGREES
    model.cp.add_bool_or([*unless, *differs(model, layout, decisions, vpps=full)])
    model.refine(layout.pp)


def recomputing_more(model: Model, layout: Layout, objective: str) -> Layout | None:
    """``layout``, which fits nowhere, with the first recompute that makes it fit, its layers placed; ``None`` if none does.

    What does not fit either is noted. Recompute by count has a search of its own.
    """
    options = model.x.recompute.options
    if layout.recompute not in options:
        return None
    rules = [rule for rule in enforced_rules(model.problem) if "recompute" in rule.scope and rule.id != CAPACITY]
    for option in options[options.index(layout.recompute) + 1 :]:
        more = replace(layout, recompute=option)
        if all(rule.holds(model.problem, more) for rule in rules):
            found = placed(model.problem, more, objective)
            if found is not None:
                return found
            forbid(model, more)
    return None


def with_other_chunks(model: Model, layout: Layout, objective: str) -> list[Layout]:
    """Interleaved layouts like ``layout`` but for their virtual stages, their layers placed; those that fit."""
    found = (placed(model.problem, x, objective) for x in _likes(model, layout))
    return [x for x in found if x is not None]


def _on(model: Model, layout: Layout) -> Problem:
    """The problem on as many GPUs as ``layout`` uses: a model may have the count as a decision."""
    return model.problem if layout.gpus == model.problem.gpus else replace(model.problem, gpus=layout.gpus)


def _likes(model: Model, layout: Layout) -> list[Layout]:
    """``layout`` with each other number of virtual stages that rules leave; none without interleaving, whose micro-batches
    may differ."""
    if layout.vpp is None:
        return []
    left = model.arithmetic.values_of(model.x.vpp)
    others = {shape.vpp for shape, _ in model.shapes if shape.pp == layout.pp and shape.vpp} - {layout.vpp}
    found = [replace(layout, vpp=vpp) for vpp in left if vpp in others]
    if not layout.recompute.by_chunk:
        return found
    return [x for x in found if x.recompute in model.problem.counted(x.pp * x.chunks_per_rank)]


def differs(
    model: Model,
    layout: Layout,
    decisions: tuple[str, ...] = DEGREES,
    cp: cp_model.CpModel | None = None,
    vpps: Iterable[int] | None = None,
) -> list[Any]:
    """Literals of which one is true wherever one of ``decisions``, or what is recomputed, is not as in ``layout``.

    They are made in ``cp``, a clone of the model's, or in the model itself. ``vpps`` stand all for the layout's.
    """
    cp = cp or model.cp
    different = []
    counted = (count_of(layout.recompute),) if layout.recompute.by_chunk else ()
    for name in (*decisions, *counted):
        value = int(getattr(layout, name) or (name == "vpp"))  # vpp 1 is no interleaving
        values = sorted(vpps) if name == "vpp" and vpps is not None else [value]
        literal = cp.new_bool_var(f"other[{name}]")
        others = cp_model.Domain.from_values(values).complement()
        cp.add_linear_expression_in_domain(getattr(model.x, name).expression(), others).only_enforce_if(literal)
        different.append(literal)
    if counted:
        return different
    options, literals = model.x.recompute.options, model.x.recompute.literals
    return [*different, literals[options.index(layout.recompute)].negated()]
