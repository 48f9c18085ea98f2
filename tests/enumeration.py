"""Brute force: every layout of a small problem, judged by ``holds`` and the formulas alone. Knows nothing of CP-SAT.

Simple on purpose: it is the second opinion that the solver is held against. What it does not look at closely it leaves out
because the state of the layers alone is more than a GPU holds (:func:`state_fits`), because the degrees are worse than a
layout that was found, even without recompute and with memory without end (:func:`floor`), or because it would hold more than
that layout where memory is what counts. ``tests/test_enumeration.py`` holds this against looking at everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, product

from constraints.arithmetic import Remembering, ceil_div
from constraints.batch_choice import chosen_microbatches
from constraints.layout import NO_RECOMPUTE, Layout, Recompute
from constraints.memory.budget import CAPACITY, capacity_bound
from constraints.memory.overhead import high_bytes
from constraints.memory.stage import layer_bytes
from constraints.partition.fitting import some_partition
from constraints.partition.search import best_partition
from constraints.pipeline.placement import place
from constraints.problem import MICRO_BATCH_SIZES, Problem
from constraints.refutation.space import divisors, virtual_stages
from constraints.registry import enforced_rules
from solver.objectives import OBJECTIVES
from solver.tie_breaks import tie_break_key

Value = tuple[int, tuple[int, ...]]
"""What layouts are compared by, smaller being better: the measure of the objective, then the tie-breaks."""
Options = Callable[[int], tuple[Recompute, ...]]
"""What may be recomputed on a pipeline of so many chunks."""


def plain_and_counted(problem: Problem) -> tuple[Options, ...]:
    """All that may be recomputed; block apart, as it is weighed only where something else is legal, or where it is asked for.

    Where recompute by count is not weighed, groups are there only if nothing else is legal.
    """

    def plain(_chunks: int) -> tuple[Recompute, ...]:
        return problem.recompute_options

    def plain_or_groups(chunks: int) -> tuple[Recompute, ...]:
        return (*plain(chunks), *(option for option in problem.counted(chunks) if not option.first))

    def blocks(chunks: int) -> tuple[Recompute, ...]:
        return tuple(option for option in problem.counted(chunks) if option.first)

    if problem.weighs_counts:
        return plain_or_groups, blocks
    some = any(fits_somewhere(problem, layout) for layout in Rules(problem).accepted(plain))
    return (plain if some else plain_or_groups,)


def families(problem: Problem, options: Options) -> Iterator[list[Layout]]:
    """Every layout whose meshes cover the GPUs, legal or not; those together that are alike but for what they recompute."""
    gpus, model, batch = problem.gpus, problem.model, problem.global_batch_size
    group = problem.settings.microbatch_group_size_per_vp_stage
    for pp in divisors(gpus):
        stage = gpus // pp
        for vpp in virtual_stages(problem, pp, range(1, model.num_layers + 1)) if pp <= model.num_layers else []:
            placed = place(model, pp, vpp)
            if placed is None:
                continue
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
                    for etp, ep in experts:
                        alike = partial(
                            Layout,
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
                            settings=problem.settings,
                        )
                        yield [alike(recompute=option) for option in options(pp * vpp)]


def candidates(problem: Problem) -> Iterator[Layout]:
    """Every layout whose meshes cover the GPUs, legal or not, those that recompute a block last."""
    for options in plain_and_counted(problem):
        yield from chain.from_iterable(families(problem, options))


class Rules:
    """What ``solve`` insists on."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.all = problem, enforced_rules(problem)
        self._asked = [rule for rule in self.all if rule.id != CAPACITY]

    def accept(self, layout: Layout) -> bool:
        """Whether every rule but memory's does, wherever the layers go. The one that said no last is asked first, as it
        mostly says so again."""
        for i, rule in enumerate(self._asked):
            if not rule.holds(self.problem, layout):
                self._asked.insert(0, self._asked.pop(i))
                return False
        return True

    def accepted(self, options: Options) -> Iterator[Layout]:
        """The layouts that they accept, and of which the state fits."""
        for family in families(self.problem, options):
            legal = [layout for layout in family if self.accept(layout)]
            if legal and state_fits(self.problem, legal[0]):
                yield from legal

    def placed(self, layout: Layout) -> Layout | None:
        """``layout`` with its layers where the objective likes them best, ``None`` if they fit nowhere.

        That no other partition of them is better is for ``tests/partition`` to show.
        """
        found = best_partition(self.problem, layout) if fits_somewhere(self.problem, layout) else None
        if found is None:
            return None
        placed = replace(layout, split=found.split)
        assert all(rule.holds(self.problem, placed) for rule in self.all if "pp" in rule.scope), placed
        return placed


