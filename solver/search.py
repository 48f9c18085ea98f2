"""Running CP-SAT: one worker, settings measured for this problem, exact integers out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from ortools.sat.python import cp_model

from constraints.layout import BLOCK, GROUPS, Layout, Recompute
from constraints.memory.spread import fewest_gpus
from constraints.problem import Problem
from constraints.registry import enforced_rules
from solver.arithmetic import LARGEST
from solver.completion import placed
from solver.model import Model
from solver.objectives import OBJECTIVES, post_tie_break
from solver.placing import differs, forbid, recomputing_more, with_other_chunks
from solver.ranking import Ranking
from solver.running import solved
from solver.tie_breaks import tie_break_key
from solver.work import part_of_work, spend, work_left, work_spent

__all__ = [
    "MOST_WORK_ON_COUNTS",
    "Disagreement",
    "Found",
    "ModelError",
    "best_layouts",
    "best_placed",
    "last_resorts",
    "new_solver",
    "run",
    "takes",
]


BRANCHINGS = (cp_model.AUTOMATIC_SEARCH, cp_model.PSEUDO_COST_SEARCH)
MOST_WORK_ON_COUNTS = 3.0
"""Deterministic time in which one way of recompute by count is weighed against what is best without."""
MOST_WORK_ON_PROMISES = 2.0
"""Deterministic time of a proof that some degrees promise most after which, if no placement keeps what they promise, no
further promise is proved: whatever may be better is placed as it is met."""
FIRST_TURN = 1.0
"""Deterministic time of the first turn of each way of branching: about as many seconds."""
MOST_PROBING, MOST_MINIMISING = 0.002, 0.01
"""Deterministic time for each simplification of learnt clauses, where there is any."""


class ModelError(Exception):
    """CP-SAT refused the model: a bug of ours, never "no layout"."""


class Disagreement(Exception):
    """The solver's layout does not pass the rules outside it. Never an answer."""


@dataclass(frozen=True)
class Found:
    """What the search came to: ``optimal``, ``feasible`` (time ran out), ``infeasible`` or ``unknown``.

    Not ``weighed``: the layouts are the best without recompute by count; of those with it some were tried, not all.
    """

    status: str
    layouts: tuple[Layout, ...]
    weighed: bool = True


def new_solver(seconds: float) -> cp_model.CpSolver:
    """A deterministic single-worker solver with the parameters that suit divisor domains and plain products.

    Presolve is off: with it (ortools 9.15.6755, any number of iterations, linearization 0 or 1) small feasible models
    of this kind were declared infeasible (compare google/or-tools#5274); without it they are not solved more slowly.
    Probing is off because on large models it takes thirty times as long as the first layout that it is to help find, and
    so is what simplifies learnt clauses between restarts: these searches are over in some thousand conflicts, and it takes
    a third of the time and more. The older way of linear propagation needs a fourth less time than the newer one here.
    """
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 0
    solver.parameters.cp_model_presolve = False
    solver.parameters.cp_model_probing_level = 0
    solver.parameters.use_sat_inprocessing = False
    solver.parameters.new_linear_propagation = False
    solver.parameters.random_seed = 0
    solver.parameters.max_time_in_seconds = max(0.01, seconds)
    solver.parameters.max_deterministic_time = work_left()
    return solver


def run(model: cp_model.CpModel, solver: cp_model.CpSolver) -> int:
    """Solve and return CP-SAT's status; Ctrl-C ends it. Raises :class:`ModelError` for an invalid model."""
    status = solved(solver, model)
    spend(solver.deterministic_time)
    if status == cp_model.MODEL_INVALID:
        raise ModelError(model.validate())
    return status


def best_layouts(
    problem: Problem,
    *,
    top: int = 1,
    seconds: float = 60.0,
    interleaving: bool = True,
    counted: Iterable[Recompute] = (BLOCK, GROUPS),
    most: int | None = None,
) -> Found:
    """The best ``top`` layouts for the problem's objective, best first, each passing every rule outside the solver.

    Without ``interleaving`` virtual stages are left out (other than pinned ones). ``counted`` is the recompute by count of
    layers that is weighed against what is best without, each in a model of its own; where nothing fits without, groups may.
    Layouts that cost more than ``most``, in the objective's own measure, are as good as none.

    Raises :class:`Disagreement` if a solution breaks a rule that it was solved under.
    """
    deadline = time.monotonic() + seconds
    if fewest_gpus(problem) > problem.gpus:  # no need to look at any
        return Found("infeasible", ())
    found = _best_of(problem, Model(problem, interleaving=interleaving), top, deadline, most)
    left = [stand_in for stand_in in counted if takes(problem, stand_in)]
    for stand_in in last_resorts(problem):
        if found.status == "infeasible" and stand_in in left:
            left.remove(stand_in)
            found = _best_of(problem, Model(problem, interleaving=interleaving, counted=stand_in), top, deadline, most)
    if left and not problem.weighs_counts:
        return replace(found, weighed=False)
    if most is not None and found.status == "infeasible":
        found = Found("optimal", ())  # block may be better than ``most``, where nothing else is
    for stand_in in left:
        if found.status == "optimal":
            model = Model(problem, interleaving=interleaving, counted=stand_in)
            found = _weighed(problem, found, model, top, deadline, most)
    return found if found.layouts or found.status != "optimal" else replace(found, status="infeasible")


