"""Exit codes, and leaving quietly: 0 found, 1 none, 2 bad input, 3 undecided, 70 a disagreement; pipes and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.running import Outcome, run

MESHWRIGHT = [sys.executable, "-m", "cli.main"]
SMALL = ("llama-3.1-8b", "--gpus", "8", "--gpu", "h100")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("--help",), 0),
        (("-h",), 0),
        (("check", "--help"), 0),
        (("--version",), 0),
        (("solve", *SMALL), 0),
        (("solve", *SMALL, "--pin", "tp=3"), 1),
        (("solve", *SMALL, "--gpus", "0"), 2),
        (("check", *SMALL, "tp=2", "sp=true"), 0),
        (("check", *SMALL, "tp=3"), 1),
        (("check", "llama-3.1-70b", "--gpus", "8", "--gpu", "h100", "tp=8", "sp=true", "gbs=8"), 1),
        (("check", *SMALL, "tp=x"), 2),
        (("rules",), 0),
        (("completion", "bash"), 0),
    ],
)
def test_exit_codes(args, code):
    outcome = run(*args)
    assert outcome.code == code, outcome
    assert (outcome.out != "") == (code != 2)
    assert (outcome.err != "") == (code == 2)


def test_no_command_shows_the_help_as_an_error():
    outcome = run()
    assert outcome.code == 2
    assert "Usage" in outcome.out + outcome.err


def test_undecided(monkeypatch):
    from solver.search import Found

    monkeypatch.setattr("solver.synthesis.best_layouts", lambda *args, **kwargs: Found("unknown", ()))
    outcome = run("solve", *SMALL)
    assert outcome.code == 3
    assert "undecided" in outcome.out


def test_a_disagreement_is_never_an_answer(monkeypatch):
    from solver.search import Disagreement

    def disagree(*args, **kwargs):
        raise Disagreement("the solver's layout breaks mesh.world-dense")

    monkeypatch.setattr("solver.synthesis.best_layouts", disagree)
    outcome = run("solve", *SMALL)
    assert (outcome.code, outcome.out) == (70, "")
    assert "mesh.world-dense" in outcome.err and "Traceback" not in outcome.err


def test_an_output_file_gets_the_result_and_standard_output_nothing(tmp_path):
    path = tmp_path / "out.json"
    outcome = run("check", *SMALL, "--format", "json", "-o", str(path), "tp=2", "sp=true")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", f"written: {path}\n")
    assert json.loads(path.read_text())["legal"]
    assert [found.name for found in tmp_path.iterdir()] == ["out.json"]


def test_an_output_is_written_through_links_and_devices_are_not_replaced(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    run("check", *SMALL, "-o", str(link), "tp=2", "sp=true")
    assert link.is_symlink() and "legal" in real.read_text()
    assert run("check", *SMALL, "-o", "/dev/null", "tp=2", "sp=true").code == 0
    assert not os.path.isfile("/dev/null")


def test_an_interrupt_is_one_line():
    batch = subprocess.Popen(
        [*MESHWRIGHT, "check", "--batch", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert batch.stdin is not None and batch.stdout is not None and batch.stderr is not None
    batch.stdin.write('{"layout": 3}\n' * 2000)
    batch.stdin.flush()
    assert batch.stdout.readline()  # it has begun
    batch.send_signal(signal.SIGINT)
    time.sleep(0.05)
    _, err = batch.communicate(timeout=20)
    assert (batch.returncode, err) == (130, "interrupted\n")


DEEPSEEK = ("deepseek-v3", "--gpu", "h100")


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (("solve", *DEEPSEEK, "--gpus", "960"), 2.5),
        pytest.param(("solve", *DEEPSEEK, "--gpus", "960"), 5.0, marks=pytest.mark.heavy),
        pytest.param(("solve", *DEEPSEEK, "--gpus", "256", "--pareto"), 3.0, marks=pytest.mark.heavy),
        pytest.param(("counts", *DEEPSEEK, "--between", "94", "130"), 3.0, marks=pytest.mark.heavy),
    ],
)
def test_an_interrupt_is_never_the_end_of_the_time(args, seconds):
    """Whatever it meets by then: an import, a model that is built, a search."""
    solving = subprocess.Popen([*MESHWRIGHT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    solving.send_signal(signal.SIGINT)
    out, err = solving.communicate(timeout=20)
    assert (solving.returncode, out, err) == (130, "", "interrupted\n")


def test_an_interrupt_of_an_import_is_no_bug(monkeypatch):
    def half_imported(*args):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ImportError("initialization failed")

    monkeypatch.setattr("cli.main._run", half_imported)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert run("rules") == Outcome(130, "", "interrupted\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_of_code_that_is_made_ends_with_our_code_and_not_by_the_signal(tmp_path):
    """Dataclasses are made by ``exec``, and of an interrupt that passes through one CPython kills itself at its end."""
    (tmp_path / "interrupted.py").write_text(
        "import cli.main, signal\n"
        "cli.main._run = lambda args: exec('signal.raise_signal(signal.SIGINT)')\n"
        "cli.main.main(['rules'])\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
