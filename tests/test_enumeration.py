"""What brute force leaves out is never of use: held against looking at every layout."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from constraints.partition.search import best_partition
from constraints.problem import Problem
from tests import enumeration
from tests.exploring import explore
from tests.strategies import problems


class Seen(Counter[str]):
    """What was compared."""

    def in_full(self, problem: Problem) -> None:
        """Every layout that the rules accept is tried on its best partition, and all are compared by what they come to."""
        rules, values, blocks = enumeration.Rules(problem), [], False
        for layout in filter(rules.accept, enumeration.candidates(problem)):
            if layout.recompute.first and not (blocks or values):
                break
            blocks = layout.recompute.first > 0
            found = best_partition(problem, layout)
            if found is not None:
                placed = replace(layout, split=found.split)
                values.append((enumeration.value_of(problem, placed), placed))
                assert enumeration.state_fits(problem, layout), placed
                assert values[-1][0][0] >= enumeration.floor(problem, layout), placed
        best = enumeration.best(problem)
        assert best == (min(values, key=lambda pair: pair[0])[1] if values else None)
        assert [placed for _, placed in values] == list(enumeration.legal(problem))
        self[problem.objective if values else "infeasible"] += 1


def compared(examples: int) -> Seen:
    seen = Seen()
    explore(problems(most_gpus=8), seen.in_full, examples)
    return seen


def test_what_brute_force_skips_is_not_better_than_what_it_finds() -> None:
    assert compared(12)["infeasible"] < 12


@pytest.mark.heavy
def test_what_brute_force_skips_is_never_better_than_what_it_finds() -> None:
    seen = compared(60)
    assert min(seen[name] for name in ("infeasible", "step-time", "communication", "data-parallel", "memory")) > 0, seen
