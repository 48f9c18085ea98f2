"""``meshwright verify``: exit codes, both forms of a certificate, and what it never imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import run

ASKED = ("qwen2.5-7b", "--gpus", "64", "--gpu", "h100", "--pin", "tp=8")


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    file = tmp_path / "proof.json"
    assert run("solve", *ASKED, "--certificate", str(file)).code == 1
    return file


def test_a_certificate_is_verified(proof: Path) -> None:
    outcome = run("verify", str(proof))
    assert outcome.code == 0
    assert outcome.out.startswith("verified: no layout of qwen2.5-7b on 64 x h100")
    assert "attention.heads-tp, pin.tp" in outcome.out
    assert "--pin tp=4" in outcome.out


def test_standard_input_and_json(proof: Path) -> None:
    outcome = run("verify", "-", "--format", "json", stdin=proof.read_bytes())
    said = json.loads(outcome.out)
    assert outcome.code == 0
    assert said["verified"] is True
    assert said["conflicts"] == [["attention.heads-tp", "pin.tp"]]


def test_a_report_of_solve_is_verified_too(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert run("solve", *ASKED, "--format", "json", "-o", str(report)).code == 1
    assert run("verify", str(report)).code == 0


def test_a_changed_certificate_is_refuted(proof: Path) -> None:
    data = json.loads(proof.read_text())
    data["request"]["gpus"] = 65
    proof.write_text(json.dumps(data))
    outcome = run("verify", str(proof))
    assert outcome.code == 1
    assert outcome.out.startswith("refuted")
    assert json.loads(run("verify", str(proof), "--format", "json").out)["verified"] is False


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe\x00", b"[" * 10_000])
def test_what_is_no_certificate_is_bad_input(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    outcome = run("verify", str(file))
    assert outcome.code == 2
    assert outcome.err.startswith("error: CERTIFICATE")
    assert "Traceback" not in outcome.err


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    assert run("verify", str(tmp_path / "nothing.json")).code == 2
    assert run("verify", str(tmp_path)).code == 2
    assert run("verify").code == 2


def test_a_request_with_a_layout_leaves_a_certificate_that_none_is_better(tmp_path: Path) -> None:
    file = tmp_path / "best.json"
    asked = ("llama-3.2-1b", "--gpus", "8", "--gpu", "h100", "--global-batch-size", "64")
    outcome = run("solve", *asked, "--format", "json", "--certificate", str(file))
    assert outcome.code == 0
    assert "no layout is better" in outcome.err
    report, said = json.loads(outcome.out), json.loads(run("verify", str(file), "--format", "json").out)
    assert (said["verified"], said["claim"]) == (True, "optimal")
    assert said["value"] / 1e9 == report["objective"]["value"]
    assert all(said["layout"][name] == report["layouts"][0][name] for name in ("tp", "pp", "vpp", "cp", "dp"))
    text = run("verify", str(file)).out
    assert text.startswith("verified: no better layout (step-time) of llama-3.2-1b on 8 x h100")


def test_idle_gpus_are_part_of_both_kinds_of_proof(tmp_path: Path) -> None:
    file = tmp_path / "proof.json"
    asked = ("llama-3.1-70b", "--gpus", "5", "--gpu", "h100", "--allow-idle", "--certificate", str(file))
    outcome = run("solve", *asked)
    assert outcome.code == 1
    assert "nor is there one on 1 to 4 of the GPUs" in outcome.out
    assert "no layout uses 1 to 4 of the 5 GPUs" in run("verify", str(file)).out
    assert run("solve", "llama-3.1-8b", *asked[1:], "--pin", "tp=2").code == 0
    assert json.loads(run("verify", str(file), "--format", "json").out)["fewer_gpus"] == [5]


def test_a_proof_that_is_too_large_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from constraints.refutation import tree

    monkeypatch.setattr(tree, "OPTIMUM", tree.Limits(10, 10))
    file = tmp_path / "none.json"
    outcome = run("solve", "llama-3.2-1b", "--gpus", "8", "--gpu", "h100", "--certificate", str(file))
    assert outcome.code == 0
    assert "no certificate: the proof that no layout is better has more than 10 bounds or 10 leaves" in outcome.err
    assert not file.exists()


def test_the_checker_knows_nothing_of_the_solver(proof: Path) -> None:
    program = (
        "import sys; from cli.main import main\n"
        "try: main(['verify', sys.argv[1]])\n"
        "except SystemExit as left: code = left.code\n"
        "loaded = [m for m in sys.modules if m.split('.')[0] in ('ortools', 'solver', 'pydantic', 'yaml')]\n"
        "assert not [m for m in loaded if m.split('.')[0] in ('ortools', 'solver')], loaded\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(proof)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
