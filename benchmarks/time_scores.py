"""Predicted against measured rates: errors, and how well distinct layouts are ordered.

An error is predicted over measured tokens/s/GPU, minus 1. Order is looked at among distinct layouts of one model on one GPU;
repeated runs of one count once, at their median, as releases of one layout would rank by release.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import mean, median
from typing import Any

from benchmarks.time_rows import Run
from constraints.timing.calibration import Calibration
from constraints.timing.step import step_time

__all__ = ["Scored", "order", "scored", "spearman", "summary"]

CLOSE = 0.10
"""Measured rates nearer than this are not expected to be told apart."""
FEWEST_LAYOUTS = 5
"""Distinct layouts from which on a group has a rank correlation."""


@dataclass(frozen=True)
class Scored:
    """A run and the rate that is predicted for it, tokens per second and GPU."""

    run: Run
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.run.tokens_per_second - 1


def scored(run: Run, constants: Calibration | None = None) -> Scored:
    """``run`` with its predicted rate, by the shipped constants or by ``constants``."""
    seconds = step_time(replace(run.problem, calibration=constants), run.layout).step_ns / 1e9
    return Scored(run, run.tokens / (seconds * run.routing))


def summary(scored: Sequence[Scored]) -> dict[str, Any]:
    """Rows, mean and median absolute error, and bias (median signed error)."""
    errors = [one.error for one in scored]
    return {
        "rows_scored": len(errors),
        "mean_absolute_error": round(mean(map(abs, errors)), 4) if errors else None,
        "median_absolute_error": round(median(map(abs, errors)), 4) if errors else None,
        "bias": round(median(errors), 4) if errors else None,
    }


def order(scored: Iterable[Scored]) -> dict[str, Any]:
    """Pairs of distinct layouts ordered rightly, and the median rank correlation of the larger groups."""
    groups: dict[tuple[str, str], dict[Any, list[Scored]]] = defaultdict(lambda: defaultdict(list))
    for one in scored:
        groups[one.run.group][one.run.key].append(one)
    right = pairs = 0
    correlations: dict[str, float] = {}
    for group, layouts in groups.items():
        points = [
            (median(one.run.tokens_per_second for one in same), median(one.predicted for one in same))
            for same in layouts.values()
        ]
        for (a, x), (b, y) in combinations(points, 2):
            if max(a, b) > min(a, b) * (1 + CLOSE):
                pairs += 1
                right += (a > b) == (x > y)
        if len(points) >= FEWEST_LAYOUTS:
            correlations[" on ".join(group)] = round(spearman(points), 3)
    return {
        "pairs": pairs,
        "pairs_ordered_rightly": round(right / pairs, 4) if pairs else None,
        "rank_correlation": round(median(correlations.values()), 4) if correlations else None,
        "rank_correlations": correlations,
    }


def spearman(points: Sequence[tuple[float, float]]) -> float:
    """Rank correlation of pairs, ties at their mean rank.

    >>> spearman([(1, 10), (2, 20), (3, 30)])
    1.0
    """
    x, y = _ranks([a for a, _ in points]), _ranks([b for _, b in points])
    mx, my = mean(x), mean(y)
    covariance = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    spread = (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5
    return float(covariance / spread) if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [mean(i for i, other in enumerate(ordered) if other == value) for value in values]
