"""What ranks hold that take as many consecutive layers each, as those between the ends of a hybrid model do."""

from __future__ import annotations

from operator import mul

from constraints.arithmetic import Integers
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.timing.compute import layer_ns
from models_catalog.schema import LayerKind

__all__ = ["heaviest_windows"]


def heaviest_windows(problem: Problem, pp: int, kinds: tuple[LayerKind, ...]) -> list[tuple[int, ...]]:
    """Of every split into ranks with as many layers between the ends: ``pp``, layers on the first rank and on each between,
    and by kind what the heaviest of these holds, weighed by the time of its layers on one GPU."""
    model, x = problem.model, Layout()
    weights = [layer_ns(Integers(), problem, x, kind) for kind in kinds]
    before = [[0] * len(kinds)]
    for kind in model.layer_kinds:
        before.append([n + (kind == other) for n, other in zip(before[-1], kinds, strict=True)])
    rows = []
    for each in range(1, (model.num_layers - 2) // (pp - 2) + 1):
        for first in range(1, model.num_layers - each * (pp - 2)):
            starts = range(first, first + each * (pp - 2), each)
            windows = ([b - a for a, b in zip(before[i], before[i + each], strict=True)] for i in starts)
            rows.append((pp, first, each, *max(windows, key=lambda counts: sum(map(mul, counts, weights)))))
    return rows
