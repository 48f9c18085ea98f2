"""The real Megatron accepts what ``solve`` answers, read by Bridge's own parser from what was emitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.verdict_file import FOLDER, read_verdicts

FILES = sorted(FOLDER.glob("answers_*.jsonl.gz"))


def test_answers_are_recorded() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))
def test_every_answer_is_accepted(path: Path) -> None:
    head, recorded = read_verdicts(path)
    assert len(recorded) == head["questions"] >= 1000
    assert len({each.line["model"] for each in recorded}) >= 40
    assert len({each.line["gpus"] for each in recorded}) >= 10
    refused = [(each.line["model"], each.line["gpus"], each.error) for each in recorded if not each.accepted]
    assert not refused
    assert not [each.remarks for each in recorded if each.remarks]
