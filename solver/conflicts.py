"""Every way in which the request contradicts itself, and every smallest set of things to give up. Imports ortools.

Reiter's hitting-set tree over the knobs (R. Reiter, "A theory of diagnosis from first principles", Artificial
Intelligence 32, 1987): a set of turned knobs either leaves a layout, and is then a correction, or leaves a conflict,
and is then tried with each knob of that conflict added. Laws always hold; inside a conflict they are made few as well.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from itertools import count

from constraints.layout import Layout
from constraints.problem import Problem
from solver.because import told_by_witness
from solver.explain import Exhausted, Minimal, Oracle, may_do_without_interleaving
from solver.knobs import Knob, knobs_of
from solver.search import Disagreement

__all__ = ["Conflicts", "Correction", "conflicts_of"]

MOST_CONFLICTS = 8
MOST_CORRECTIONS = 12
MOST_QUESTIONS = 160
MOST_TURNED = 3


@dataclass(frozen=True)
class Correction:
    """Knobs that, turned together, leave a layout: no fewer of them do."""

    knobs: tuple[Knob, ...]
    layout: Layout


@dataclass(frozen=True)
class Conflicts:
    """Minimal conflicts with different knobs in them, the shortest first; minimal corrections, the cheapest first.

    ``exhausted`` is true if every conflict that matters to a correction is there.
    """

    conflicts: tuple[Minimal, ...]
    corrections: tuple[Correction, ...]
    exhausted: bool
    interleaving: bool


def conflicts_of(problem: Problem, *, seconds: float = 20.0, interleaving: bool | None = None) -> Conflicts:
    """The conflicts of an infeasible problem.

    ``interleaving=False`` leaves virtual stages out of the space. Raises :class:`solver.search.Disagreement` if the rules
    can be satisfied together after all, :class:`solver.explain.Exhausted` if not even one conflict was found in time.
    """
    if interleaving is None:
        interleaving = not may_do_without_interleaving(problem)
    oracle = Oracle(problem, time.monotonic() + seconds, interleaving=interleaving)
    return _Tree(oracle, knobs_of(problem)).grown(interleaving)


class _Tree:
    """The hitting-set tree, grown best first."""

    def __init__(self, oracle: Oracle, knobs: tuple[Knob, ...]) -> None:
        self.oracle, self.knobs = oracle, knobs
        self.found: list[Minimal] = []
        self.corrections: list[Correction] = []
        self.exhausted = True

    def grown(self, interleaving: bool) -> Conflicts:
        order = count()
        heap: list[tuple[int, int, frozenset[str]]] = [(0, next(order), frozenset())]
        seen: set[frozenset[str]] = {frozenset()}
        by_name = {knob.name: knob for knob in self.knobs}
        while heap:
            _, _, turned = heapq.heappop(heap)
            if any(turned >= {knob.name for knob in c.knobs} for c in self.corrections):
                continue
            try:
                conflict = self._conflict([knob for knob in self.knobs if knob.name in turned])
            except Exhausted:
                if not self.found:
                    raise
                self.exhausted = False
                break
            if conflict is None:
                continue
            for knob in self._knobs_in(conflict):
                more = turned | {knob.name}
                if more in seen:
                    continue
                if len(more) > MOST_TURNED:
                    self.exhausted = False
                    continue
                seen.add(more)
                heapq.heappush(heap, (sum(by_name[n].weight for n in more), next(order), more))
        conflicts = tuple(sorted(self.found, key=lambda c: len(c.rules)))
        return Conflicts(conflicts, tuple(self.corrections), self.exhausted, interleaving)

    def _conflict(self, turned: list[Knob]) -> Minimal | None:
        """A conflict among the rules that ``turned`` leaves; ``None`` if there is a layout (a new correction)."""
        freed = frozenset[str]().union(*(knob.rules for knob in turned))
        for known in self.found:
            if not known.ids & freed:
                return known
        if self.oracle.questions > MOST_QUESTIONS or len(self.found) >= MOST_CONFLICTS:
            raise Exhausted
        answer = self.oracle.layout(name for name in self.oracle.rules if name not in freed)
        if isinstance(answer, Layout):
            if not turned:
                raise Disagreement("the search found no layout, the feasibility model found one")
            if len(self.corrections) >= MOST_CORRECTIONS:
                raise Exhausted
            self.corrections.append(Correction(tuple(turned), answer))
            return None
        minimal = self.oracle.minimal(answer, last=[name for knob in self.knobs for name in knob.rules])
        minimal = self.oracle.plainer(minimal, told_by_witness(minimal))
        self.found.append(minimal)
        return minimal

    def _knobs_in(self, conflict: Minimal) -> list[Knob]:
        return [knob for knob in self.knobs if knob.rules & conflict.ids]
