"""Ask the real Megatron and write down what it says. Run by hand, in an environment of its own (``setup.sh``).

    python -m tests.conformance.record questions --seed 20261125 --count 12000
    python -m tests.conformance.record answers
    python -m tests.conformance.record placement

``--source DIRECTORY`` (repeatable) puts a checkout before the installed packages; ``--commit REPOSITORY@COMMIT`` says which.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conformance.megatron import stand_ins
from tests.conformance.verdict_file import FOLDER, Recorded, write_verdicts

__all__ = ["main"]

NOT_ASKED = "not asked"
"""The stage of a question that cannot be driven."""

ASK_AGAIN = "null"
"""What may be written in the place of an answer, where the driver was mended."""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Record the verdicts of the real Megatron.")
    parser.add_argument("what", choices=("questions", "answers", "placement"))
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--source", type=Path, action="append", default=[])
    parser.add_argument("--commit", action="append", default=[])
    parser.add_argument("--asked", type=Path, help="answers: the file that tests.conformance.answers wrote")
    chosen = parser.parse_args(words)
    versions = stand_ins.install(chosen.source)
    head: dict[str, Any] = {**versions, "commits": chosen.commit} if chosen.commit else dict(versions)
    head |= {"date": datetime.datetime.now(datetime.UTC).date().isoformat()}
    label = f"mcore-{versions['megatron_core']}_bridge-{versions['megatron_bridge']}"
    started = time.monotonic()
    if chosen.what == "questions":
        head |= {"seed": chosen.seed}
        path = FOLDER / f"{label}.jsonl.gz"
        write_verdicts(path, head, _asked(chosen.seed, chosen.count, path.with_suffix(".part")))
    elif chosen.what == "answers":
        from tests.conformance.record_answers import record

        record(FOLDER / f"answers_{label}.jsonl.gz", head, chosen.asked)
    else:
        from tests.conformance.record_placement import record_groups

        record_groups(FOLDER / f"placement_{label}.jsonl.gz", head)
    print(f"{label}: {chosen.what} in {time.monotonic() - started:.0f} s", file=sys.stderr)


def _asked(seed: int, count: int, part: Path) -> Iterator[Recorded]:
    """Ask; ``part`` keeps the answers as they come, so that a recording that was cut off goes on where it was."""
    from tests.conformance.megatron.examination import examine
    from tests.conformance.megatron.job import Job, NotDrivable
    from tests.conformance.questions import questions

    part.parent.mkdir(parents=True, exist_ok=True)
    known = part.read_text(encoding="utf-8").splitlines() if part.exists() else []
    again = [number for number, text in enumerate(known) if text == ASK_AGAIN]
    with part.open("a", encoding="utf-8") as file:
        for number, line in enumerate(questions(seed, count)):
            if number >= len(known) or known[number] == ASK_AGAIN:
                try:
                    verdict = examine(Job.of_line(line))
                    answer = [verdict.stage, verdict.error, verdict.where, verdict.remarks]
                except NotDrivable:
                    answer = []
                if number < len(known):
                    known[number] = json.dumps(answer)
                else:
                    known.append(json.dumps(answer))
                    print(known[-1], file=file, flush=True)
            stage, error, where, remarks = json.loads(known[number]) or (NOT_ASKED, "", "", ())
            if stage != NOT_ASKED and not _out_of_reach(line["model"]):
                yield Recorded(line, stage, error, where, tuple(remarks))
    if again:
        part.write_text("".join(text + "\n" for text in known), encoding="utf-8")


def _out_of_reach(model: dict[str, Any]) -> bool:
    """Models whose layers Bridge takes from elsewhere: MTP beside gated delta nets, and hyper-connections."""
    delta = bool(model.get("experimental_attention_variant")) and bool(model.get("mtp_num_layers"))
    return delta or bool(model.get("enable_mhc_connections"))


if __name__ == "__main__":
    main(sys.argv[1:])
