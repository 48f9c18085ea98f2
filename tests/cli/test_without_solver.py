"""Without ortools: what needs it says what to install, and everything else works as ever."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.cli.running import Outcome

SMALL = ("llama-3.1-8b", "--gpus", "8", "--gpu", "h100")
WITHOUT = "import sys; sys.modules['ortools'] = None; from cli.main import main; main()"


def run(*args: str) -> Outcome:
    """The command in a process where ortools cannot be imported."""
    done = subprocess.run([sys.executable, "-c", WITHOUT, *args], capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ("solve", *SMALL),
        ("counts", "llama-3.1-8b", "--gpu", "h100", "--between", "8", "9"),
        ("zoo", "examples/zoo/first.yaml", "--out", "{out}"),
    ],
)
def test_what_needs_it_says_what_to_install(args, tmp_path):
    outcome = run(*(word.format(out=tmp_path / "out") for word in args))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ortools, which looks for layouts, cannot be imported (")
    assert outcome.err.endswith("): pip install ortools\n")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_still_bad_input():
    assert "is not in the catalog" in run("solve", "llama-9", "--gpus", "8", "--gpu", "h100").err


def test_a_verdict_does_not_need_it():
    assert run("check", *SMALL, "tp=2", "sp=true").code == 0
    illegal = run(
        "check", "deepseek-v3", "--gpus", "256", "--gpu", "h100", "tp=2", "pp=16", "ep=64", "--format", "json"
    )
    verdict = json.loads(illegal.out)
    assert illegal.code == 1 and verdict["violations"] and verdict["nearest"] is None
    assert illegal.err == "the nearest legal layout was not looked for: ortools is not installed\n"
