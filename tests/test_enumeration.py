"""What brute force leaves out is never of use: held against looking at every layout."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from constraints.layout import Layout
from constraints.partition.search import best_partition
from constraints.problem import Problem
from tests import enumeration
from tests.exploring import explore
from tests.strategies import problems


class Seen(Counter[str]):
    """The objectives for which brute force was held against all that it leaves out; "infeasible" where none is legal."""

    def in_full(self, problem: Problem) -> None:
        rules = enumeration.Rules(problem)
        values: list[tuple[enumeration.Value, Layout]] = []
        layouts = [layout for layout in enumeration.candidates(problem) if rules.accept(layout)]
        for blocks in (False, True):
            for layout in layouts if values or not blocks else []:
                found = best_partition(problem, layout) if (layout.recompute.first > 0) == blocks else None
                if found is not None:
                    placed = replace(layout, split=found.split)
                    value = enumeration.value_of(problem, placed)
                    assert enumeration.state_fits(problem, layout), placed
                    assert enumeration.floor(problem, layout) <= value[0], placed
                    values.append((value, placed))
        best = enumeration.best(problem)
        assert best == (min(values, key=lambda pair: pair[0])[1] if values else None)
        assert list(enumeration.legal(problem)) == [placed for _, placed in values]
        self[problem.objective if values else "infeasible"] += 1


def compared(examples: int, most_gpus: int) -> Seen:
    seen = Seen()
    explore(problems(most_gpus=most_gpus), seen.in_full, examples)
    return seen


def test_what_brute_force_skips_is_not_better_than_what_it_finds() -> None:
    assert compared(6, most_gpus=7)["infeasible"] < 6


@pytest.mark.heavy
def test_what_brute_force_skips_is_never_better_than_what_it_finds() -> None:
    seen = compared(60, most_gpus=8)
    assert min(seen[name] for name in ("infeasible", "step-time", "communication", "data-parallel", "memory")) > 0, seen
