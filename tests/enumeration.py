"""Brute force: every layout of a small problem, judged by ``holds`` and the formulas alone. Knows nothing of CP-SAT.

Slow on purpose and simple on purpose: it is the second opinion that the solver is held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from constraints.batch_choice import chosen_microbatches
from constraints.layout import Layout
from constraints.partition.search import best_partition
from constraints.pipeline.placement import place
from constraints.problem import MICRO_BATCH_SIZES, Problem
from constraints.refutation.space import divisors, virtual_stages
from constraints.registry import enforced_rules
from solver.objectives import OBJECTIVES
from solver.tie_breaks import tie_break_key


def candidates(problem: Problem) -> Iterator[Layout]:
    """Every layout whose meshes cover the GPUs, legal or not."""
    gpus, model, batch = problem.gpus, problem.model, problem.global_batch_size
    group = problem.settings.microbatch_group_size_per_vp_stage
    for pp in divisors(gpus):
        stage = gpus // pp
        for vpp in virtual_stages(problem, pp, range(1, model.num_layers + 1)) if pp <= model.num_layers else []:
            placed = place(model, pp, vpp)
            if placed is None:
                continue
            counted = problem.counted(pp * vpp)
            experts = (
                [(etp, ep) for etp in divisors(stage) for ep in divisors(stage // etp)] if model.is_moe else [(1, 1)]
            )
            for tp in divisors(stage):
                for cp, mbs, sp in product(divisors(stage // tp), MICRO_BATCH_SIZES, (False, True)):
                    dp = stage // (tp * cp)
                    multiple = (group or pp) if vpp > 1 else 1
                    if batch is None:
                        count = chosen_microbatches(problem.target_sequences, dp, mbs, multiple)
                        total = count * mbs * dp
                    else:
                        count, total = batch // (mbs * dp), batch
                    for (etp, ep), recompute in product(experts, (*problem.recompute_options, *counted)):
                        yield Layout(
                            tp=tp,
                            pp=pp,
                            vpp=vpp if vpp > 1 else None,
                            cp=cp,
                            ep=ep,
                            etp=etp,
                            dp=dp,
                            edp=stage // (etp * ep),
                            sequence_parallel=sp,
                            micro_batch_size=mbs,
                            num_microbatches=count,
                            global_batch_size=total,
                            gpus=gpus,
                            split=placed[1],
                            recompute=recompute,
                            settings=problem.settings,
                        )


def legal(problem: Problem) -> Iterator[Layout]:
    """Every layout that all enforced rules accept, its layers where the objective likes them best.

    That no other partition of them is better is for ``tests/partition`` to show.
    """
    rules = enforced_rules(problem)
    fits = False
    for layout in sorted(candidates(problem), key=lambda x: x.recompute.first > 0):
        if layout.recompute.first and not fits:
            return  # block is weighed against something else
        if all(rule.holds(problem, layout) for rule in rules if rule.id != "memory.capacity"):
            found = best_partition(problem, layout)
            if found is not None:
                placed = replace(layout, split=found.split)
                assert all(rule.holds(problem, placed) for rule in rules if "pp" in rule.scope), placed
                fits = True
                yield placed


def best(problem: Problem) -> Layout | None:
    """The layout that the objective and then the tie-breaks put first, or ``None`` if none is legal."""
    measure = OBJECTIVES[problem.objective].measure
    return min(
        legal(problem),
        key=lambda layout: (measure(problem, layout), tie_break_key(problem, layout)),
        default=None,
    )
