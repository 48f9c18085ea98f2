"""``meshwright zoo`` as a person runs it: real jobs in real processes, and what DIR then holds."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.text.zoo import zoo_text
from solver.zoo.outcome import Failure, Totals
from tests.cli.running import Outcome, run

ZOO = """\
models: [llama-3.2-1b, qwen2-7b]
clusters:
  - {gpu: h100, gpus: [8, 11]}
  - {name: lab, gpu: h100, gpus: 8}
objectives: [step-time, data-parallel]
pin: {tp: 2}
"""
FOUND, NONE = "qwen2-7b_h100x8_seq4096_step-time", "qwen2-7b_h100x11_seq4096_step-time"
LAYOUT_FILES = ["bridge.py", "bridge.sh", "layout.yaml", "megatron-lm.sh", "report.json", "report.txt"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Outcome]]:
    folder = tmp_path_factory.mktemp("command")
    (folder / "zoo.yaml").write_text(ZOO)
    yield folder / "out", run("zoo", str(folder / "zoo.yaml"), "--out", str(folder / "out"), "--jobs", "2")


def test_it_ends_with_a_page_and_says_nothing_else(done: tuple[Path, Outcome]) -> None:
    _, outcome = done
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0] == "12 jobs: 8 solved, 4 infeasible"
    assert lines[1].strip() == "4 of them are the same as another, and were solved with it"
    assert re.fullmatch(r"took +[\d.]+ s, [\d.]+ jobs a second", lines[2])
    assert lines[4].split() == ["cluster", "GPUs", "jobs", "solved", "infeasible", "undecided", "failed"]
    assert [line.split() for line in lines[5:8]] == [
        ["h100", "8", "4", "4", "-", "-", "-"],
        ["h100", "11", "4", "-", "4", "-", "-"],
        ["lab", "8", "4", "4", "-", "-", "-"],
    ]
    assert "      4   mesh.world-dense + pin.tp" in lines
    assert len(lines) < 20 and max(map(len, lines)) <= 80


def test_a_job_with_a_layout_has_it_in_every_format(done: tuple[Path, Outcome]) -> None:
    out, _ = done
    folder = out / FOUND
    assert sorted(path.name for path in folder.iterdir()) == LAYOUT_FILES
    report = json.loads((folder / "report.json").read_text())
    assert report["status"] == "optimal" and report["solver"]["wall_seconds"] is None
    alone = run("solve", "qwen2-7b", "--gpus", "8", "--gpu", "h100", "--pin", "tp=2", "--format", "json")
    assert json.loads(alone.out)["layouts"] == report["layouts"]
    for name in ("layout.yaml", "bridge.sh", "bridge.py", "megatron-lm.sh", "report.json"):
        checked = run("check", "qwen2-7b", "--gpus", "8", "--gpu", "h100", f"@{folder / name}")
        assert checked.code == 0, checked


def test_a_job_without_one_has_a_certificate_that_verifies(done: tuple[Path, Outcome]) -> None:
    out, _ = done
    folder = out / NONE
    assert sorted(path.name for path in folder.iterdir()) == ["certificate.json", "report.json", "report.txt"]
    assert run("verify", str(folder / "certificate.json")).code == 0
    text = (folder / "report.txt").read_text()
    assert "zoo file, line 3" in text and "zoo file, line 6" in text


def test_nothing_in_it_depends_on_when_and_where_it_ran(
    done: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, another spelling of the path, another terminal, another number of processes."""
    out, _ = done
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.chdir(tmp_path)
    Path("z.yaml").write_text(ZOO)
    assert run("zoo", "z.yaml", "--out", "out", "--jobs", "1").code == 0
    assert read(tmp_path / "out") == read(out)


def read(out: Path) -> dict[str, bytes]:
    """Everything but the log and the times in the manifest."""
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del found["run.log"]
    manifest = found["manifest.jsonl"].decode()
    found["manifest.jsonl"] = re.sub(r'"(seconds|finished)": ("[^"]*"|[\d.]+)', "", manifest).encode()
    return found


def test_the_summary_has_a_row_for_every_job(done: tuple[Path, Outcome]) -> None:
    out, _ = done
    with (out / "summary.csv").open(newline="") as file:
        rows = {row["job"]: row for row in csv.DictReader(file)}
    folders = sorted(path.name for path in out.iterdir() if path.is_dir())
    assert sorted(rows) == folders and len(rows) == 12
    assert (rows[FOUND]["status"], rows[FOUND]["tp"], rows[FOUND]["gpus_used"]) == ("optimal", "2", "8")
    assert float(rows[FOUND]["tokens_per_second_per_gpu"]) > 1000
    assert rows[NONE]["rules"] == "mesh.world-dense pin.tp" and "tp=2" in rows[NONE]["reason"]
    assert rows[FOUND.replace("h100", "lab")]["same_as"] == FOUND


