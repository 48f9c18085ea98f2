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


def test_a_request_with_a_layout_leaves_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    outcome = run("solve", "llama-3.2-1b", "--gpus", "8", "--gpu", "h100", "--certificate", str(file))
    assert outcome.code == 0
    assert "no certificate: there is a layout" in outcome.err
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
