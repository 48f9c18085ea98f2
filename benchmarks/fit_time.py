"""Fit the constants of the step-time model to published runs, with priors, and say how good it is on models left out.

``python -m benchmarks.fit_time --csv FILE [--csv FILE ...] [--write] [--folds]``. Needs numpy (extra ``benchmarks``).

The same formulas that the solver and the report use are evaluated on arrays of trial constants. Residuals are logarithms of
predicted over measured rate, softened (a run that is far off pulls like one that is not), runs of one distinct layout share
a weight of the square root of their number, and each constant is drawn to its prior with its own width. Gauss-Newton with
Levenberg's damping.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import numpy as np

from benchmarks.rows import csv_files
from benchmarks.time_rows import Run, read_runs
from constraints.arithmetic import Remembering
from constraints.timing import calibration
from constraints.timing.calibration import Calibration, Constant
from constraints.timing.regime import REGIMES, regime_of
from constraints.timing.step import step_time

__all__ = ["Fit", "cross_validated", "fitted", "main"]

NOISE = 0.08
"""Scale of a residual: what repeated runs of one layout differ by."""
STEP = 0.02
ITERATIONS = 25
FOLD_ROWS = 8
"""Models with fewer rows share a fold with others of their kind."""


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
        self.measured = np.array([log(run.step_seconds / _routing(run)) for run in runs])
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


def _routing(run: Run) -> float:
    """What a run without forced balance is slower by."""
    return calibration.shipped()["natural_routing"] if run.natural and run.problem.model.is_moe else 1.0


def fitted(runs: Sequence[Run], start: dict[str, float] | None = None) -> Fit:
    """The constants for ``runs``, from their priors or from ``start``."""
    known = calibration.constants()
    free = [c for c in known if c.width > 0]
    fixed = {c.name: c.prior for c in known if c.width == 0}
    problems = Problemset(runs, free, fixed)
    begin = np.array([log((start or {}).get(c.name, c.prior)) for c in free])
    theta, cost = problems.solve(begin)
    return Fit(fixed | {c.name: float(np.exp(t)) for c, t in zip(free, theta, strict=True)}, cost)


def folds(runs: Sequence[Run]) -> list[set[str]]:
    """Models to leave out together: each with :data:`FOLD_ROWS` rows alone, smaller ones by regime."""
    counts: dict[str, int] = defaultdict(int)
    regime: dict[str, str] = {}
    for run in runs:
        counts[run.problem.model.name] += 1
        regime[run.problem.model.name] = regime_of(run.problem)
    out = [{name} for name, n in counts.items() if n >= FOLD_ROWS]
    small: dict[str, set[str]] = defaultdict(set)
    for i, name in enumerate(sorted(name for name, n in counts.items() if n < FOLD_ROWS)):
        small[f"{regime[name]} {i % 3 if regime[name] == 'dense' else 0}"].add(name)
    return out + list(small.values())


def cross_validated(
    runs: Sequence[Run], whole: Fit, left_out: Iterable[Callable[[Run], bool]], say: Callable[[str], Any] = str
) -> list[tuple[Run, float]]:
    """Each left-out run with its error (predicted over measured rate, minus 1) under constants that never saw it."""
    scored: list[tuple[Run, float]] = []
    for out in left_out:
        kept = [run for run in runs if not out(run)]
        gone = [run for run in runs if out(run)]
        if not gone:
            continue
        fit = fitted(kept, whole.values)
        mine = [(run, error_of(run, fit.values)) for run in gone]
        scored += mine
        names = ", ".join(sorted({run.problem.model.name for run in gone}))
        say(f"  {names[:60]:<60} {_figures([error for _, error in mine])}")
    return scored


def error_of(run: Run, values: dict[str, float]) -> float:
    """Predicted over measured rate, minus 1."""
    problem = replace(run.problem, calibration=Calibration(values))
    return run.step_seconds / (step_time(problem, run.layout).step_ns / 1e9 * _routing(run)) - 1


def _figures(errors: Sequence[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"n {len(sizes):>3}  median {median(sizes):6.1%}  mean {mean(sizes):6.1%}  bias {median(errors):+6.1%}"


def _p90(errors: Sequence[float]) -> float:
    ordered = sorted(abs(error) for error in errors)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


@click.command()
@csv_files
@click.option("--no-folds", is_flag=True, help="Fit only; no cross-validation.")
@click.option("--regimes", is_flag=True, help="Leave whole regimes out, too.")
@click.option("--write", is_flag=True, help="Write the constants into the package.")
def main(paths: tuple[str, ...], no_folds: bool, regimes: bool, write: bool) -> None:
    """Fit the step-time constants and cross-validate them by model."""
    runs, skipped = read_runs(paths)
    click.echo(
        f"{len(runs)} runs, {len({run.key for run in runs})} distinct layouts, {sum(skipped.values())} rows skipped"
    )
    whole = fitted(runs)
    for constant in calibration.constants():
        if constant.width:
            click.echo(f"  {constant.name:<24} {whole.values[constant.name]:8.3f}  (prior {constant.prior:g})")
    errors = [error_of(run, whole.values) for run in runs]
    click.echo(f"in sample: {_figures(errors)}")
    scored: list[tuple[Run, float]] = []
    if not no_folds:
        models = [lambda run, names=names: run.problem.model.name in names for names in folds(runs)]  # type: ignore[misc]
        click.echo("leaving models out:")
        scored = cross_validated(runs, whole, models, click.echo)
        click.echo(f"all: {_figures([error for _, error in scored])}")
        for regime in REGIMES:
            mine = [error for run, error in scored if regime_of(run.problem) == regime]
            if mine:
                click.echo(f"  {regime:<20} {_figures(mine)}")
    if regimes:
        click.echo("leaving regimes out:")
        kinds = [lambda run, kind=kind: regime_of(run.problem) == kind for kind in REGIMES]  # type: ignore[misc]
        cross_validated(runs, whole, kinds, click.echo)
    if write:
        _write(whole, scored, paths, len(runs))


def _write(whole: Fit, scored: Sequence[tuple[Run, float]], paths: Sequence[str], count: int) -> None:
    home = Path(calibration.HOME)
    document = json.loads(home.read_text(encoding="utf-8"))
    for name, entry in document["constants"].items():
        entry["value"] = float(f"{whole.values[name]:.4g}")
    if scored:
        document["evidence"] = {
            regime: {"rows": len(mine), "median": round(median(map(abs, mine)), 4), "p90": round(_p90(mine), 4)}
            for regime in REGIMES
            if (mine := [error for run, error in scored if regime_of(run.problem) == regime])
        }
    names = ", ".join(Path(path).name for path in paths)
    document["fitted_on"] = f"{count} runs of {names}; errors in evidence are of models left out of the fit"
    home.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    click.echo(f"written: {home.name}")


if __name__ == "__main__":
    main()
