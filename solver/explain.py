"""Whether rules can hold together: a feasibility-only model with every rule under a literal. Imports ortools.

Domains are wider than in the search, and presolve is off (google/or-tools#5141: with it, cores may name what was never
assumed). So it is a second opinion as well: if it finds a layout where the search found none, nothing is answered.
CP-SAT's core is only a seed: rules are dropped one by one, and what satisfies the rest is kept as a witness.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import BLOCK, GROUPS, Layout, Recompute
from constraints.memory.budget import CAPACITY
from constraints.pins import Limit
from constraints.problem import Problem
from constraints.recompute_counts import RULES as COUNTS
from constraints.registry import enforced_rules
from constraints.rule import Rule, Stratum
from solver.completion import placed_somewhere
from solver.model import Model
from solver.placing import placed_solution
from solver.search import Disagreement, new_solver, run
from solver.work import work_left

__all__ = ["Exhausted", "Minimal", "Oracle", "may_do_without_interleaving"]

DROP_ORDER = (Stratum.ADVICE, Stratum.FRAMEWORK, Stratum.LAW, Stratum.RESOURCE, Stratum.PIN)
"""What is dropped first: the user's own words and the most concrete rules survive."""

WANT_INTERLEAVING = ("overlap_moe_expert_parallel_comm", "overlap_param_gather_with_optimizer_step")
"""Switches that rules allow only with virtual stages."""

SMALL = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp", "micro_batch_size")
MOST_WORK_ON_LOOKS = 0.2
MOST_WORK = 4.0
"""Deterministic time that one question may take, about as many seconds."""


class Exhausted(Exception):
    """The work or the time allowed is used up: nothing is known."""


@dataclass(frozen=True)
class Minimal:
    """A minimal conflict: no layout of the space keeps all ``rules``; ``witnesses[id]`` keeps all but that one."""

    rules: tuple[Rule, ...]
    witnesses: dict[str, Layout]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(rule.id for rule in self.rules)


def may_do_without_interleaving(problem: Problem) -> bool:
    """True if nothing asks for virtual stages that are not pinned: a layout is then as likely legal without them."""
    limited = any(isinstance(pin, Limit) and "vpp" in pin.scope for pin in problem.pins)
    return not limited and not any(getattr(problem.settings, switch) for switch in WANT_INTERLEAVING)


