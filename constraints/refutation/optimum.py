"""The certificate that no layout is better: by the same kind of tree, some leaves of which bound the objective from below.

``{"value": n, "layout": decisions, "gpus": n, "rules": [ids], "tree": ..., "leaves": {id: n, "objective": n}}``: ``layout``
keeps every rule and counts as ``value`` (:func:`constraints.refutation.objective.value_of`); every leaf names a rule that
all of its layouts break or, with the number after the last rule, says that none of them counts as less. Nothing is said of
layouts that are exactly as good. ``gpus`` are fewer than the request's only where it allows idle ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.fewer import named_rules, verified_fewer
from constraints.refutation.file import BadFile, Refuted, layout_at
from constraints.refutation.leaves import counted_leaves, level_of
from constraints.refutation.objective import OBJECTIVES, value_of
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Broken, NoBetter, Reason
from constraints.refutation.tree import OPTIMUM
from constraints.registry import enforced_rules

__all__ = ["VerifiedOptimum", "verified_optimum"]

KEYS = {"value", "layout", "gpus", "rules", "tree", "leaves"}


@dataclass(frozen=True)
class VerifiedOptimum:
    """What was checked: no layout of ``problem`` counts as less than ``value``, and ``layout`` counts as that; leaves by
    rule, "objective" among them; the larger counts of GPUs that have no layout; what it proves by; how many of the leaves are
    about every partition of the layers."""

    problem: Problem
    layout: Layout
    value: int
    leaves: Mapping[str, int]
    fewer: tuple[int, ...]
    level: str
    over_partitions: int


def verified_optimum(problem: Problem, data: Any, fewer: Any) -> VerifiedOptimum:
    """Check the claim. Raises :class:`Refuted` or :class:`BadFile`."""
    if not isinstance(data, Mapping) or set(data) != KEYS:
        raise BadFile(f"an optimum has {', '.join(sorted(KEYS))}")
    value, gpus = data["value"], data["gpus"]
    if type(value) is not int or type(gpus) is not int or problem.objective not in OBJECTIVES:
        raise BadFile("an optimum has a whole number as its value, for an objective that there is")
    if problem.counts_asked:
        raise Refuted("an optimum leaves aside how full recompute goes, which was asked for")
    if not 1 <= gpus <= problem.gpus or (gpus < problem.gpus and not problem.allow_idle):
        raise Refuted(f"a layout of {gpus} GPUs is no answer where {problem.gpus} are to be used")
    used = replace(problem, gpus=gpus)
    space = Space(used)
    layout = layout_at(space, data["layout"], "the best layout")
    broken = [rule.id for rule in enforced_rules(used) if not rule.holds(used, layout)]
    if broken:
        raise Refuted(f"the best layout breaks {', '.join(broken)}")
    if value_of(used, layout) != value:
        raise Refuted(f"the best layout counts as {value_of(used, layout)}, not {value}")
    reasons: list[Reason] = [*(Broken(rule) for rule in named_rules(used, data["rules"])), NoBetter(value)]
    leaves = counted_leaves(data, reasons, space, OPTIMUM)
    if gpus < problem.gpus and fewer is None:
        raise Refuted(f"nothing is said of more than {gpus} GPUs")
    larger = verified_fewer(problem, fewer, range(gpus + 1, problem.gpus + 1))
    level = level_of(leaves.over_partitions + larger.over_partitions)
    return VerifiedOptimum(problem, layout, value, leaves.by_reason, larger.counts, level, leaves.over_partitions)
