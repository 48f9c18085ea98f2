"""Whether a larger count of GPUs is the fewest that has a layout: a proof for each count between, where that is cheap."""

from __future__ import annotations

from collections.abc import Sequence

from constraints.memory.spread import fewest_gpus
from constraints.problem import Problem
from solver.idle import tree_of

__all__ = ["fewest_note"]

WHOLE_NODES, ANY = (16, 60), (16, 12)
"""Counts that are tried, and the dear questions for each."""


def fewest_note(asked: Problem, changed: Problem) -> str:
    """What can be said of the counts between those of the two problems: all excluded, or whole nodes, or nothing."""
    node, most = asked.gpus_per_node, changed.gpus
    nodes = range((asked.gpus // node + 1) * node, most, node)
    if not _all_excluded(asked, nodes, *WHOLE_NODES):
        return "a count that works, not shown to be the fewest"
    if _all_excluded(asked, range(asked.gpus + 1, most), *ANY):
        return "the fewest that do"
    return f"the fewest whole nodes of {node} that do" if most % node == 0 else "a count that works"


def _all_excluded(asked: Problem, counts: Sequence[int], most_counts: int, most_bounds: int) -> bool:
    """True if none of them has a layout; false also where that would be much work."""
    open_counts = [count for count in counts if count >= fewest_gpus(asked)]
    if len(open_counts) > most_counts:
        return False
    return all(tree_of(asked, count, most_bounds) is not None for count in reversed(open_counts))
