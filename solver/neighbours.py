"""What each neighbour of a layout would cost: one degree doubled or halved, data parallelism taking up the difference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.registry import enforced_rules
from constraints.timing.played import reported_step
from constraints.timing.step import StepTime
from solver.completion import best_split, completed, some_split

__all__ = ["Neighbour", "neighbours"]

DECISIONS = ("tp", "pp", "vpp", "cp", "ep", "micro_batch_size")


@dataclass(frozen=True)
class Neighbour:
    """A changed degree, the time per token that it adds as a fraction (``None``: it cannot be), and why."""

    decision: str
    value: int
    instead_of: int
    slower: float | None
    why: str

    def to_mapping(self) -> dict[str, object]:
        """The entry of ``neighbours`` in the JSON."""
        return {
            "change": {self.decision: self.value},
            "from": self.instead_of,
            "slower": None if self.slower is None else round(self.slower, 4),
            "why": self.why,
        }


def neighbours(problem: Problem, layout: Layout) -> tuple[Neighbour, ...]:
    """Each decision doubled and halved, everything else kept where that is possible; those that beat nothing included."""
    now = reported_step(problem, layout)
    found = []
    for decision in DECISIONS:
        value = getattr(layout, decision) or 1
        for other in (value * 2, value // 2):
            if other < 1 or (decision == "ep" and not problem.model.is_moe) or (decision == "vpp" and layout.pp == 1):
                continue
            changed = _changed(problem, layout, decision, other)
            found.append(_judged(problem, layout, now, decision, other, value, changed))
    return tuple(found)


def _changed(problem: Problem, layout: Layout, decision: str, value: int) -> Layout | str:
    """The neighbour, or why it cannot be put together."""
    change: dict[str, Any] = {decision: None if decision == "vpp" and value == 1 else value}
    x = replace(layout, **change)
    if x.pp == 1:
        x = replace(x, vpp=None)
    while decision != "vpp" and x.vpp is not None and x.pp * x.vpp > problem.model.num_layers:
        x = replace(x, vpp=x.vpp // 2 if x.vpp > 3 else None)  # more ranks have room for fewer chunks each
    x = replace(x, sequence_parallel=x.tp > 1 and (layout.sequence_parallel or layout.tp == 1))
    whole = completed(problem, x, problem.global_batch_size)
    if isinstance(whole, str):
        return whole
    split = some_split(problem, whole)
    return replace(whole, split=split) if split is not None else "there are not layers enough"


def _judged(
    problem: Problem, layout: Layout, now: StepTime, decision: str, value: int, instead: int, changed: Layout | str
) -> Neighbour:
    if isinstance(changed, str):
        return Neighbour(decision, value, instead, None, changed)
    for rule in enforced_rules(problem):
        if rule.id == CAPACITY:
            changed = replace(changed, split=best_split(problem, changed) or changed.split)
        if not rule.holds(problem, changed):
            return Neighbour(decision, value, instead, None, rule.reason(problem, changed))
    then = reported_step(problem, changed)
    share = layout.global_batch_size / changed.global_batch_size
    slower = then.step_ns * share / now.step_ns - 1
    return Neighbour(decision, value, instead, slower, _why(now, then, share, slower))


def _why(now: StepTime, then: StepTime, share: float, slower: float) -> str:
    """The part of the step that moves most in the direction of the whole."""
    moves = {name: (part * share - _parts(now)[name]) / now.step_ns for name, part in _parts(then).items()}
    name, move = max(moves.items(), key=lambda item: item[1] if slower >= 0 else -item[1])
    return f"{name} {move:+.0%} of the step"


def _parts(step: StepTime) -> dict[str, int]:
    parts = {"compute": step.compute_ns, "bubble": step.bubble_ns, "host": step.host_ns, "optimizer": step.optimizer_ns}
    return parts | {
        f"exposed {group}" if group != "pp" else "pipeline hops": ns for group, ns in step.exposed_ns.items()
    }
