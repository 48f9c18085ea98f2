"""``check --batch`` says of 119 configurations what the real Megatron Bridge says of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cli.batch import verdicts
from solver.request import Request

CASES = Path(__file__).parent.parent / "data" / "megatron_verdicts.jsonl"

STRICTER = {"V? negative middle (megatron bug)": ["pipeline.pp-first-last-sane"]}
"""Where meshwright refuses what Megatron lets pass, and by which of its own rules: a stage of -8 layers."""


def judged() -> list[tuple[bool, dict[str, Any]]]:
    """(Megatron accepts it, our verdict) of every case, all judged in one batch."""
    cases = [json.loads(line) for line in CASES.read_text(encoding="utf-8").splitlines()]
    lines = b"".join(json.dumps(case["line"]).encode() + b"\n" for case in cases)
    found = [verdict for verdict, _ in verdicts(io.BytesIO(lines), CASES.name, Request())]
    return [(case["accepted"], verdict) for case, verdict in zip(cases, found, strict=True)]


JUDGED = judged()


def test_the_sample_holds_both_verdicts():
    accepted = [verdict for accepts, verdict in JUDGED if accepts]
    assert (len(JUDGED), len(accepted)) == (119, 58)


@pytest.mark.parametrize(("accepted", "verdict"), JUDGED, ids=[verdict["name"] for _, verdict in JUDGED])
def test_the_verdict_is_megatrons(accepted, verdict):
    broken = [violation["rule"] for violation in verdict.get("violations", [])]
    if verdict["name"] in STRICTER:
        assert accepted
        assert broken == STRICTER[verdict["name"]]
        return
    assert verdict["legal"] is accepted, verdict.get("error") or verdict["violations"]


@pytest.mark.parametrize("name", ["I experts%ep", "I ffn%tp", "I moe tp>1 no sp", "I hcp product", "I vpp M<pp"])
def test_a_refusal_names_one_rule_for_one_mistake(name):
    verdict = next(verdict for _, verdict in JUDGED if verdict["name"] == name)
    assert len(verdict["violations"]) == 1, verdict["violations"]