def fits_somewhere(problem: Problem, layout: Layout) -> bool:
    """Whether some partition of the layers fits: known sooner than the best one."""
    return some_partition(problem, layout) is not None


def fullest_state(problem: Problem, layout: Layout) -> int:
    """100 times the bytes, estimated high, that the fullest rank holds at least: of ``pp`` ranks one has as many layers as
    the mean or more, each with its weights, gradients and optimizer state."""
    a, model = Remembering(), problem.model
    each = min(sum(layer_bytes(a, problem, layout, kind).values()) for kind in {*model.layer_kinds})
    held: int = high_bytes(a, problem, layout, ceil_div(model.num_layers, layout.pp) * each)
    return held


def state_fits(problem: Problem, layout: Layout) -> bool:
    """False if no GPU has room for what the layers store, whatever is recomputed and wherever they go."""
    return problem.allow_borderline or fullest_state(problem, layout) <= capacity_bound(problem)


def legal(problem: Problem) -> Iterator[Layout]:
    """Every layout that all enforced rules accept, its layers where the objective likes them best."""
    rules, found = Rules(problem), False
    for options in plain_and_counted(problem):
        for layout in rules.accepted(options):
            placed = rules.placed(layout)
            if placed is not None:
                found = True
                yield placed
        if not found and not problem.counts_asked:
            return


def value_of(problem: Problem, layout: Layout) -> Value:
    return OBJECTIVES[problem.objective].measure(problem, layout), tie_break_key(problem, layout)


def floor(problem: Problem, layout: Layout) -> int:
    """What the objective comes to at least on the degrees, whatever is recomputed and wherever the layers go.

    To compute again takes time and adds to what is sent, never the reverse: without it, and where memory has no end, the
    best partition is as good as any. Of memory it is the state alone.
    """
    if problem.objective == "data-parallel":
        return -layout.dp
    if problem.objective == "memory":
        return fullest_state(problem, layout)
    at_best = replace(layout, recompute=NO_RECOMPUTE)
    found = best_partition(problem, at_best, fitting=False)
    assert found is not None, layout
    return OBJECTIVES[problem.objective].measure(problem, replace(at_best, split=found.split))


class Floors:
    """The floor of each set of degrees, looked for once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._found: dict[tuple[object, ...], int] = {}

    def of(self, x: Layout) -> int:
        key = x.tp, x.pp, x.vpp, x.cp, x.ep, x.etp, x.sequence_parallel, x.micro_batch_size
        if key not in self._found:
            self._found[key] = floor(self.problem, x)
        return self._found[key]

    def may_beat(self, layout: Layout, first: Value) -> bool:
        """False if no partition of the layers makes ``layout`` better than what is worth ``first``; where memory is what
        counts, as none fits on a GPU that has no more than that."""
        least = self.of(layout), tie_break_key(self.problem, layout)
        if self.problem.objective != "memory" or least >= first:
            return least < first
        no_more = replace(self.problem, budget_bytes=ceil_div(first[0], 100), allow_borderline=False)
        return fits_somewhere(no_more, layout)


def best(problem: Problem) -> Layout | None:
    """The layout that the objective and then the tie-breaks put first, or ``None`` if none is legal."""
    rules, floors = Rules(problem), Floors(problem)
    first: tuple[Value, Layout] | None = None
    for options in plain_and_counted(problem):
        layouts = list(rules.accepted(options))
        if first is None and not any(fits_somewhere(problem, layout) for layout in layouts):
            if problem.counts_asked:
                continue
            return None
        for layout in sorted(layouts, key=floors.of):
            placed = rules.placed(layout) if first is None or floors.may_beat(layout, first[0]) else None
            if placed is not None:
                value = value_of(problem, placed)
                assert value[0] >= floors.of(layout), placed
                if first is None or value < first[0]:
                    first = value, placed
    return None if first is None else first[1]
