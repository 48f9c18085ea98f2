"""The ``request`` of a report: every value that was asked for or assumed, with the place it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from constraints.pins import Limit, PinRecompute
from constraints.problem import DEFAULT, Origin, Problem
from constraints.rule import Rule
from solver.answer import gib
from solver.memory_options import option_behind, option_values
from solver.pinned import SWITCHES
from solver.verdict import plain

__all__ = ["request_mapping"]

OF_THE_PROBLEM = (
    "gpus",
    "gpus_per_node",
    "nvlink_domain",
    "seq_length",
    "precision",
    "task",
    "objective",
    "stack",
    "megatron",
    "expandable_segments",
    "allow_borderline",
    "allow_idle",
)
"""Keys of a request that a problem holds under the same name and in the same unit."""

SHARED = "optimizer"
"""A key of the request (how its state is kept) and a switch of Megatron's (which one it is)."""


def request_mapping(problem: Problem, search: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By key, ``value`` and ``origin``. ``search`` holds what the search was told and the problem does not know.

    A pin, a limit and a relaxed rule have an entry each (``pin.tp``, ``limit.pp-max-8``, ``relax.RULE``): ``key`` is what it
    is about, and ``operator`` how a limit bounds it.
    """
    values = {
        "model": problem.model.name,
        "gpu": problem.gpu.name,
        **{name: getattr(problem, name) for name in OF_THE_PROBLEM},
        "global_batch_size": problem.target_batch or problem.global_batch_size,
        "batch_tolerance": problem.tolerance_percent if problem.target_batch is not None else None,
        "mtp_num_layers": problem.model.mtp_num_layers,
        "memory_gib": gib(problem.budget_bytes),
        **option_values(problem),
        "routing_imbalance": problem.imbalance_percent / 100,
        **search,
    }
    out = {name: _entry(_origin(problem, name), value=value) for name, value in values.items()}
    for rule in problem.pins:
        out[rule.id] = _word(rule)
    for name in sorted(_pinned_switches(problem)):
        value = getattr(problem.settings, name)
        out[f"pin.{name}"] = _entry(problem.origin(name), key=name, value=value)
    for rule_id in sorted(problem.relaxed):
        origin = problem.origins.get(f"relax {rule_id}", problem.origin("relax"))
        out[f"relax.{rule_id}"] = _entry(origin, key=rule_id, value=True)
    return out


def _origin(problem: Problem, name: str) -> Origin:
    if name == "memory_gib":
        return problem.origin("budget_bytes")
    if name == SHARED and SHARED in problem.settings.changed():  # what is noted under the name is the switch's
        return problem.origins.get(f"option {SHARED}", DEFAULT)
    return problem.origin(name)


def _word(rule: Rule) -> dict[str, Any]:
    """A pin or a limit: its parts."""
    origin: Origin = getattr(rule, "origin", Origin("request", "request"))
    if isinstance(rule, Limit):
        return _entry(origin, key=rule.name, operator=rule.comparison, value=rule.value)
    if isinstance(rule, PinRecompute):
        return _entry(origin, key=rule.name, value=rule.granularity or "none")
    return _entry(origin, key=getattr(rule, "name", rule.id), value=getattr(rule, "value", rule.statement))


def _pinned_switches(problem: Problem) -> set[str]:
    """Switches that somebody pinned, other than through a memory option."""
    noted = {name for name in SWITCHES if name in problem.origins and option_behind(problem, name) is None}
    return noted if SHARED in problem.settings.changed() else noted - {SHARED}


def _entry(origin: Origin, **parts: Any) -> dict[str, Any]:
    said = {name: list(part) if isinstance(part, tuple) else plain(part) for name, part in parts.items()}
    return said | {"origin": str(origin)}
