"""How far a run is, on standard error: a bar where there is a terminal, failures as they come everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.streams import remark
from solver.zoo.outcome import Failure, Totals
from solver.zoo.run import Watcher

if TYPE_CHECKING:  # only a terminal needs it
    from rich.progress import Progress

__all__ = ["progress"]


@contextmanager
def progress() -> Iterator[Watcher]:
    """A watcher for one run; nothing moves unless standard error is a terminal."""
    if not sys.stderr.isatty():
        yield _Quiet()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        yield _Bar(bar)


class _Quiet:
    """Tells of failures only."""

    def began(self, totals: Totals) -> None:
        if totals.kept:
            remark(f"{totals.kept} of {totals.jobs} jobs were finished before")

    def advanced(self, totals: Totals) -> None:
        pass

    def failed(self, failure: Failure) -> None:
        remark(f"{failure.status}: {failure.job}: {failure.reason}")


class _Bar(_Quiet):
    """The same above a bar with rate, time left and what there is so far."""

    def __init__(self, bar: Progress) -> None:
        self.bar = bar
        self.task = bar.add_task("jobs", total=None, rate="", words="")

    def began(self, totals: Totals) -> None:
        self.bar.reset(self.task, total=totals.jobs, completed=totals.kept, rate="", words="")

    def advanced(self, totals: Totals) -> None:
        task = self.bar.tasks[0]
        rate = (totals.done - totals.kept) / task.elapsed if task.elapsed else 0.0
        words = ", ".join(f"{count} {status}" for status, count in sorted(totals.by_status.items()))
        self.bar.update(self.task, completed=totals.done, rate=f"{rate:.1f}/s", words=words)

    def failed(self, failure: Failure) -> None:
        self.bar.console.print(f"{failure.status}: {failure.job}: {failure.reason}", markup=False, highlight=False)
