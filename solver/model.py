"""What CP-SAT sees: the only place where decisions are made into variables.

Decisions: ``tp pp vpp cp ep etp dp edp``, micro-batch size and count, sequence parallelism, what is recomputed, and the
pipeline shape. Rules post themselves through the :class:`Model` (it is the ``Builder`` of ``constraints.rule``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ortools.sat.python import cp_model

from constraints.batch_choice import chosen_microbatches
from constraints.layout import BLOCK, GROUPS, Layout, Recompute
from constraints.pins import Pin, PinCount
from constraints.problem import Problem
from constraints.refutation.space import DEGREES, values_of_decisions, virtual_stages
from constraints.rule import Rule
from constraints.stages import LayerOnEveryRank
from solver.arithmetic import Choice, CpSat, Linear
from solver.placement import Held, Placement
from solver.shapes import Shape, shapes_of

__all__ = ["Decisions", "Model", "count_of"]

Condition = Any


def count_of(recompute: Recompute) -> str:
    """The decision, a property of layouts too, that says how many layers a counted ``recompute`` is about."""
    return "recompute_layers" if recompute.first else "recompute_group"


@dataclass
class Decisions:
    """The variables, named as in :class:`~constraints.layout.Layout`; ``vpp`` 1 is "not interleaved"."""

    tp: Linear
    pp: Linear
    vpp: Linear
    cp: Linear
    ep: Linear
    etp: Linear
    dp: Linear
    edp: Linear
    micro_batch_size: Linear
    sequence_parallel: Linear
    recompute: Choice
    recompute_layers: Any = 0
    recompute_group: Any = 1
    num_microbatches: Any = None
    global_batch_size: Any = None
    batch_unit: Any = None
    stage_gpus: Any = None
    sequence_shards: Any = None


class Model:
    """A CP-SAT model of one problem. With ``explain`` each rule has a literal of its own, and domains are wider.

    Without ``interleaving`` (other than pinned) it is smaller, and what it finds is a layout all the same; that it finds
    none proves nothing. With ``counted`` (:data:`~constraints.layout.BLOCK`, :data:`~constraints.layout.GROUPS`) it is about
    that way of full recompute alone, whose count of layers is a decision; else about all that is recomputed without counting.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        explain: bool = False,
        interleaving: bool = True,
        counted: Recompute | None = None,
    ) -> None:
        self.problem = problem
        self.explain, self.counted = explain, counted
        self.cp = cp_model.CpModel()
        self.arithmetic = CpSat(self.cp)
        self.literals: dict[str, Any] = {}
        self._literal: Any = None
        self._conditions: dict[tuple[str, str], Any] = {}
        self._by_shape: dict[tuple[int, ...], Any] = {}
        self._domains = values_of_decisions(problem, wide=explain)
        if not interleaving:
            pinned = {pin.value or 1 for pin in problem.pins if isinstance(pin, Pin) and pin.decision == "vpp"}
            self._domains["vpp"] = sorted({1, *pinned})
        self.shapes: list[tuple[Shape, Any]] = []
        self.x = self._decide()
        self._choose_batch()
        self._choose_shape()
        self.placement = Placement(self)
        self._branch_on_degrees()
        self._held: list[tuple[Any, int, Any]] = []

    # -- decisions

    def _decide(self) -> Decisions:
        make = self.arithmetic.variable
        options = (self.counted,) if self.counted else self.problem.recompute_options
        literals = tuple(self.cp.new_bool_var(f"recompute[{option}]") for option in options)
        self.cp.add_exactly_one(literals)
        names = (*DEGREES, "vpp", "micro_batch_size", "sequence_parallel")
        x = Decisions(**{name: make(self._domains[name], name) for name in names}, recompute=Choice(options, literals))
        a, layers = self.arithmetic, self.problem.model.num_layers
        if self.counted == BLOCK:
            x.recompute_layers = make(self._looked_at(range(1, layers)), "recompute_num_layers")
        elif self.counted == GROUPS:
            x.recompute_group = make(self._looked_at(range(2, layers + 1)), "recompute_num_layers")
        x.stage_gpus = a.mul(a.mul(x.tp, x.cp), x.dp)
        # tp with sequence parallelism, else 1
        x.sequence_shards = a.mul(x.tp - 1, x.sequence_parallel) + 1
        return x

    def _looked_at(self, counts: range) -> list[int]:
        """The ``counts`` of layers that are looked at: the pinned one, where there is one."""
        pinned = {pin.value for pin in self.problem.pins if isinstance(pin, PinCount) and pin.what == "num_layers"}
        kept = [count for count in counts if self.explain or not pinned or count in pinned]
        return kept or list(counts)

    def _choose_batch(self) -> None:
        """The global batch: given, or the multiple of dp * micro-batch (interleaved: pp too) nearest to the target."""
        a, x, problem = self.arithmetic, self.x, self.problem
        group_given = problem.settings.microbatch_group_size_per_vp_stage
        self._interleaved = self.cp.new_bool_var("interleaved")
        single = self.cp.new_bool_var("single stage")  # virtual stages without a pipeline are no interleaving
        self.cp.add(x.vpp.expression() >= 2).only_enforce_if(self._interleaved)
        self.cp.add(x.pp.expression() >= 2).only_enforce_if(self._interleaved)
        self.cp.add(x.pp.expression() == 1).only_enforce_if(single)
        self.cp.add(x.vpp.expression() == 1).only_enforce_if([self._interleaved.negated(), single.negated()])
        if problem.global_batch_size is not None:
            x.global_batch_size = problem.global_batch_size
            x.num_microbatches = a.variable(self._domains["num_microbatches"], "num_microbatches")
            return
        multiple = a.range(1, max(self._domains["pp"][-1], group_given or 1), "microbatch_multiple")
        at_interleaving = x.pp.expression() if group_given is None else group_given
        self.cp.add(multiple.expression() == at_interleaving).only_enforce_if(self._interleaved)
        self.cp.add(multiple.expression() == 1).only_enforce_if(self._interleaved.negated())
        target = problem.target_sequences
        x.batch_unit = unit = a.mul(a.mul(x.dp, x.micro_batch_size), multiple)
        chosen = a.mul(a.maximum(1, a.floor_div(unit + 2 * target, unit * 2)), multiple)
        # The product's own bounds would be far too wide: the true counts are known, and the batch is near the target.
        counts = _microbatch_counts(problem, self._domains, self._domains["pp"], lawless=self.explain)
        x.num_microbatches = a.variable(counts, "num_microbatches")
        self.cp.add(x.num_microbatches.expression() == chosen.expression())
        x.global_batch_size = a.range(1, target + unit.high, "global_batch_size")
        batch = [a.mul(x.dp, x.micro_batch_size).expression(), x.num_microbatches.expression()]
        self.cp.add_multiplication_equality(x.global_batch_size.expression(), batch)

    def _choose_shape(self) -> None:
        x, problem = self.x, self.problem
        for pp in self._domains["pp"]:
            for vpp in virtual_stages(problem, pp, self._domains["vpp"]):
                for shape in shapes_of(problem, pp, vpp if vpp > 1 else None, illegal_too=self.explain):
                    literal = self.cp.new_bool_var(f"shape[{pp},{vpp}]")
                    self.cp.add(x.pp.expression() == pp).only_enforce_if(literal)
                    self.cp.add(x.vpp.expression() == vpp).only_enforce_if(literal)
                    self.shapes.append((shape, literal))
        self._all_shapes = list(self.shapes)
        self.cp.add_exactly_one(literal for _, literal in self.shapes)

    def _branch_on_degrees(self) -> None:
        """Where nothing better is known the search halves the domains of degrees: without being told so it is now and then
        lost among what follows from them."""
        for name in ("tp", "pp", "cp", "ep", "dp", "micro_batch_size", "vpp"):
            halved = cp_model.CHOOSE_FIRST, cp_model.SELECT_LOWER_HALF
            self.cp.add_decision_strategy([getattr(self.x, name).expression()], *halved)

    @property
    def every_rank_works(self) -> bool:
        """True if no rank may be without a layer."""
        return not self.explain and LayerOnEveryRank.id not in self.problem.relaxed

    def group_of(self, pp: Any) -> Any:
        """Micro-batches that go through one virtual stage at a time on ``pp`` ranks."""
        return self.problem.settings.microbatch_group(pp)

    def any_of(self, literals: list[Any], name: str) -> Condition:
        """The condition that one of ``literals`` is true."""
        if len(literals) == 1:
            return literals[0]
        within = self.cp.new_bool_var(name)
        self.cp.add_bool_or([within.negated(), *literals])
        for literal in literals:
            self.cp.add_implication(literal, within)
        return within

    def one_of(self, predicate: Callable[[Shape], bool]) -> Condition:
        """The condition that the shape chosen is one of those for which ``predicate`` is true."""
        return self.any_of([literal for shape, literal in self._all_shapes if predicate(shape)], "one of the shapes")

    def at_least(self, decision: str, least: int) -> Condition:
        """The condition "``decision`` is at least ``least``"."""
        return self._condition(f"at least {least}", decision, least)

    def positive(self, quantity: Any, name: str) -> Condition:
        """The condition "``quantity`` is above 0"."""
        key = ("positive", quantity.key)
        if key not in self._conditions:
            literal = self.cp.new_bool_var(f"positive[{name}]")
            self.cp.add(quantity.expression() >= 1).only_enforce_if(literal)
            self.cp.add(quantity.expression() <= 0).only_enforce_if(literal.negated())
            self._conditions[key] = literal
        return self._conditions[key]

    def by_shape(self, value: Callable[[Any], int]) -> Any:
        """``value(shape)`` of the shape that is chosen."""
        values = [value(shape) for shape, _ in self._all_shapes]
        if len(set(values)) == 1:
            return values[0]
        if tuple(values) not in self._by_shape:
            out = self._by_shape[tuple(values)] = self.arithmetic.variable(values, "by shape")
            literals = [literal for _, literal in self._all_shapes]
            self.cp.add(cp_model.LinearExpr.weighted_sum(literals, values) == out.expression())
        return self._by_shape[tuple(values)]

    # -- what rules say (constraints.rule.Builder)

    def post(self, rules: Iterable[Rule]) -> None:
        """Let every rule post itself, under its literal when explaining."""
        for rule in rules:
            if self.explain:
                self._literal = self.literals.setdefault(rule.id, self.cp.new_bool_var(rule.id))
            rule.post(self, self.problem)
            self._literal = None

    def _enforce(self, constraint: Any, when: Condition = None) -> None:
        given = when if isinstance(when, tuple) else (when,)
        conditions = [literal for literal in (self._literal, *given) if literal is not None]
        if conditions:
            constraint.only_enforce_if(conditions)

    def forbid(self) -> None:
        self._enforce(self.cp.add_bool_or([]))

    def allow(self, decision: str, predicate: Callable[[int], bool]) -> None:
        quantity: Linear = getattr(self.x, decision)
        if isinstance(quantity, int):
            if not predicate(quantity):
                self.forbid()
            return
        values = self.arithmetic.values_of(quantity)
        allowed = [value for value in values if predicate(value)]
        if not allowed:
            self.forbid()
        elif len(allowed) < len(values):
            domain = cp_model.Domain.from_values(allowed)
            self._enforce(self.cp.add_linear_expression_in_domain(quantity.expression(), domain))
            if self._literal is None:
                self.arithmetic.restrict(quantity, allowed)

    def allow_shapes(self, predicate: Callable[[Any], bool]) -> None:
        kept = []
        for shape, literal in self.shapes:
            if predicate(shape):
                kept.append((shape, literal))
            else:
                self._enforce(self.cp.add_bool_or([literal.negated()]))
        if self._literal is None:
            self.shapes = kept

    def allow_recompute(self, predicate: Callable[[Recompute], bool]) -> None:
        for option, literal in zip(self.x.recompute.options, self.x.recompute.literals, strict=True):
            if not predicate(option):
                self._enforce(self.cp.add_bool_or([literal.negated()]))

    def equal(self, a: Any, b: Any, when: Condition = None) -> None:
        self._compare(a - b, lambda expression: expression == 0, when)

    def at_most(self, a: Any, b: Any, when: Condition = None) -> None:
        self._compare(a - b, lambda expression: expression <= 0, when)

    def _compare(self, difference: Any, comparison: Callable[[Any], Any], when: Condition) -> None:
        if isinstance(difference, int) or not difference.terms:
            constant = difference if isinstance(difference, int) else difference.constant
            if not comparison(constant):
                self._enforce(self.cp.add_bool_or([]), when)
            return
        self._enforce(self.cp.add(comparison(difference.expression())), when)

    def divides(self, divisor: Any, dividend: Any, when: Condition = None) -> None:
        self.equal(self.remainder(dividend, divisor), 0, when)

    def remainder(self, dividend: Any, divisor: Any) -> Any:
        return self.arithmetic.remainder(dividend, divisor)

    def above_one(self, decision: str) -> Condition:
        return self._condition("above_one", decision, 2)

    def is_true(self, decision: str) -> Condition:
        return self._condition("is_true", decision, 1)

    def _condition(self, kind: str, decision: str, least: int) -> Condition:
        if (kind, decision) not in self._conditions:
            literal = self.cp.new_bool_var(f"{kind}[{decision}]")
            expression = getattr(self.x, decision).expression()
            self.cp.add(expression >= least).only_enforce_if(literal)
            self.cp.add(expression <= least - 1).only_enforce_if(literal.negated())
            self._conditions[kind, decision] = literal
        return self._conditions[kind, decision]

    @property
    def interleaved(self) -> Condition:
        return self._interleaved

    def at_most_held(self, formulas: Callable[[Any], Iterable[Any]], bound: int) -> None:
        self._held.append((formulas, bound, self._literal))
        self._bound(self.placement.holding(), formulas, bound)

    def _bound(self, ranks: Iterable[Held], formulas: Callable[[Any], Iterable[Any]], bound: int) -> None:
        for stage, when in ranks:
            for quantity in formulas(stage):
                self.at_most(quantity, bound, when=when)

    def refine(self, pp: int) -> None:
        """Look closer at pipelines of ``pp`` ranks, whose placements were worse than promised."""
        new = [(rank, rank.conditions) for rank in self.placement.refine(pp)]
        for formulas, bound, literal in self._held:
            self._literal = literal
            self._bound(new, formulas, bound)
            self._literal = None

    def on_slowest(self, formula: Callable[[Any], Any]) -> list[tuple[Any, Condition]]:
        """(``formula(stage)``, condition) for every stage that may be the slowest."""
        return [(formula(stage), when) for stage, when in self.placement.pacing()]

    # -- reading an answer

    def layout(self, value: Callable[[Any], int]) -> Layout:
        """The layout of a solution; ``value`` reads an expression or a literal."""
        x = self.x
        shape = next(shape for shape, literal in self.shapes if value(literal))
        recompute = next(o for o, lit in zip(x.recompute.options, x.recompute.literals, strict=True) if value(lit))
        if self.counted:
            recompute = replace(recompute, num_layers=value(getattr(x, count_of(recompute)).expression()))
        batch = x.global_batch_size
        return Layout(
            **{name: value(getattr(x, name).expression()) for name in DEGREES},
            vpp=shape.vpp,
            sequence_parallel=bool(value(x.sequence_parallel.expression())),
            micro_batch_size=value(x.micro_batch_size.expression()),
            num_microbatches=value(x.num_microbatches.expression()),
            global_batch_size=batch if isinstance(batch, int) else value(batch.expression()),
            gpus=self.problem.gpus,
            split=shape.split,
            recompute=recompute,
            settings=self.problem.settings,
        )


def _microbatch_counts(
    problem: Problem,
    domains: dict[str, list[int]],
    pps: Iterable[int],
    *,
    lawless: bool = False,
) -> set[int]:
    """The micro-batch counts that can occur on pipelines of ``pps`` ranks.

    ``lawless``: on meshes too that have more GPUs than there are.
    """
    if problem.global_batch_size is not None:
        return set(domains["num_microbatches"])
    given = problem.settings.microbatch_group_size_per_vp_stage
    multiples = {1, *([given] if given else pps)}
    most = domains["dp"][-1] if lawless else max(problem.gpus // pp for pp in pps)
    units = {dp * mbs for dp in domains["dp"] if dp <= most for mbs in domains["micro_batch_size"]}
    return {
        chosen_microbatches(problem.target_sequences, unit, 1, multiple) for unit in units for multiple in multiples
    }
