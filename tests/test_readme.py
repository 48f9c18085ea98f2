"""What the README shows is what the command prints. ``python -m tests.test_readme`` writes the transcripts anew."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TRANSCRIPT = re.compile(r"```console\n\$ meshwright (?P<words>[^\n]+)\n(?P<output>.*?)```\n", re.DOTALL)
COLUMNS = "100"
ELLIPSIS = "...\n"
"""A transcript that ends so shows only the first lines."""


def printed(words: str) -> str:
    """What ``meshwright words`` prints at 100 columns without colour, in a folder of its own that has the examples."""
    environment = {
        **os.environ,
        "COLUMNS": COLUMNS,
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "cli.main", *words.split()]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "examples").symlink_to(ROOT / "examples")
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return without_times(done.stdout)


def without_times(text: str) -> str:
    """The text with durations of the search left out."""
    text = re.sub(r"^took .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r", \d+\.\d s$", "", text, flags=re.MULTILINE)


def shown(output: str, whole: str) -> str:
    """The part of ``whole`` that a transcript of this length shows."""
    if not output.endswith(ELLIPSIS):
        return whole
    lines = output.count("\n") - 1
    return "".join(whole.splitlines(keepends=True)[:lines]) + ELLIPSIS


@pytest.mark.parametrize("words", [match["words"] for match in TRANSCRIPT.finditer(README.read_text("utf-8"))])
def test_transcripts_are_what_the_command_prints(words: str) -> None:
    (match,) = (m for m in TRANSCRIPT.finditer(README.read_text("utf-8")) if m["words"] == words)
    assert match["output"] == shown(match["output"], printed(words))


def test_the_two_commands_stand_at_the_top() -> None:
    top = README.read_text("utf-8").splitlines()[:16]
    assert any("scripts/run solve" in line for line in top)
    assert any("scripts/test" in line for line in top)


def _write() -> None:
    text = README.read_text("utf-8")
    fresh = TRANSCRIPT.sub(
        lambda m: f"```console\n$ meshwright {m['words']}\n{shown(m['output'], printed(m['words']))}```\n", text
    )
    README.write_text(fresh, "utf-8")


if __name__ == "__main__":
    _write()
