"""How an answer is known, in one word and, where it was checked without the solver, in how many steps. No ortools here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from constraints.layout import Layout

__all__ = ["BLOCKS", "COUNTS", "SOLVER", "Proof", "proof_by_search"]

COUNTS, BLOCKS = "recompute by count", "block recompute by count"
"""What a proof may leave aside."""


@dataclass(frozen=True)
class Proof:
    """``level`` is ``exhaustive``, ``partition`` or ``solver``, as ``docs/certificates.md`` says.

    ``steps`` are the leaves of the trees that were checked without the solver (0: there are none), ``over_partitions`` those
    of them that are about every partition of the layers. ``aside`` is what it does not exclude, if anything.
    """

    level: str
    steps: int = 0
    over_partitions: int = 0
    aside: str = ""


SOLVER = Proof("solver")
"""CP-SAT says so, and nothing else."""


def proof_by_search(layouts: Iterable[Layout], *, aside: str = "") -> Proof:
    """The proof of layouts that the search calls best, without a certificate.

    CP-SAT chooses degrees against a bound that no partition of the layers beats; where there are stages, the programme over
    all partitions then shows that it is met.
    """
    level = "partition" if any(layout.pp > 1 for layout in layouts) else SOLVER.level
    return Proof(level, aside=aside)