def _weighed(problem: Problem, found: Found, model: Model, top: int, deadline: float, most: int | None) -> Found:
    """The best of what was ``found`` and of the layouts of ``model``, which recomputes by count."""
    measure = OBJECTIVES[problem.objective].measure
    if len(found.layouts) == top:
        last = found.layouts[-1]
        # Of layouts that cost as much, those that recompute every layer come after block, and none after groups.
        after = model.counted == BLOCK and last.recompute.is_uniform
        most = measure(problem, last) - (not after)
    with part_of_work(MOST_WORK_ON_COUNTS):
        beside = _best_of(problem, model, top, deadline, most)
    every = sorted((*found.layouts, *beside.layouts), key=lambda x: (measure(problem, x), tie_break_key(problem, x)))
    weighed = found.weighed and beside.status in ("optimal", "infeasible")
    return Found("optimal", tuple(every[:top]), weighed=weighed)


def takes(problem: Problem, stand_in: Recompute) -> bool:
    """False if there is nothing like ``stand_in`` to weigh, or what is asked for rules it out whatever the degrees are."""
    return any(_taken(problem, option) for option in problem.counted(1) if option.method == stand_in.method)


def last_resorts(problem: Problem) -> tuple[Recompute, ...]:
    """Recompute by count that is looked at where nothing fits without: groups, as they hold less than layers one by one;
    block, which holds more, only where the user's words about the count may rule those out."""
    stand_ins = (GROUPS, BLOCK) if problem.counts_asked else (GROUPS,)
    return tuple(stand_in for stand_in in stand_ins if takes(problem, stand_in))


def _taken(problem: Problem, recompute: Recompute) -> bool:
    """False if what is asked for rules ``recompute`` out whatever the degrees are."""
    asked = Layout(recompute=recompute, settings=problem.settings)
    return all(rule.holds(problem, asked) for rule in enforced_rules(problem) if rule.scope == ("recompute",))


def _best_of(problem: Problem, model: Model, top: int, deadline: float, most: int | None = None) -> Found:
    """The best ``top`` layouts of ``model``, of those that cost no more than ``most``."""
    rules = enforced_rules(problem)
    model.post(rules)
    if not model.shapes:
        return Found("infeasible", ())
    cost = OBJECTIVES[problem.objective].post(model)
    order = post_tie_break(model)
    if most is not None:
        model.cp.add(cost.expression() <= most)
    status, layout = best_placed(model, problem.objective, cost, order, deadline, most, most_work=MOST_WORK_ON_PROMISES)
    ranking = Ranking(model, rules, top)
    if layout is not None:
        ranking.add(layout)
    if status == "hard" or (status == "optimal" and top > 1):
        status = _runners_up(ranking, cost, order, deadline)
    measure = OBJECTIVES[problem.objective].measure
    layouts = tuple(x for x in ranking.layouts if most is None or measure(problem, x) <= most)
    if not layouts:
        return Found("infeasible" if status in ("infeasible", "optimal") else "unknown", ())
    for layout in layouts:
        broken = [rule.id for rule in rules if not rule.holds(problem, layout)]
        if broken:
            raise Disagreement(f"the solver's layout breaks {', '.join(broken)}: {layout}")
    return Found(status, layouts)


def _runners_up(ranking: Ranking, cost: Any, order: Any, deadline: float) -> str:
    """Fill ``ranking``, whose model has ``cost`` and ``order``, after the best: the status of the search.

    Layouts near those in the ranking are tried first, which is cheap. The model is then asked for any other whose bound is
    below the last in the ranking, until there is none.
    """
    model = ranking.model
    while True:
        ranking.explore()
        copy = model.cp.clone()
        if (last := ranking.last) is not None:
            _better(copy, cost, order, last)
        else:
            copy.minimize(cost.expression())
        solver = new_solver(deadline - time.monotonic())
        status = run(copy, solver)
        if status == cp_model.INFEASIBLE:
            return "optimal"
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return "feasible"
        ranking.judge(model.layout(solver.value))


def _better(copy: cp_model.CpModel, cost: Any, order: Any, last: tuple[int, int]) -> None:
    """Ask of ``copy`` a cost below the one of ``last``, or the same cost and an order below."""
    known, place = last
    copy.add(cost.expression() <= known)
    if isinstance(order, int):
        copy.add(cost.expression() <= known - 1)
        return
    below = copy.new_bool_var("costs less")
    copy.add(cost.expression() <= known - 1).only_enforce_if(below)
    copy.add(order.expression() <= place - 1).only_enforce_if(below.negated())


