"""How near the step-time model comes to published runs, and how well it orders them.

``python -m benchmarks.time_accuracy --csv FILE [--csv FILE ...] [--regret] [--format json]``. The figures of ``total`` are
those of the shipped constants; under ``left_out`` each run is judged by constants that never saw its model
(:mod:`benchmarks.left_out`). With ``--regret``, how much slower the published layout is than meshwright's choice for the same
request, in meshwright's own eyes, those constants, too, not having seen the model.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from benchmarks.left_out import calibration_without
from benchmarks.rows import csv_files
from benchmarks.time_rows import read_runs
from benchmarks.time_scores import Scored, order, scored, summary
from constraints.timing.regime import regime_of

__all__ = ["board"]

WIDTH = 60


def board(paths: Sequence[str], *, regret: bool = False) -> dict[str, Any]:
    """The whole board as JSON holds it; fractions, never percent."""
    runs, skipped = read_runs(paths)
    scores = [scored(run) for run in runs]
    unseen = [scored(run, calibration_without(run.problem.model.name)) for run in runs]
    result = {
        "total": {**summary(scores), "rows_skipped": sum(skipped.values()), **order(scores)},
        "left_out": {**summary(unseen), **order(unseen), "by_regime": _by(unseen, _regime)},
        "by_source": _by(scores, lambda one: one.run.source),
        "by_gpu_and_precision": _by(scores, lambda one: f"{one.run.problem.gpu.name} {one.run.problem.precision}"),
        "by_regime": _by(scores, _regime),
        "by_task": _by(scores, lambda one: one.run.problem.task),
        "skipped": dict(skipped.most_common()),
        "worst": [_worst(one) for one in sorted(scores, key=lambda one: -abs(one.error))[:12]],
    }
    if regret:
        from benchmarks.time_regret import regrets

        result["regret"] = regrets(runs)
    return result


def _regime(one: Scored) -> str:
    return regime_of(one.run.problem)


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
    total, unseen = result["total"], result["left_out"]
    lines = [f"{total['rows_scored']} rows scored, {total['rows_skipped']} skipped"]
    if total["rows_scored"]:
        lines.append("absolute error of tokens/s/GPU, median and mean, and bias")
        lines += [_line("shipped constants", total), _line("constants that never saw the model", unseen)]
        lines += [_order("shipped constants", total), _order("constants that never saw the model", unseen)]
    for title in ("by_regime", "by_gpu_and_precision", "by_source"):
        lines += ["", *(_line(name, some) for name, some in result[title].items())]
    lines += ["", *(f"skipped: {count} x {reason}" for reason, count in result["skipped"].items())]
    if "regret" in result:
        lines += ["", *_regret(result["regret"])]
    return "\n".join(lines)


def _line(name: str, some: dict[str, Any]) -> str:
    figures = f"{some['median_absolute_error']:7.1%} {some['mean_absolute_error']:7.1%} {some['bias']:+7.1%}"
    return f"{name[-WIDTH:]:<{WIDTH}} {some['rows_scored']:>4} {figures}"


def _order(name: str, some: dict[str, Any]) -> str:
    right = "no pairs" if not some["pairs"] else f"{some['pairs_ordered_rightly']:.0%} of {some['pairs']} pairs right"
    groups = f"(median of {len(some['rank_correlations'])} groups)"
    return f"order, {name}: {right}, rank correlation {some['rank_correlation']} {groups}"


def _regret(found: dict[str, Any]) -> list[str]:
    if not found["layouts"]:
        return ["regret: no layout to judge"]
    return [
        f"regret of {found['layouts']} layouts: median {found['median']:.1%}, mean {found['mean']:.1%}; "
        f"schedules played through: median {found['replayed_median']:.1%}, mean {found['replayed_mean']:.1%}",
        *(
            f"  {case['regret']:6.1%} {case['replayed']:+7.1%}  {case['name']}: {case['published']} -> {case['chosen']}"
            for case in found["worst"]
        ),
    ]


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
