"""Files of recorded verdicts: compressed JSON lines, a head with versions, seed and date, then one question a line.

Models, layouts' words and errors that come again stand once, in tables of the head.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "Recorded", "read_verdicts", "recordings", "write_verdicts"]

FOLDER = Path(__file__).parent / "verdicts"
LONGEST_ERROR = 160


@dataclass(frozen=True)
class Recorded:
    """A line of ``check --batch`` and what Megatron said: ``stage`` is ``None`` if it accepts."""

    line: dict[str, Any]
    stage: str | None
    error: str
    where: str
    remarks: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        return self.stage is None


class _Table:
    """Values that come again, by place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        return self.places.setdefault(json.dumps(value), len(self.places))

    @property
    def values(self) -> list[Any]:
        return [json.loads(text) for text in self.places]


def write_verdicts(path: Path, head: dict[str, Any], recorded: Iterable[Recorded]) -> None:
    """Write ``recorded`` to ``path``; the same content gives the same bytes."""
    models, words, verdicts, rows = _Table(), _Table(), _Table(), []
    for each in recorded:
        line = dict(each.line)
        model, layout = line.pop("model"), line.pop("layout")
        verdict = [each.stage, each.error[:LONGEST_ERROR], each.where, list(each.remarks)]
        chosen = [words.place([name, value]) for name, value in layout.items()]
        rows.append([models.place(model), chosen, line, verdicts.place(verdict)])
    tables = {"models": models.values, "words": words.values, "verdicts": verdicts.values}
    lines = [{**head, "questions": len(rows)}, tables, *rows]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        zipped.write(text.encode())


def read_verdicts(path: Path) -> tuple[dict[str, Any], list[Recorded]]:
    """(head, what was recorded)."""
    with gzip.open(path) as zipped:
        lines = [json.loads(line) for line in io.TextIOWrapper(zipped, encoding="utf-8")]
    head, tables, rows = lines[0], lines[1], lines[2:]
    found = []
    for model, chosen, line, verdict in rows:
        stage, error, where, remarks = tables["verdicts"][verdict]
        layout = dict(tables["words"][place] for place in chosen)
        line = {**line, "model": tables["models"][model], "layout": layout}
        found.append(Recorded(line, stage, error, where, tuple(remarks)))
    return head, found


def recordings() -> list[Path]:
    """Every file of recorded questions, oldest Megatron first."""
    return sorted(FOLDER.glob("mcore-*.jsonl.gz"))
