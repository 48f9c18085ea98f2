"""A run of a zoo that tests can kill: ``python -m tests.zoo.driver ZOO DIR``, with work that costs nothing."""

from __future__ import annotations

import sys

from solver.zoo.file import read_zoo
from solver.zoo.guard import Limits
from solver.zoo.jobs import Jobs
from solver.zoo.outcome import Failure, Totals
from solver.zoo.pool import LocalPool
from solver.zoo.run import run_jobs
from solver.zoo.store import Store, maker
from tests.zoo.workloads import quick


class Silent:
    """A watcher that keeps what it is told."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.seen: list[int] = []

    def began(self, totals: Totals) -> None:
        self.seen.append(totals.done)

    def advanced(self, totals: Totals) -> None:
        self.seen.append(totals.done)

    def failed(self, failure: Failure) -> None:
        self.failures.append(failure)


def main(zoo: str, out: str) -> int:
    limits = Limits()
    store = Store(out, resume=True, maker=maker(limits))
    with LocalPool(2, limits) as pool:
        totals = run_jobs(Jobs(read_zoo(zoo)), store, pool, quick, limits, Silent())
    store.close()
    return totals.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
