"""The agreed order among layouts that are equally good, down to one answer. No ortools here."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["TIE_BREAKS", "tie_break_key"]

TIE_BREAKS = (
    ("tp", 1),
    ("pp", 1),
    ("cp", 1),
    ("vpp", 1),
    ("etp", 1),
    ("ep", -1),
    ("micro_batch_size", -1),
)
"""After "less recompute": (decision, sign); +1 prefers small, -1 large."""


def tie_break_key(problem: Problem, layout: Layout) -> tuple[int, ...]:
    """The order that the tie-breaks mean, for plain layouts: smaller is better."""
    return (
        *problem.recompute_level(layout.recompute),
        *(sign * (getattr(layout, name) or 1) for name, sign in TIE_BREAKS),
    )
