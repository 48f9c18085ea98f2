"""Whether a larger count of GPUs is the fewest that has a layout: a proof for each count between, where that is cheap."""

from __future__ import annotations

import math
from collections.abc import Sequence

from constraints.memory.spread import fewest_gpus
from constraints.pins import Pin
from constraints.problem import Problem
from solver.idle import USUAL, tree_of

__all__ = ["fewest_note", "pinned_unit"]

WHOLE_NODES, ANY = (16, 60), (16, 12)
"""Counts that are tried, and the dear questions for each."""
TOGETHER = 600
"""Dear questions that all counts may share about their usual suspects."""


def fewest_note(asked: Problem, changed: Problem) -> str:
    """What can be said of the counts between those of the two problems: all excluded, or whole nodes, or nothing."""
    node, most, unit = asked.gpus_per_node, changed.gpus, pinned_unit(asked)
    between = range((asked.gpus // unit + 1) * unit, most, unit)
    if not _all_excluded(asked, [count for count in between if count % node == 0], *WHOLE_NODES):
        return "a count that works, not shown to be the fewest"
    if _all_excluded(asked, [count for count in between if count % node], *ANY):
        return "the fewest that do"
    return f"the fewest whole nodes of {node} that do" if most % node == 0 else "a count that works"


def pinned_unit(problem: Problem) -> int:
    """What every count of GPUs with a layout is a multiple of: what the pins multiply to, of each mesh."""
    pinned = {pin.decision: int(pin.value or 1) for pin in problem.pins if isinstance(pin, Pin)}
    dense = math.prod(pinned.get(name, 1) for name in ("tp", "pp", "cp", "dp"))
    expert = math.prod(pinned.get(name, 1) for name in ("ep", "etp", "edp", "pp"))
    return math.lcm(dense, expert)


def _all_excluded(asked: Problem, counts: Sequence[int], most_counts: int, most_bounds: int) -> bool:
    """True if none of them has a layout; false also where that would be much work."""
    open_counts = [count for count in counts if count >= fewest_gpus(asked)]
    if len(open_counts) > most_counts:
        return False
    usual = min(USUAL, TOGETHER // max(1, len(open_counts)))
    return all(tree_of(asked, count, most_bounds, usual) is not None for count in reversed(open_counts))