class Oracle:
    """Answers for sets of rules of one problem: a layout that keeps them, or the part that conflicts.

    Where memory is in that part, uniform recompute in groups is asked about as well; nothing else likes groups better than
    layers one by one. Where the user's words are about the count, so is block. How large a count may be is a rule of a
    conflict only then.
    """

    def __init__(self, problem: Problem, deadline: float, *, interleaving: bool) -> None:
        self.problem, self.deadline, self.interleaving = problem, deadline, interleaving
        free = () if problem.counts_asked else COUNTS
        self.rules: dict[str, Rule] = {rule.id: rule for rule in enforced_rules(problem) if rule not in free}
        self.questions = 0
        self._model = Model(problem, explain=True, interleaving=interleaving)
        self._model.post(self.rules.values())

    @cached_property
    def _groups(self) -> Model:
        return self._by_count(GROUPS)

    @cached_property
    def _blocks(self) -> Model:
        return self._by_count(BLOCK)

    def _by_count(self, stand_in: Recompute) -> Model:
        model = Model(self.problem, explain=True, interleaving=self.interleaving, counted=stand_in)
        free = [rule for rule in COUNTS if rule.id not in self.rules]
        model.post((*self.rules.values(), *free))
        model.cp.add_bool_and(model.literals[rule.id] for rule in free)
        return model

    def layout(self, assumed: Iterable[str]) -> Layout | frozenset[str]:
        """A layout that keeps the rules ``assumed``, or those among them that CP-SAT says conflict.

        Raises :class:`Exhausted`, and :class:`~solver.search.Disagreement` if the layout breaks one of them.
        """
        assumed = list(assumed)
        answer = self._asked(self._model, assumed)
        if isinstance(answer, Layout):
            return answer
        core, worded = answer, any(self.rules[name].asks_count for name in answer)
        if self.problem.group_sizes(1) and (worded or CAPACITY in answer):
            in_groups = self._asked(self._groups, assumed)
            if isinstance(in_groups, Layout):
                return in_groups
            core |= in_groups
        if self.problem.counted(1) and (worded or (CAPACITY in answer and self.problem.counts_asked)):
            in_blocks = self._asked(self._blocks, assumed)
            return in_blocks if isinstance(in_blocks, Layout) else core | in_blocks
        return core

    def _asked(self, model: Model, assumed: list[str]) -> Layout | frozenset[str]:
        literals = model.literals
        by_index: dict[int, str] = {literals[name].index: name for name in assumed}
        model.cp.clear_assumptions()
        model.cp.add_assumptions([literals[name] for name in assumed])
        core: frozenset[str] = frozenset(assumed)

        def solve() -> Callable[[Any], int] | None:
            nonlocal core
            solver: Any = new_solver(self.deadline - time.monotonic())
            solver.parameters.max_deterministic_time = min(MOST_WORK, work_left())
            status = run(model.cp, solver)
            self.questions += 1
            if status == cp_model.INFEASIBLE:
                named = solver.sufficient_assumptions_for_infeasibility()
                core = frozenset(by_index[i] for i in named if i in by_index) or core
                return None
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                raise Exhausted
            value: Callable[[Any], int] = solver.value
            return value

        layout = placed_solution(model, solve, fitting=CAPACITY in assumed)
        if layout is None:
            return core
        broken = [name for name in assumed if not self.rules[name].holds(self.problem, layout)]
        if broken:
            raise Disagreement(f"the feasibility model's layout breaks {', '.join(broken)}: {layout}")
        return layout

    def minimal(self, core: Iterable[str], last: Iterable[str] = ()) -> Minimal:
        """A minimal conflict inside ``core``; rules named in ``last`` are the last to be dropped.

        As long as they can be spared, twice as many are dropped at a time.
        """
        core, late = set(core), set(last)
        witnesses: dict[str, Layout] = {}
        left = sorted(core, key=lambda n: (n in late, DROP_ORDER.index(self.rules[n].stratum), n))
        many = 1
        while left:
            dropped = left[:many]
            answer = self.layout(n for n in self.rules if n in core and n not in dropped)
            if not isinstance(answer, Layout):
                core, many = set(answer), 2 * many
                left = [name for name in left[len(dropped) :] if name in core]
            elif len(dropped) == 1:
                witnesses[dropped[0]] = answer
                left = left[1:]
            else:
                many = 1
        rules = tuple(rule for name, rule in self.rules.items() if name in core)
        return Minimal(rules, {rule.id: witnesses[rule.id] for rule in rules})

    def plainer(self, conflict: Minimal, shown: Iterable[str]) -> Minimal:
        """The conflict with small degrees in the witnesses for the rules ``shown``: what they say is read by people."""
        plain = {name: self._plainest(conflict.ids - {name}) or conflict.witnesses[name] for name in sorted(shown)}
        return Minimal(conflict.rules, conflict.witnesses | plain)

    def _plainest(self, kept: frozenset[str]) -> Layout | None:
        """A layout with small degrees that keeps the rules ``kept``."""
        copy = self._model.cp.clone()
        copy.clear_assumptions()
        copy.add_bool_and([self._model.literals[name] for name in sorted(kept)])
        copy.minimize(sum(getattr(self._model.x, name).expression() for name in SMALL))
        solver = new_solver(self.deadline - time.monotonic())
        solver.parameters.max_deterministic_time = min(MOST_WORK_ON_LOOKS, work_left())
        status = run(copy, solver)
        self.questions += 1
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        layout = placed_somewhere(self.problem, self._model.layout(solver.value), fitting=CAPACITY in kept)
        if layout is None:
            return None
        return layout if all(self.rules[name].holds(self.problem, layout) for name in kept) else None
