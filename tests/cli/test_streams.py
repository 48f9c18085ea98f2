"""Where results go: readers that leave, disks that are full, outputs that are closed; and what that does to exit codes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.running import run

SMALL = ("llama-3.1-8b", "--gpus", "8", "--gpu", "h100")
FULL = "standard output cannot be written: No space left on device"
CLOSED = "standard output cannot be written: it is closed"


def shell(*args: str, where: str) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command, whose output a shell sends ``where``."""
    script = f"{shlex.join([sys.executable, '-m', 'cli.main', *args])} {where}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("rules", "--format", "json"), 0),
        (("check", *SMALL, "tp=2", "sp=true"), 0),
        (("check", *SMALL, "tp=3"), 1),
        (("solve", *SMALL), 0),
    ],
)
def test_a_reader_that_leaves_does_not_change_the_verdict(args, code):
    assert shell(*args, where="| true") == (code, "", "")


def test_a_reader_that_leaves_ends_it_quietly():
    assert shell("rules", "--format", "json", where="| head -c 10") == (0, '[\n {\n  "ru', "")


@pytest.mark.parametrize("args", [("check", "--batch", "{lines}"), ("--help",)])
def test_what_is_cut_before_a_verdict_is_known_has_the_code_of_a_broken_pipe(args, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"layout": 3}\n' * 3000)
    assert shell(*(word.format(lines=lines) for word in args), where="| true") == (141, "", "")


@pytest.mark.parametrize("where", ["| true", ">/dev/full"])
def test_a_certificate_is_written_whatever_becomes_of_the_report(where, tmp_path):
    path = tmp_path / "certificate.json"
    code, _, err = shell("solve", *SMALL, "--pin", "tp=3", "--certificate", str(path), where=where)
    assert code == (2 if "full" in where else 1)
    assert f"written: {path}\n" in err
    assert run("verify", str(path)).code == 0


@pytest.mark.parametrize(
    "args",
    [
        ("rules",),
        ("catalog", "models"),
        ("check", *SMALL, "tp=2", "sp=true"),
        ("check", "--batch", "{lines}"),
        ("zoo", "examples/zoo/first.yaml", "--dry-run"),
    ],
)
@pytest.mark.parametrize(("where", "says"), [(">/dev/full", FULL), (">&-", CLOSED)])
def test_a_result_that_is_lost_is_an_error(args, where, says, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"layout": 3}\n')
    code, _, err = shell(*(word.format(lines=lines) for word in args), where=where)
    assert (code, err.replace("24 jobs\n", "")) == (2, f"error: {says}\n")


def test_help_that_is_lost_is_an_error_too():
    assert shell("solve", "--help", where=">/dev/full") == (2, "", f"error: {FULL}\n")


def test_a_file_does_without_standard_output(tmp_path):
    path = tmp_path / "out.txt"
    args = ("check", *SMALL, "tp=2", "sp=true", "-o", str(path))
    assert shell(*args, where=">&-") == (0, "", f"written: {path}\n")
    assert "legal" in path.read_text()


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_diagnostics_that_are_lost_change_nothing(where, tmp_path):
    path = tmp_path / "out.txt"
    assert shell("check", *SMALL, "tp=2", "sp=true", "-o", str(path), where=where)[0] == 0
    assert shell("check", *SMALL, "tp=x", where=where)[0] == 2


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ("check", *SMALL, "tp=2", "-o", "/dev/full"),
            "output '/dev/full' cannot be written: No space left on device (-o)",
        ),
        (("check", "--batch", "{lines}", "-o", "/dev/full"), "output '/dev/full' cannot be written: No space left"),
        (("check", *SMALL, "tp=2", "-o", "/nowhere/x"), "output '/nowhere/x' cannot be written: there is no folder"),
        (
            ("solve", *SMALL, "--certificate", "/nowhere/x"),
            "certificate '/nowhere/x' cannot be written: there is no folder",
        ),
        (("solve", *SMALL, "--certificate", "/nowhere/x"), "(--certificate)"),
        (
            ("solve", *SMALL, "--pin", "tp=3", "--certificate", "/dev/full"),
            "certificate '/dev/full' cannot be written: No",
        ),
    ],
)
def test_a_file_that_cannot_be_written_is_named_with_its_flag(args, says, tmp_path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"layout": 3}\n')
    outcome = run(*(word.format(lines=lines) for word in args))
    assert outcome.code == 2
    assert says in outcome.err and "Traceback" not in outcome.err


def test_a_pipe_is_an_output_like_any_other(tmp_path):
    args = ("check", *SMALL, "tp=2", "sp=true", "--format", "json", "-o", "/dev/stdout")
    code, out, _ = shell(*args, where="| cat")
    assert code == 0 and json.loads(out)["legal"]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["head", "-c", "1", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert run("check", *SMALL, "tp=2", "sp=true", "-o", str(pipe)).code == 0
        assert reader.communicate()[0] == "l"
    assert Path(pipe).is_fifo()
