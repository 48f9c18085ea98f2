"""``kill -9`` at any moment: going on afterwards gives the folder that an undisturbed run gives, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.zoo.test_command import ZOO as REAL
from tests.zoo.test_command import read
from tests.zoo.workloads import ZOO as FREE

ROOT = Path(__file__).parent.parent.parent
LONGEST = 120.0


def timed(command: Sequence[str]) -> float:
    """Seconds that an undisturbed run takes."""
    started = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=LONGEST)
    return time.monotonic() - started


def killed_until_done(command: Sequence[str], moments: random.Random, seconds: float) -> int:
    """Run, kill at a random moment, go on; the times that it was killed, at most five before it may finish.

    Late moments are likelier: most of the ``seconds`` that a run takes go by before it writes anything.
    """
    for kills in range(5):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            _, err = process.communicate(timeout=moments.triangular(0.0, 1.2 * seconds, seconds))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            continue
        assert process.returncode == 0, err
        return kills
    timed(command)
    return 5


def free(folder: Path) -> list[str]:
    (folder / "zoo.yaml").write_text(FREE)
    return [sys.executable, "-m", "tests.zoo.driver", str(folder / "zoo.yaml")]


def real(folder: Path) -> list[str]:
    (folder / "zoo.yaml").write_text(REAL)
    return [sys.executable, "-m", "cli.main", "zoo", str(folder / "zoo.yaml"), "--jobs", "2", "--resume", "--out"]


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        (free, 1),
        pytest.param(free, 28, marks=pytest.mark.heavy),
        pytest.param(real, 8, marks=pytest.mark.heavy),
    ],
)
def test_killed_and_resumed_is_undisturbed(tmp_path: Path, kind, rounds: int) -> None:
    command = kind(tmp_path)
    seconds = timed([*command, str(tmp_path / "undisturbed")])
    wanted = read(tmp_path / "undisturbed")
    moments, kills, number = random.Random(rounds), 0, 0
    while number < rounds or kills < rounds / 2:  # where the machine has become faster, runs end before they are killed
        out = tmp_path / f"out{number}"
        killed = killed_until_done([*command, str(out)], moments, seconds)
        assert read(out) == wanted
        assert not [path for path in out.iterdir() if path.name.startswith(".tmp-")]
        kills, number, seconds = kills + killed, number + 1, seconds if killed else 0.8 * seconds


@pytest.mark.heavy
def test_an_interrupt_ends_it_at_once_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*real(tmp_path), str(tmp_path / "out")]
    slow = "models: deepseek-v3\nclusters: {gpu: h100, gpus: [512, 640, 768, 896, 1024]}\n"
    (tmp_path / "zoo.yaml").write_text(slow)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "out" / "run.log").exists():
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert " of 5 jobs are finished; --resume goes on\n" in err and err.endswith("interrupted\n")
    assert "Traceback" not in err
