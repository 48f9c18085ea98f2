"""How near the step-time model comes to published runs, and how well it orders them.

``python -m benchmarks.time_accuracy --csv FILE [--csv FILE ...] [--regret] [--format json]``. An error is predicted over
measured tokens/s/GPU, minus 1. Order is looked at among distinct layouts of one model on one GPU; repeated runs of one count
once, at their median, as releases of one layout would rank by release. With ``--regret``, how much slower the published
layout is than meshwright's choice for the same request, in meshwright's own eyes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, median
from typing import Any

import click

from benchmarks.rows import csv_files
from benchmarks.time_rows import Run, read_runs
from constraints.timing.calibration import shipped
from constraints.timing.regime import regime_of
from constraints.timing.step import step_time

__all__ = ["Scored", "board", "order", "scored_runs", "spearman", "summary"]

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


def scored_runs(runs: Iterable[Run], step_seconds: Callable[[Run], float] | None = None) -> list[Scored]:
    """Each run with its predicted rate, by the shipped constants unless ``step_seconds`` says otherwise."""
    seconds = step_seconds or predicted_seconds
    return [Scored(run, run.tokens / seconds(run)) for run in runs]


def predicted_seconds(run: Run) -> float:
    """Seconds of a step; MoE runs without forced balance by the stated factor longer."""
    natural = shipped()["natural_routing"] if run.natural and run.problem.model.is_moe else 1.0
    return step_time(run.problem, run.layout).step_ns / 1e9 * float(natural)


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


def board(paths: Sequence[str], *, regret: bool = False) -> dict[str, Any]:
    """The whole board as JSON holds it; fractions, never percent."""
    runs, skipped = read_runs(paths)
    scored = scored_runs(runs)
    total = {**summary(scored), "rows_skipped": sum(skipped.values()), **order(scored)}
    result = {
        "total": total,
        "by_source": _by(scored, lambda one: one.run.source),
        "by_gpu_and_precision": _by(scored, lambda one: f"{one.run.problem.gpu.name} {one.run.problem.precision}"),
        "by_regime": _by(scored, lambda one: regime_of(one.run.problem)),
        "by_task": _by(scored, lambda one: one.run.problem.task),
        "skipped": dict(skipped.most_common()),
        "worst": [_worst(one) for one in sorted(scored, key=lambda one: -abs(one.error))[:12]],
    }
    if regret:
        from benchmarks.time_regret import regrets

        result["regret"] = regrets(runs)
    return result


def _by(scored: Iterable[Scored], key: Callable[[Scored], str]) -> dict[str, Any]:
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[key(one)].append(one)
    return {name: summary(some) for name, some in sorted(groups.items())}


def _worst(one: Scored) -> dict[str, Any]:
    run, x = one.run, one.run.layout
    return {
        "name": run.name,
        "source": run.source,
        "gpu": run.problem.gpu.name,
        "gpus": run.problem.gpus,
        "precision": run.problem.precision,
        "stack": run.problem.stack,
        "layout": {name: getattr(x, name) for name in ("tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch_size")},
        "measured_tokens_per_second_per_gpu": round(run.tokens_per_second, 1),
        "predicted_tokens_per_second_per_gpu": round(one.predicted, 1),
        "error": round(one.error, 4),
    }


def _text(result: dict[str, Any]) -> str:
    total = result["total"]
    lines = [
        f"{total['rows_scored']} rows scored, {total['rows_skipped']} skipped; absolute error of tokens/s/GPU: median "
        f"{total['median_absolute_error']:.1%}, mean {total['mean_absolute_error']:.1%}, bias {total['bias']:+.1%}",
        f"order: {total['pairs_ordered_rightly']:.0%} of {total['pairs']} pairs right, rank correlation "
        f"{total['rank_correlation']} (median of {len(total['rank_correlations'])} groups)",
    ]
    for title in ("by_regime", "by_gpu_and_precision", "by_source"):
        lines.append("")
        for name, some in result[title].items():
            figures = f"{some['median_absolute_error']:7.1%} {some['mean_absolute_error']:7.1%} {some['bias']:+7.1%}"
            lines.append(f"{name[:60]:<60} {some['rows_scored']:>4} {figures}")
    lines.append("")
    lines += [f"skipped: {count} x {reason}" for reason, count in result["skipped"].items()]
    if "regret" in result:
        found = result["regret"]
        lines.append(f"regret: median {found['median']:.1%}, mean {found['mean']:.1%}, {found['layouts']} layouts")
        lines += [
            f"  {case['regret']:6.1%}  {case['name']}: {case['published']} -> {case['chosen']}"
            for case in found["worst"]
        ]
    return "\n".join(lines)


@click.command()
@csv_files
@click.option("--regret", is_flag=True, help="Also solve each row's request: minutes.")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def main(paths: tuple[str, ...], regret: bool, format_: str) -> None:
    """Score the step-time model against published runs."""
    result = board(paths, regret=regret)
    click.echo(json.dumps(result, indent=1) if format_ == "json" else _text(result))


if __name__ == "__main__":
    main()
