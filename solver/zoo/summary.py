"""``summary.csv``: a row for every job of the zoo, in the order of the zoo."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from solver.zoo.jobs import Job
from solver.zoo.manifest import Manifest
from solver.zoo.outcome import FACTS, Failure

__all__ = ["COLUMNS", "rows_of", "summary_lines"]

COLUMNS = ("job", "model", "cluster", "gpu", "gpus", "seq_length", "objective", "status", *FACTS, "same_as")


def rows_of(jobs: Iterable[Job], manifest: Manifest, failures: Iterable[Failure]) -> Iterator[Mapping[str, Any]]:
    """What is known of each job: its line in the manifest, why it failed, or that it was not run."""
    failed = {failure.job: {"status": failure.status, "reason": failure.reason} for failure in failures}
    for job in jobs:
        if job.name in manifest:
            yield manifest.entry(job.name)
        else:
            yield {**job.facts(), **failed.get(job.name, {"status": "not run"})}


def summary_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The head of the table, then its rows."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line(_cell(row.get(name)) for name in COLUMNS)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
