"""Layouts as the solver's variables can take them, and whether its model admits one: the other half of the rule test."""

from __future__ import annotations

from random import Random
from typing import Any

from ortools.sat.python import cp_model

from constraints.batch_choice import chosen_microbatches
from constraints.layout import Layout
from solver.model import Model, count_of
from solver.search import new_solver, run

__all__ = ["admits", "layout_of_variables"]

DEGREES = ("tp", "pp", "cp", "ep", "etp", "dp", "edp", "micro_batch_size")


def layout_of_variables(rng: Random, model: Model) -> Layout | None:
    """Any values of the decisions that the model knows, half of the time on meshes that cover the GPUs.

    ``None`` if there is no pipeline shape.
    """
    if not model.shapes:
        return None
    problem, x, values_of = model.problem, model.x, model.arithmetic.values_of
    shape, _ = rng.choice(model.shapes)
    drawn = {name: rng.choice(values_of(getattr(x, name))) for name in DEGREES if name != "pp"} | {"pp": shape.pp}
    if rng.random() < 0.5 and problem.gpus % shape.pp == 0:
        drawn |= _covering(rng, problem.gpus // shape.pp, {n: set(values_of(getattr(x, n))) for n in DEGREES})
    if problem.global_batch_size is not None:
        batch = problem.global_batch_size
        counts = values_of(x.num_microbatches)
        fitting = [m for m in counts if m * drawn["dp"] * drawn["micro_batch_size"] == batch]
        if not counts:
            return None
        count = rng.choice(fitting if fitting and rng.random() < 0.7 else counts)
    else:
        group = problem.settings.microbatch_group_size_per_vp_stage or shape.pp
        multiple = group if shape.vpp is not None and shape.pp > 1 else 1
        count = chosen_microbatches(problem.target_sequences, drawn["dp"], drawn["micro_batch_size"], multiple)
        batch = count * drawn["dp"] * drawn["micro_batch_size"]
    return Layout(
        **drawn,
        vpp=shape.vpp,
        sequence_parallel=bool(rng.choice(values_of(x.sequence_parallel))),
        num_microbatches=count,
        global_batch_size=batch,
        gpus=problem.gpus,
        split=shape.split,
        recompute=rng.choice(problem.recompute_options),
        settings=problem.settings,
    )


def _covering(rng: Random, stage: int, domains: dict[str, set[int]]) -> dict[str, int]:
    """Degrees of both meshes that cover a stage, as far as the variables can take them."""
    out: dict[str, int] = {}
    for first, second, rest in (("tp", "cp", "dp"), ("etp", "ep", "edp")):
        a = rng.choice([d for d in sorted(domains[first]) if stage % d == 0])
        b = rng.choice([d for d in sorted(domains[second]) if stage // a % d == 0])
        if stage // a // b in domains[rest]:
            out |= {first: a, second: b, rest: stage // a // b}
    return out


def admits(model: Model, layout: Layout, *assumed: Any) -> bool:
    """True if the model has a solution with every decision as in ``layout`` and the literals ``assumed`` true."""
    fixed = model.cp.clone()
    for name in (*DEGREES, "sequence_parallel", "num_microbatches"):
        fixed.add(getattr(model.x, name).expression() == int(getattr(layout, name)))
    fixed.add(model.x.vpp.expression() == (layout.vpp or 1))
    if model.counted is not None:
        fixed.add(getattr(model.x, count_of(layout.recompute)).expression() == layout.recompute.num_layers)
    option = model.x.recompute.options.index(model.counted or layout.recompute)
    fixed.add_bool_and([model.x.recompute.literals[option], *assumed])
    solver = new_solver(60)
    status = run(fixed, solver)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE), solver.status_name(status)
    return status != cp_model.INFEASIBLE
