"""How far the memory estimate is from what PyTorch measured: ``python -m benchmarks.memory_accuracy --csv FILE ...``.

Scored are rows with a measured peak of at least ``--min-gib`` and a known world size; rows of one configuration count once
(their mean). Errors are ``(estimate - measured) / measured`` of allocated memory on the stage that was measured. Runs that
are known to have run out are judged too, measured or not: none should be called ``fits``.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

import click

from benchmarks.golden_rows import measured_golden
from benchmarks.memory_rows import Measured, measured_run
from benchmarks.rows import Row, Skipped, csv_files, read_rows
from constraints.memory.budget import StageMemory, memory_report
from constraints.problem import GIB

__all__ = ["main"]


@dataclass(frozen=True)
class Scored:
    """One configuration: its name and source, the measured memory, the estimate and its interval in GiB."""

    name: str
    source: str
    measured: float | None
    estimate: float
    low: float
    high: float
    verdict: str
    ran_out: bool

    @property
    def error(self) -> float:
        """Estimate over measurement, minus 1."""
        return self.estimate / self.measured - 1 if self.measured else 0.0


def measured_row(row: Row) -> Measured:
    """The row as a measurement, whichever kind of file it is from. Raises :class:`~benchmarks.rows.Skipped`."""
    return measured_golden(row) if "mem_max_allocated_last_bytes" in row else measured_run(row)


def score(rows: list[Measured]) -> Scored:
    """The estimate for rows of one configuration."""
    row = rows[0]
    report = memory_report(row.problem, row.layout)
    if report is None:
        raise Skipped("layers are not placed")
    stages = {stage.rank: _at(stage, row.moment) for stage in report.stages}
    estimate = max(stages.values()) if row.stage is None else stages[row.stage]
    scale = estimate / report.allocated_bytes / GIB
    peaks = [r.peak_gib for r in rows if r.peak_gib is not None]
    return Scored(
        row.name,
        row.source,
        mean(peaks) if peaks else None,
        estimate / GIB,
        report.low_bytes * scale,
        report.high_bytes * scale,
        report.verdict,
        any(r.ran_out for r in rows),
    )


def _at(stage: StageMemory, moment: str) -> int:
    """Bytes of a stage at the moment that a row speaks of."""
    if moment == "resting":
        return stage.resting_bytes
    return stage.allocated_bytes - (stage.components["optimizer"] if moment == "first" else 0)


def summary(scores: list[Scored]) -> dict[str, Any]:
    """Figures over some scored rows, as fractions."""
    measured = [s for s in scores if s.measured is not None]
    errors = [s.error for s in measured]
    return {
        "rows_scored": len(measured),
        "mean_absolute_error": round(mean(map(abs, errors)), 4) if errors else None,
        "median_absolute_error": round(median(map(abs, errors)), 4) if errors else None,
        "bias": round(median(errors), 4) if errors else None,
        "above_8_percent": round(sum(abs(e) > 0.08 for e in errors) / len(errors), 4) if errors else None,
        "inside_interval": round(mean(s.low <= (s.measured or 0) <= s.high for s in measured), 4) if errors else None,
        "ran_out": sum(s.ran_out for s in scores),
        "ran_out_but_fits": [s.name for s in scores if s.ran_out and s.verdict == "fits"],
    }


def board(paths: tuple[str, ...], least_gib: float) -> dict[str, Any]:
    """The whole scoreboard as it is printed."""
    groups: dict[tuple[object, ...], list[Measured]] = defaultdict(list)
    skipped: Counter[str] = Counter()
    for path in paths:
        for raw in read_rows(path):
            try:
                row = measured_row(raw)
                if row.peak_gib is not None and row.peak_gib < least_gib:
                    raise Skipped(f"peak below {least_gib:g} GiB")
                groups[row.key].append(row)
            except Skipped as skip:
                skipped[skip.reason] += 1
    scores: list[Scored] = []
    repeated = 0
    for rows in groups.values():
        try:
            scores.append(score(rows))
            repeated += len(rows) - 1
        except Skipped as skip:
            skipped[skip.reason] += len(rows)
    by_source: dict[str, list[Scored]] = defaultdict(list)
    for scored in scores:
        by_source[scored.source].append(scored)
    worst = sorted((s for s in scores if s.measured), key=lambda s: -abs(s.error))[:12]
    return {
        "total": {**summary(scores), "rows_skipped": sum(skipped.values()), "rows_repeated": repeated},
        "by_source": {source: summary(some) for source, some in sorted(by_source.items())},
        "skipped": dict(skipped.most_common()),
        "worst": [
            {
                "name": s.name,
                "source": s.source,
                "measured_gib": round(s.measured or 0, 2),
                "estimate_gib": round(s.estimate, 2),
                "interval_gib": [round(s.low, 2), round(s.high, 2)],
                "error": round(s.error, 4),
            }
            for s in worst
        ],
    }


@click.command()
@csv_files
@click.option("--min-gib", "least_gib", type=float, default=4.0, show_default=True)
@click.option("--format", "format_", type=click.Choice(("json",)), default="json", show_default=True)
def main(paths: tuple[str, ...], least_gib: float, format_: str) -> None:
    """Score the memory model against measured peaks."""
    click.echo(json.dumps(board(paths, least_gib), indent=1))


if __name__ == "__main__":
    main()
