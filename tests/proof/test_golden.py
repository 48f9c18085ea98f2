"""Recorded requests without a layout: what is printed, word for word, and what holds for each of them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from constraints.refutation.certificate import read_certificate, verify
from constraints.registry import rule_named
from constraints.rule import Stratum
from tests.cli.running import run
from tests.proof.record import GOLDEN, text_of
from tests.proof.scenarios import SCENARIOS

DECISIONS = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "micro_batch_size", "global_batch_size", "recompute")
ROOT = Path(__file__).parents[2]
SLOW = {"deepseek_v3_96_ep64", "deepseek_v3_96", "kimi_k2_64", "idle_gpus_do_not_help", "batch_1000_on_96"}
SLOW |= {"llama70b_12_request_file", "report_microbatches_fewer_than_stages"}

each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.heavy) if name in SLOW else name for name in SCENARIOS]
)


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")


@each
def test_it_prints_what_was_recorded(name: str) -> None:
    assert text_of(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_every_recorded_text_is_of_a_scenario() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(SCENARIOS)
    assert len(SCENARIOS) >= 40


@each
def test_its_report_is_whole_and_its_certificate_stands(name: str) -> None:
    """Laws and framework rules are never given up."""
    outcome = run("solve", *SCENARIOS[name].split(), "--format", "json")
    report = json.loads(outcome.out)
    said = report["explanation"]
    assert outcome.code == 1
    assert report["status"] == "infeasible"
    done = verify(read_certificate(outcome.out))
    assert report["solver"]["proof"] == done.level
    assert report["solver"]["proof_steps"] == sum(done.leaves.values())
    assert [list(rules) for rules in done.conflicts] == said["conflicts"]
    assert done.ways_out == tuple(way["change"] for way in said["ways_out"])
    assert said["ways_out"], "somebody is left without a way out"
    assert len(said["ways_out"]) <= 6
    assert all(
        1 <= len([s for s in said["because"] if s["conflict"] == n + 1]) <= 7 for n in range(len(done.conflicts))
    )
    for way in said["ways_out"]:
        for word in shlex.split(way["change"]):
            rule = rule_named(word)
            assert rule is None or rule.stratum is Stratum.ADVICE


@pytest.mark.heavy
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_way_out_leads_out_when_it_is_typed(name: str, tmp_path: Path) -> None:
    asked = SCENARIOS[name].split()
    report = json.loads(run("solve", *asked, "--format", "json").out)
    for way in report["explanation"]["ways_out"]:
        outcome = run("solve", *edited(asked, way["edits"], tmp_path / "request.yaml"), "--format", "json")
        assert outcome.code == 0, (way["change"], outcome.out, outcome.err)
        found = json.loads(outcome.out)["layouts"][0]
        if way["best"] and found["gpus_used"] == way["layout"]["gpus_used"]:
            differing = [name for name in DECISIONS if found[name] != way["layout"][name]]
            assert not differing, (way["change"], differing)


def edited(words: list[str], edits: list[dict[str, str | None]], copy: Path) -> list[str]:
    """The command line with the words of each edit instead of those it replaces; flags go before a request file, of which
    ``copy`` is one without the lines that are left out."""
    words = list(words)
    for edit in edits:
        if not edit["type"] and edit["at"] and edit["at"].count(":") == 2:
            file, line, _ = edit["at"].split(":")
            lines = Path(file).read_text(encoding="utf-8").splitlines(keepends=True)
            copy.write_text("".join(lines[: int(line) - 1] + lines[int(line) :]), encoding="utf-8")
            words[words.index(file)] = str(copy)
            continue
        old, new = shlex.split(edit["instead_of"] or ""), shlex.split(edit["type"] or "")
        for at in range(len(words) - len(old) + 1):
            if old and words[at : at + len(old)] == old:
                del words[at : at + len(old)]
                break
        words += new
    return words
