"""Rules put to a whole box at once, by bounds: sound for every completion, at times too weak to say anything.

What a rule posts to the solver is evaluated on ranges. Where even the least that a quantity can be is too much, the rule
fails on every completion of the box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from constraints.batch_choice import chosen_microbatches
from constraints.layout import GROUPS, WHOLE_LAYERS, Layout, Recompute
from constraints.memory.activations import stage_input_bytes
from constraints.memory.budget import CAPACITY
from constraints.partition.bounds import Forms, Pipelines
from constraints.partition.fitting import some_partition
from constraints.partition.search import may_idle
from constraints.refutation.partial import Box, Partial, Space, TooMany, fails_everywhere, in_groups
from constraints.refutation.ranges import Choice, Decided, Range, Ranges, Unbounded, high, low, of
from constraints.rule import Rule

__all__ = ["DEAR", "BoxBuilder", "excludes", "holds_at_the_end", "of_all_groups", "point_at_the_end"]

MOST_ASKED = 400
"""Questions to a rule before bounds are tried instead."""
MOST_OF_A_DEAR_RULE = 8
"""Completions that a dear rule is asked about one by one."""
BLOCK_SAVES = 200
"""Hundredths of a layer's input by which a block, estimated high, may hold less than every layer by itself: an input itself,
and what is estimated above it."""
DEAR = 7
"""A rule that reads so many decisions is dear to ask (the memory rule reads them all)."""


def excludes(rule: Rule, space: Space, box: Box) -> bool:
    """True if ``rule`` is shown to hold on no completion of ``box``; false says nothing."""
    if rule.id == CAPACITY:
        return _holds_too_much(rule, space, box)
    dear = len(rule.scope) >= DEAR
    if not dear or math.prod(map(len, box.values())) <= MOST_OF_A_DEAR_RULE:
        try:
            return fails_everywhere(rule, space, box, MOST_ASKED)
        except TooMany:
            pass
    return _excluded_by_bounds(rule, space, box)


def _excluded_by_bounds(rule: Rule, space: Space, box: Box) -> bool:
    builder = BoxBuilder(space, box)
    try:
        rule.post(builder, space.problem)
    except Unbounded:
        return False
    return builder.excluded


def _holds_too_much(rule: Rule, space: Space, box: Box) -> bool:
    """The rule of memory is about all partitions of the layers: by counting, or, all else decided, by the best of them; and
    about groups of layers, which recompute of every layer stands for."""
    decided = all(len(values) == 1 for values in box.values())
    layout = space.layout({name: values[0] for name, values in box.items()}) if decided else None
    rest = space.without_groups(box)
    if rest is not None and not _excluded_by_bounds(rule, space, rest) and (layout is None or _fits(space, layout)):
        return False

    def excluded(builder: BoxBuilder) -> bool:
        rule.post(builder, space.problem)
        return builder.excluded

    def excluded_of(size: int) -> bool:
        return layout is not None and some_partition(space.problem, in_groups(layout, size)) is None

    return of_all_groups(space, box, excluded, excluded_of)


def _fits(space: Space, layout: Layout) -> bool:
    """Whether some partition of the layers fits, of a layout that ``layout`` stands for."""
    return any(some_partition(space.problem, one) is not None for one in space.stood_for(layout))


def of_all_groups(
    space: Space, box: Box, bounded: Callable[[BoxBuilder], bool], exact: Callable[[int], bool] = lambda size: False
) -> bool:
    """True if it is ``bounded``, or ``exact``, for groups of every size that ``box`` stands for.

    Bounds are tried on all sizes together, and on fewer where that says nothing.
    """

    def shown(sizes: range) -> bool:
        if bounded(BoxBuilder(space, inner, sizes)):
            return True
        if len(sizes) == 1:
            return exact(sizes[0])
        half = len(sizes) // 2
        return shown(sizes[:half]) and shown(sizes[half:])

    sizes, inner = space.group_sizes(box), space.narrowed(box, "recompute", space.whole)
    try:
        return not sizes or shown(sizes)
    except Unbounded:
        return False


def holds_at_the_end(rule: Rule, space: Space, box: Box) -> bool:
    """Whether the rule holds where every decision is at its largest and nothing is interleaved: a bound that says
    otherwise would be wrong."""
    taken = point_at_the_end(space, box)
    if taken is None or rule.id != CAPACITY:
        return taken is not None and Partial(space, taken).kept_by(rule)
    layout, sizes = space.layout(taken), space.group_sizes_at(taken)
    likeliest = [in_groups(layout, size) for size in sizes if size == math.isqrt(len(sizes)) + 1]
    return _fits(space, layout) or any(some_partition(space.problem, some) is not None for some in likeliest)


def point_at_the_end(space: Space, box: Box) -> dict[str, int] | None:
    """The largest value of every decision, nothing interleaved; ``None`` if the space has no such layout."""
    taken = {name: values[-1] for name, values in box.items()} | {"vpp": box["vpp"][0]}
    return taken if taken["vpp"] in space.stages(taken["pp"]) else None


class BoxBuilder:
    """``constraints.rule.Builder`` for a box; ``excluded`` is true once something posted cannot be true in it.

    A condition is true, false or (open) ``None``; only what a true condition asks for can exclude. With ``groups`` it is
    about uniform recompute in groups of one of these sizes.
    """

    def __init__(self, space: Space, box: Box, groups: range = range(0)) -> None:
        self.space, self.box, self.groups = space, box, groups
        self.arithmetic = Ranges(space.known)
        self.excluded = False
        self.x: Any = Decided(self._decisions())
        self.arithmetic.x = self.x

    def _decisions(self) -> dict[str, Any]:
        a, box, problem = self.arithmetic, self.box, self.space.problem
        x: dict[str, Any] = {name: of(values) for name, values in box.items() if name != "recompute"}
        # A block holds no less than every layer by itself, but for an input (:data:`BLOCK_SAVES`); time is not asked of it.
        options = tuple(
            WHOLE_LAYERS if self.space.options[i].first else self.space.options[i] for i in box["recompute"]
        )
        x["recompute"] = options[0] if len(options) == 1 else Choice(options)
        x["recompute_layers"], x["recompute_group"] = 0, 1
        if self.groups:
            x["recompute"] = GROUPS
            x["recompute_group"] = Range(self.groups[0], self.groups[-1], tuple(self.groups))
        x["stage_gpus"] = a.mul(a.mul(x["tp"], x["cp"]), x["dp"])
        x["sequence_shards"] = of(tp if sp else 1 for tp in box["tp"] for sp in box["sequence_parallel"])
        if problem.global_batch_size is not None:
            return x | {"global_batch_size": problem.global_batch_size, "batch_unit": None}
        group = problem.settings.microbatch_group_size_per_vp_stage
        multiples = {1} if 1 in box["vpp"] or 1 in box["pp"] else set()
        if any(v > 1 for v in box["vpp"]):
            multiples |= {group or pp for pp in box["pp"] if pp > 1}
        units = {dp * mbs for dp in box["dp"] for mbs in box["micro_batch_size"]}
        counts = {chosen_microbatches(problem.target_sequences, u, 1, k) for u in units for k in multiples}
        x["num_microbatches"] = of(counts)
        x["global_batch_size"] = a.mul(a.mul(x["dp"], x["micro_batch_size"]), x["num_microbatches"])
        x["batch_unit"] = a.mul(of(units), of(multiples))
        return x

    def _require(self, possible: bool, when: bool | None = True) -> None:
        if when is True and not possible:
            self.excluded = True

    def forbid(self) -> None:
        self._require(False)

    def allow(self, decision: str, predicate: Callable[[int], bool]) -> None:
        quantity = getattr(self.x, decision)
        values = (quantity,) if isinstance(quantity, int) else quantity.values
        if values is not None:
            self._require(any(predicate(value) for value in values))

    def allow_shapes(self, predicate: Callable[[Any], bool]) -> None:
        self._require(any(predicate(shape) for shape in self._shapes()))

    def _shapes(self) -> Iterable[Any]:
        for pp in self.box["pp"]:
            for vpp in self.box["vpp"]:
                if vpp in self.space.stages(pp):
                    yield Partial(self.space, {"pp": pp, "vpp": vpp})

    def allow_recompute(self, predicate: Callable[[Recompute], bool]) -> None:
        chosen = self.x.recompute
        self._require(any(map(predicate, chosen.options if isinstance(chosen, Choice) else (chosen,))))

    def equal(self, a: Any, b: Any, when: bool | None = True) -> None:
        meet = low(a) <= high(b) and low(b) <= high(a)
        for one, other in ((a, b), (b, a)):
            if isinstance(other, int) and isinstance(one, Range) and one.values is not None:
                meet = meet and other in one.values
        self._require(meet, when)

    def at_most(self, a: Any, b: Any, when: bool | None = True) -> None:
        self._require(low(a) <= high(b), when)

    def divides(self, divisor: Any, dividend: Any, when: bool | None = True) -> None:
        if isinstance(divisor, int) and isinstance(dividend, int):
            self._require(dividend % divisor == 0, when)

    def remainder(self, dividend: Any, divisor: Any) -> Any:
        if isinstance(dividend, int) and isinstance(divisor, int):
            return dividend % divisor
        return Range(0, max(0, high(divisor) - 1))

    def above_one(self, decision: str) -> bool | None:
        return self._all(value > 1 for value in self.box[decision])

    def is_true(self, decision: str) -> bool | None:
        return self._all(bool(value) for value in self.box[decision])

    @property
    def interleaved(self) -> bool | None:
        return self._all(value > 1 for value in self.box["vpp"])

    def _all(self, truths: Iterable[bool]) -> bool | None:
        seen = set(truths)
        return seen.pop() if len(seen) == 1 else None

    def at_most_held(self, formulas: Callable[[Any], Iterable[Any]], bound: int) -> None:
        """Excluded if no partition of the layers keeps all ranks within ``bound``, by counting."""
        if len(self.box["pp"]) != 1:
            return
        if any(self.space.options[option].first for option in self.box["recompute"]):
            bound += high(stage_input_bytes(self.arithmetic, self.space.problem, self.x)) * BLOCK_SAVES
        forms = self.forms(1, formulas, alive=True)
        self._require(forms.may_keep_within(self.pipelines(self.box["vpp"]), bound))

    def forms(self, vpp: int, formulas: Callable[[Any], Iterable[Any]], *, alive: bool) -> Forms:
        """The least that ``formulas`` come to for ranks of ``vpp`` chunks, as forms in the layers that a rank holds."""
        problem = self.space.problem
        idle = may_idle(problem, self.box["pp"][-1])
        group = max(self.groups, default=1)
        return Forms(
            problem.model, vpp, lambda rank: [low(q) for q in formulas(rank)], alive=alive, idle=idle, group=group
        )

    def pipelines(self, vpps: tuple[int, ...]) -> Pipelines:
        """The pipelines of a box in which ``pp`` is decided."""
        (pp,) = self.box["pp"]
        group = self.space.problem.settings.microbatch_group(pp)
        return Pipelines(pp, vpps, group, max(1, low(self.x.num_microbatches)))