def best_placed(
    model: Model,
    objective: str,
    cost: Any,
    order: Any,
    deadline: float,
    most: int | None = None,
    *,
    most_work: float = math.inf,
) -> tuple[str, Layout | None]:
    """The layout that is best by ``objective``, whose expression is ``cost``, with its layers placed.

    The model's cost of some degrees is a bound that no placement on them beats. The best placement for the degrees that
    it prefers may cost more, or none may fit: that is noted, of them and of their like with other virtual stages, and it
    chooses again, until what it promises is kept. Layouts that cost more than ``most`` are of no interest.

    The status is ``hard`` where a promise that is not kept took more than ``most_work`` to prove: the layout, if any, is then
    one of many.
    """
    problem, measure = model.problem, OBJECTIVES[objective].measure
    best, known = None, most
    while True:
        spent = work_spent()
        status, layout, promised = _lexicographic(model, cost, order, deadline, known)
        if layout is None:
            return (status, best) if best is None else ("feasible", best)
        whole = placed(problem, layout, objective)
        if whole is None:
            forbid(model, layout)
            whole = recomputing_more(model, layout, objective)
            fitting = [] if whole is None else [whole]
        else:
            layout, cost_of_it = whole, measure(problem, whole)
            if cost_of_it < promised and status == "optimal":
                raise Disagreement(f"a placement costs {cost_of_it}, less than the bound of {promised}: {layout}")
            if status != "optimal":
                return "feasible", layout if known is None or cost_of_it < known else best
            if cost_of_it == promised:
                return "optimal", layout
            fitting = [layout, *with_other_chunks(model, layout, objective)]
        for like in fitting:
            true = measure(problem, like)
            if known is None or true < known or (true == known and best is None):
                best, known = like, true
            other = model.cp.new_bool_var("other degrees")
            model.cp.add_bool_or(differs(model, like)).only_enforce_if(other)
            model.cp.add(cost.expression() >= true).only_enforce_if(other.negated())
        model.refine(layout.pp)
        if work_spent() - spent > most_work:
            return "hard", best


def _lexicographic(
    model: Model, cost: Any, order: Any, deadline: float, known: int | None
) -> tuple[str, Layout | None, int]:
    """Minimise the cost, then, at that cost, the tie-breaks; the degrees and their cost. The model is left as it was.

    A cost that is ``known``, or a first layout, any, bounds it so far that cost and tie-breaks fit into one integer: one
    search proves both. Where they do not fit, the cost is proved first and held for a second search.
    """
    bounded = model.cp.clone()
    if known is None:
        bounded.minimize(cost.expression())
        first = new_solver(deadline - time.monotonic())
        first.parameters.stop_after_first_solution = True
        status = run(bounded, first)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return ("infeasible" if status == cp_model.INFEASIBLE else "unknown"), None, 0
        known = first.value(cost.expression())
    bounded.add(cost.expression() <= known)
    if isinstance(order, int):
        return _minimise(model, cost, bounded, cost.expression(), deadline)
    digits = order.high + 1
    if max(abs(cost.low), abs(known)) * digits < LARGEST:
        copy = bounded.new_int_var(min(cost.low, known), known, "bounded cost")
        bounded.add(copy == cost.expression())
        return _minimise(model, cost, bounded, copy * digits + order.expression(), deadline)
    status_of_cost, layout, least = _minimise(model, cost, bounded, cost.expression(), deadline)
    if status_of_cost != "optimal" or layout is None:
        return status_of_cost, layout, least
    bounded.add(cost.expression() <= least)
    return _minimise(model, cost, bounded, order.expression(), deadline)


def _simplify_a_little(solver: cp_model.CpSolver) -> None:
    """Communication has no floor that ends a search early: some ten thousand conflicts, of which a little tidying pays."""
    solver.parameters.use_sat_inprocessing = True
    solver.parameters.inprocessing_probing_dtime = MOST_PROBING
    solver.parameters.inprocessing_minimization_dtime = MOST_MINIMISING


def _minimise(
    model: Model, cost: Any, copy: cp_model.CpModel, objective: Any, deadline: float
) -> tuple[str, Layout | None, int]:
    """Solve ``copy`` of the model for ``objective``; a hint of what is known would slow the proof.

    Each way of branching is now and then lost for minutes where the other needs a second: they take turns, each turn longer
    than the one before, and each begins below the best that is known.
    """
    copy.minimize(objective)
    layout, found = None, 0
    for turn in count():
        solver = new_solver(deadline - time.monotonic())
        solver.parameters.search_branching = BRANCHINGS[turn % len(BRANCHINGS)]
        if model.problem.objective == "communication":
            _simplify_a_little(solver)
        turn_ends = FIRST_TURN * 2 ** (turn // len(BRANCHINGS))
        solver.parameters.max_deterministic_time = min(turn_ends, work_left())
        status = run(copy, solver)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            layout, found = model.layout(solver.value), solver.value(cost.expression())
            copy.add(objective <= solver.value(objective))
        if status in (cp_model.OPTIMAL, cp_model.INFEASIBLE):
            return ("optimal" if status == cp_model.OPTIMAL else "infeasible"), layout, found
        if time.monotonic() >= deadline or work_left() <= 0:
            return ("unknown" if layout is None else "feasible"), layout, found
    raise AssertionError("turns do not end")
