"""Hand answers of ``solve`` to the real Megatron as what was emitted: Bridge's own parser reads the overrides."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from tests.conformance.megatron.examination import examine
from tests.conformance.megatron.job import Job, NotDrivable
from tests.conformance.verdict_file import Recorded, write_verdicts

__all__ = ["overrides_of", "record"]


def overrides_of(text: str) -> list[str]:
    """The Hydra words of an emitted command, after the recipe's name."""
    words = shlex.split(text.replace("\\\n", " "), comments=True)
    return words[words.index("--recipe") + 2 :]


def record(path: Path, head: dict[str, Any], asked: Path) -> None:
    """Write Megatron's verdict on every answer in ``asked`` that it can build; the head counts the others."""
    part = path.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    known = part.read_text(encoding="utf-8").splitlines() if part.exists() else []
    answers = [json.loads(text) for text in asked.read_text(encoding="utf-8").splitlines()]
    with part.open("a", encoding="utf-8") as file:
        for answer in answers[len(known) :]:
            known.append(json.dumps(_verdict(answer)))
            print(known[-1], file=file, flush=True)
    verdicts = [json.loads(text) for text in known]
    found = [Recorded(_line(answer), *verdict) for answer, verdict in zip(answers, verdicts, strict=True) if verdict]
    write_verdicts(path, {**head, "not_driven": verdicts.count(None)}, found)


def _verdict(answer: dict[str, Any]) -> list[Any] | None:
    job = Job(answer["gpus"], answer["gpu"], answer["seq_length"], answer["model"], {}, answer["precision"])
    try:
        verdict = examine(job, overrides_of(answer["text"]))
    except NotDrivable:
        return None
    return [verdict.stage, verdict.error, verdict.where, list(verdict.remarks)]


def _line(answer: dict[str, Any]) -> dict[str, Any]:
    line = {name: answer[name] for name in ("gpus", "gpu", "seq_length", "precision", "objective")}
    words = dict(word.split("=", 1) for word in overrides_of(answer["text"]))
    return {**line, "model": answer["model"]["name"], "layout": words}
