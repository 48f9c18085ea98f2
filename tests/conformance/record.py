"""Ask the real Megatron and write down what it says. Run by hand, in an environment of its own (``setup.sh``).

    python -m tests.conformance.record questions --seed 20261125 --count 12000
    python -m tests.conformance.record answers
    python -m tests.conformance.record placement

``--source DIRECTORY`` (repeatable) puts a checkout before the installed packages.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance.megatron import stand_ins
from tests.conformance.verdict_file import FOLDER, Recorded, write_verdicts

__all__ = ["main"]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Record the verdicts of the real Megatron.")
    parser.add_argument("what", choices=("questions", "answers", "placement"))
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--source", type=Path, action="append", default=[])
    parser.add_argument("--asked", type=Path, help="answers: the file that tests.conformance.answers wrote")
    chosen = parser.parse_args(words)
    versions = stand_ins.install(chosen.source)
    head = {**versions, "date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    label = f"mcore-{versions['megatron_core']}_bridge-{versions['megatron_bridge']}"
    started = time.monotonic()
    if chosen.what == "questions":
        head |= {"seed": chosen.seed}
        write_verdicts(FOLDER / f"{label}.jsonl.gz", head, _asked(chosen.seed, chosen.count))
    elif chosen.what == "answers":
        from tests.conformance.record_answers import record

        record(FOLDER / f"answers_{label}.jsonl.gz", head, chosen.asked)
    else:
        from tests.conformance.record_placement import record_groups

        record_groups(FOLDER / f"placement_{label}.jsonl.gz", head)
    print(f"{label}: {chosen.what} in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _asked(seed: int, count: int) -> Iterator[Recorded]:
    from tests.conformance.megatron.examination import examine
    from tests.conformance.megatron.job import Job, NotDrivable
    from tests.conformance.questions import questions

    for number, line in enumerate(questions(seed, count), start=1):
        try:
            verdict = examine(Job.of_line(line))
        except NotDrivable:
            continue
        yield Recorded(line, verdict.stage, verdict.error, verdict.where, verdict.remarks)
        if number % 1000 == 0:
            print(f"{number} of {count}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
