"""The constants of the step-time model that suit some runs best, drawn to their priors.

The same formulas that the solver and the report use are evaluated on arrays of trial constants. Residuals are logarithms of
predicted over measured rate, softened (a run that is far off pulls like one that is not), runs of one distinct layout share
a weight of the square root of their number, and each constant is drawn to its prior with its own width. Gauss-Newton with
Levenberg's damping. Needs numpy (extra ``benchmarks``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np

from benchmarks.time_rows import Run
from constraints.arithmetic import Remembering
from constraints.timing import calibration
from constraints.timing.calibration import Calibration, Constant
from constraints.timing.step import step_time

__all__ = ["Fit", "fitted"]

NOISE = 0.08
"""Scale of a residual: what repeated runs of one layout differ by."""
STEP = 0.02
ITERATIONS = 25


class Trials(Remembering):
    """Formulas on arrays of trial constants, without rounding."""

    def ceil_div(self, a: Any, b: Any) -> Any:
        return super().ceil_div(a, b) if isinstance(a, int) and isinstance(b, int) else a / b

    def floor_div(self, a: Any, b: Any) -> Any:
        return super().floor_div(a, b) if isinstance(a, int) and isinstance(b, int) else a / b

    def maximum(self, *terms: Any) -> Any:
        return (
            max(terms)
            if all(isinstance(term, int) for term in terms)
            else np.maximum.reduce(np.broadcast_arrays(*terms))
        )


@dataclass(frozen=True)
class Fit:
    """Fitted values by name, and the cost they were found at."""

    values: dict[str, float]
    cost: float


class Problemset:
    """Runs with weights, evaluated for many trial constants at once; the same configuration is computed once."""

    def __init__(self, runs: Sequence[Run], free: Sequence[Constant], fixed: dict[str, float]) -> None:
        self.free, self.fixed = list(free), fixed
        distinct: dict[Any, int] = {}
        self.index: list[int] = []
        self.cases: list[Run] = []
        for run in runs:
            key = (run.key, run.layout, run.problem.stack, run.problem.settings, run.problem.model)
            if key not in distinct:
                distinct[key] = len(self.cases)
                self.cases.append(run)
            self.index.append(distinct[key])
        counts: dict[Any, int] = defaultdict(int)
        for run in runs:
            counts[run.key] += 1
        self.weights = np.array([counts[run.key] ** -0.5 for run in runs])
        self.measured = np.array([log(run.step_seconds / run.routing) for run in runs])
        self.prior = np.array([log(c.prior) for c in free])
        self.width = np.array([c.width for c in free])

    def predicted(self, points: np.ndarray) -> np.ndarray:
        """Logarithms of step seconds, one row per run, one column per point of log constants."""
        values: dict[str, Any] = dict(self.fixed)
        values |= {c.name: np.exp(points[:, i]) for i, c in enumerate(self.free)}
        trial = Calibration(values)
        out = np.empty((len(self.cases), len(points)))
        for i, run in enumerate(self.cases):
            out[i] = step_time(replace(run.problem, calibration=trial), run.layout, Trials()).step_ns
        return np.log(out[self.index] / 1e9)

    def cost(self, theta: np.ndarray, residual: np.ndarray) -> float:
        soft = 2 * (np.sqrt(1 + (residual / NOISE) ** 2) - 1)
        return float((self.weights * soft).sum() + (((theta - self.prior) / self.width) ** 2).sum())

    def solve(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        theta, damping = start.copy(), 0.1
        count = len(self.free)
        cost = np.inf
        for _ in range(ITERATIONS):
            points = np.vstack([theta, theta + STEP * np.eye(count)])
            table = self.predicted(points)
            residual = table[:, 0] - self.measured
            jacobian = (table[:, 1:] - table[:, :1]) / STEP
            cost = self.cost(theta, residual)
            robust = self.weights / np.sqrt(1 + (residual / NOISE) ** 2) / NOISE**2
            left = jacobian.T @ (robust[:, None] * jacobian) + np.diag(self.width**-2.0)
            right = jacobian.T @ (robust * residual) + (theta - self.prior) / self.width**2
            # several dampings are tried at once: one evaluation of all of them
            dampings = [damping * factor for factor in (0.01, 0.1, 1, 10, 100, 1000)]
            steps = [np.linalg.solve(left + d * np.diag(np.diag(left)), right) for d in dampings]
            tried = np.vstack([theta - np.clip(step, -0.7, 0.7) for step in steps])
            ahead = self.predicted(tried) - self.measured[:, None]
            costs = [self.cost(tried[i], ahead[:, i]) for i in range(len(tried))]
            best = int(np.argmin(costs))
            if costs[best] >= cost * (1 - 1e-4):
                return (tried[best], costs[best]) if costs[best] < cost else (theta, cost)
            theta, damping = tried[best], max(1e-6, dampings[best])
            cost = costs[best]
        return theta, cost


def fitted(runs: Sequence[Run], start: Mapping[str, float] | None = None) -> Fit:
    """The constants for ``runs``, searched from their priors or from ``start``."""
    known = calibration.constants()
    free = [c for c in known if c.width > 0]
    fixed = {c.name: c.prior for c in known if c.width == 0}
    problems = Problemset(runs, free, fixed)
    begin = np.array([log((start or {}).get(c.name, c.prior)) for c in free])
    theta, cost = problems.solve(begin)
    return Fit(fixed | {c.name: float(np.exp(t)) for c, t in zip(free, theta, strict=True)}, cost)
