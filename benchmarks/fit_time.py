"""Fit the constants of the step-time model to published runs, with priors, and say how good it is on models left out.

``python -m benchmarks.fit_time --csv FILE [--csv FILE ...] [--regimes] [--write]``. Needs numpy (extra ``benchmarks``).
Written are the shipped constants with the errors that models left out of the fit have, and the constants of each fold
(:mod:`benchmarks.left_out`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import click

from benchmarks import left_out
from benchmarks.fitting import Fit, fitted
from benchmarks.rows import csv_files
from benchmarks.time_rows import Run, read_runs
from benchmarks.time_scores import Scored, order, scored, summary
from constraints.timing import calibration
from constraints.timing.calibration import Calibration
from constraints.timing.regime import REGIMES, regime_of

__all__ = ["cross_validated", "main"]


def cross_validated(
    runs: Sequence[Run], whole: Fit, groups: Iterable[Sequence[Run]]
) -> Iterator[tuple[Fit, list[Scored]]]:
    """Of each group of runs: the constants fitted to all the others, and the group scored by them."""
    for gone in groups:
        out = set(map(id, gone))
        fit = fitted([run for run in runs if id(run) not in out], whole.values)
        yield fit, [scored(run, Calibration(fit.values)) for run in gone]


def by_fold(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each fold's models."""
    folds = ([run for run in runs if run.problem.model.name in models] for models in left_out.folds(runs))
    return [mine for mine in folds if mine]


def by_regime(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each regime."""
    regimes = ([run for run in runs if regime_of(run.problem) == regime] for regime in REGIMES)
    return [mine for mine in regimes if mine]


@click.command()
@csv_files
@click.option("--no-folds", is_flag=True, help="Fit only; no cross-validation.")
@click.option("--regimes", is_flag=True, help="Leave whole regimes out, too.")
@click.option("--write", is_flag=True, help="Write the constants, and those of each fold.")
def main(paths: tuple[str, ...], no_folds: bool, regimes: bool, write: bool) -> None:
    """Fit the step-time constants and cross-validate them by model."""
    runs, skipped = read_runs(paths)
    if not runs:
        raise click.ClickException("no row can be used")
    if write and no_folds:
        raise click.UsageError("--write needs the folds: their errors and constants are written, too")
    click.echo(
        f"{len(runs)} runs, {len({run.key for run in runs})} distinct layouts, {sum(skipped.values())} rows skipped"
    )
    whole = fitted(runs)
    for constant in calibration.constants():
        if constant.width:
            click.echo(f"  {constant.name:<24} {whole.values[constant.name]:8.3f}  (prior {constant.prior:g})")
    _say("in sample", [scored(run, Calibration(whole.values)) for run in runs])
    if not no_folds:
        found = _left_out("models", runs, whole, by_fold(runs))
        for mine in by_regime(runs):
            kept = set(map(id, mine))
            _say(regime_of(mine[0].problem), [one for _, some in found for one in some if id(one.run) in kept])
    if regimes:
        _left_out("regimes", runs, whole, by_regime(runs))
    if write:
        _write(whole, found, f"{len(runs)} runs of {', '.join(Path(path).name for path in paths)}")


def _left_out(
    what: str, runs: Sequence[Run], whole: Fit, groups: Sequence[Sequence[Run]]
) -> list[tuple[Fit, list[Scored]]]:
    click.echo(f"leaving {what} out:")
    found = []
    for fit, some in cross_validated(runs, whole, groups):
        _say(", ".join(sorted({one.run.problem.model.name for one in some})), some)
        found.append((fit, some))
    every = [one for _, some in found for one in some]
    _say("all", every)
    ordered = order(every)
    click.echo(f"  order: {ordered['pairs_ordered_rightly']} of {ordered['pairs']}, {ordered['rank_correlation']}")
    return found


def _say(name: str, some: Sequence[Scored]) -> None:
    of = summary(some)
    figures = (
        f"median {of['median_absolute_error']:6.1%}  mean {of['mean_absolute_error']:6.1%}  bias {of['bias']:+6.1%}"
    )
    click.echo(f"  {name[:60]:<60} n {len(some):>3}  {figures}")


def _p90(errors: Sequence[float]) -> float:
    ordered = sorted(errors)
    return ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]


def _write(whole: Fit, folds: Sequence[tuple[Fit, list[Scored]]], fitted_on: str) -> None:
    document = json.loads(calibration.HOME.read_text(encoding="utf-8"))
    for name, value in _rounded(whole).items():
        document["constants"][name]["value"] = value
    every = [one for _, some in folds for one in some]
    document["evidence"] = {
        regime: {"rows": len(errors), "median": round(median(errors), 4), "p90": round(_p90(errors), 4)}
        for regime in REGIMES
        if (errors := [abs(one.error) for one in every if regime_of(one.run.problem) == regime])
    }
    document["fitted_on"] = f"{fitted_on}; errors in evidence are of models left out of the fit"
    calibration.HOME.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    constants = [({one.run.problem.model.name for one in some}, _rounded(fit)) for fit, some in folds]
    left_out.HOME.write_text(left_out.text_of(document["fitted_on"], constants), encoding="utf-8")
    click.echo(f"written: {calibration.HOME.name}, {left_out.HOME.name}")


def _rounded(fit: Fit) -> dict[str, float]:
    return {name: float(f"{value:.4g}") for name, value in fit.values.items()}


if __name__ == "__main__":
    main()