def test_it_goes_on_only_when_told_to(done: tuple[Path, Outcome]) -> None:
    out, _ = done
    file = str(out.parent / "zoo.yaml")
    again = run("zoo", file, "--out", str(out))
    assert again.code == 2 and "is not empty: --resume goes on with what is there" in again.err
    before = read(out)
    resumed = run("zoo", file, "--out", str(out), "--resume", "--format", "json")
    assert (resumed.code, resumed.err) == (0, "12 of 12 jobs were finished before\n")
    assert json.loads(resumed.out)["finished_before"] == 12
    assert read(out) == before
    limited = run("zoo", file, "--out", str(out), "--resume", "--time-limit", "5")
    assert limited.code == 2 and "time limit 60; this is" in limited.err


def test_a_dry_run_lists_and_makes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    listed = run("zoo", str(path), "--dry-run", "--out", str(tmp_path / "out"))
    assert (listed.code, listed.err) == (0, "12 jobs\n")
    assert FOUND in listed.out.splitlines() and len(listed.out.splitlines()) == 12
    assert not (tmp_path / "out").exists()


def test_too_little_work_leaves_jobs_undecided(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text("models: llama-3.2-1b\nclusters: {gpu: h100, gpus: [8]}\ntime_limit: 0.000001\n")
    outcome = run("zoo", str(path), "--out", str(tmp_path / "out"), "--jobs", "1")
    assert outcome.code == 3
    assert outcome.out.startswith("1 jobs: 0 solved, 1 undecided") and "undecided llama-3.2-1b_h100x8" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--out DIR is missing"),
        (["--out", "{file}"], "cannot be used: File exists"),
        (["--out", "/proc/zoo"], "cannot be used"),
        (["--out", "{out}", "--jobs", "0"], "jobs 0 must be from 1 to 1024"),
        (["--out", "{out}", "--jobs", "2", "--ray", "auto"], "give one or the other"),
        (["--out", "{out}", "--time-limit", "0"], "time-limit 0.0 must be a number above 0"),
        (["--out", "{out}", "--hang-after", "-1"], "hang-after -1.0 must be a number above 0"),
        (["--out", "{out}", "--memory", "nan"], "memory nan must be a number above 0"),
    ],
)
def test_bad_usage_is_one_clear_error(tmp_path: Path, words: list[str], message: str) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    outcome = run("zoo", str(path), *(word.format(file=path, out=tmp_path / "out") for word in words))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err and "Traceback" not in outcome.err


def test_a_zoo_that_is_not_there() -> None:
    outcome = run("zoo", "nowhere.yaml", "--dry-run")
    assert outcome.code == 2 and "nowhere.yaml: cannot be read: No such file or directory" in outcome.err


def test_ray_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = tmp_path / "zoo.yaml"
    path.write_text(ZOO)
    outcome = run("zoo", str(path), "--out", str(tmp_path / "out"), "--ray", "local")
    assert outcome.code == 2 and "pip install 'meshwright[ray]'" in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_terminal_gets_a_bar_and_a_pipe_one_page(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text("models: llama-3.2-1b\nclusters: {gpu: h100, gpus: [1, 2, 4, 8]}\n")
    command = [sys.executable, "-m", "cli.main", "zoo", str(path), "--out", str(tmp_path / "out"), "--jobs", "1"]
    terminal, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
    os.close(theirs)
    screen = b""
    with contextlib.suppress(OSError):  # how a terminal says that its other end is closed
        while chunk := os.read(terminal, 65536):
            screen += chunk
    os.close(terminal)
    out, _ = process.communicate()
    assert process.returncode == 0 and out.startswith("4 jobs: 4 solved\n")
    assert re.search(rb"[34]/4", screen) and re.search(rb"\d\.\d/s", screen) and b"optimal" in screen


@pytest.mark.parametrize("width", [80, 120])
def test_the_page_of_a_large_zoo_is_one_page(width: int) -> None:
    totals = Totals(jobs=100_000, seconds=3600.0)
    rules = [f"family{i}.some-rule" for i in range(30)]
    rows = [
        {"cluster": f"cluster-{i % 40}", "gpus": i % 7, "job": f"model-{i}", "status": status, "rules": [rules[i % 30]]}
        for i, status in enumerate(["optimal", "infeasible", "unknown", "not run"] * 1000)
    ]
    totals.by_status = {"optimal": 90_000, "infeasible": 9_000, "unknown": 990}
    for number in range(10):
        totals.failures.append(Failure(f"model-{number}", "failed", "its worker was killed by SIGSEGV, 2 times"))
        totals.add("failed")
    totals.sort(rows)
    lines = click.unstyle(zoo_text(totals, "out", width)).splitlines()
    assert len(lines) <= 50 and max(map(len, lines)) <= width
    assert "100,000 jobs: 90,000 solved, 9,000 infeasible, 990 undecided, 10 failed" in lines[0]
    assert any("more clusters" in line for line in lines) and any("more reasons" in line for line in lines)
