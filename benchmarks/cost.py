"""What a whole command costs, as a multiple of what nobody can avoid: importing ortools, measured in the same run.

``python -m benchmarks.cost [--rounds N] [--format text|json]`` runs the baseline and every command in turn, N times each,
and takes medians of user CPU time (user + system of the whole process), so that a slow or busy machine cancels out.
Step time may cost one and a half times what communication may, the ten best layouts six times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from statistics import median

import click

BASELINE = [sys.executable, "-c", "import ortools.sat.python.cp_model"]
MESHWRIGHT = [sys.executable, "-m", "cli.main"]


@dataclass(frozen=True)
class Case:
    """A command and the largest multiple of its baseline that it may cost."""

    name: str
    words: tuple[str, ...]
    bar: float


LLAMA = ("solve", "llama-3.1-70b", "--gpus", "1536", "--gpu", "h100")
DEEPSEEK = ("solve", "deepseek-v3", "--gpus", "2048", "--gpu", "h100")
CASES = (
    Case("llama-3.1-70b, 1536 GPUs, step time", (*LLAMA, "--objective", "step-time"), 3.75),
    Case("llama-3.1-70b, 1536 GPUs, communication", (*LLAMA, "--objective", "communication"), 2.5),
    Case("deepseek-v3, 2048 GPUs, step time", (*DEEPSEEK, "--objective", "step-time"), 6.0),
    Case("deepseek-v3, 2048 GPUs, communication", (*DEEPSEEK, "--objective", "communication"), 4.0),
    Case("llama-3.1-70b, 1536 GPUs, ten best", (*LLAMA, "--top", "10"), 15.0),
    Case(
        "check llama-3.1-70b, a legal layout",
        ("check", "llama-3.1-70b", "--gpus", "96", "--gpu", "h100", "tp=8", "pp=4", "sp=true"),
        0.6,
    ),
)


def cpu_seconds(command: list[str]) -> float:
    """User and system CPU seconds of one run; raises ``CalledProcessError`` if it fails."""
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def measure(rounds: int) -> list[dict[str, object]]:
    """A row for each case: its median seconds, the baseline's, and their ratio."""
    commands = [BASELINE, *([*MESHWRIGHT, *case.words] for case in CASES)]
    for command in commands:
        cpu_seconds(command)  # once for the file cache
    times = [[cpu_seconds(command) for command in commands] for _ in range(rounds)]
    base = median(row[0] for row in times)
    return [
        {
            "case": case.name,
            "seconds": round(median(row[i] for row in times), 3),
            "baseline_seconds": round(base, 3),
            "ratio": round(median(row[i] / row[0] for row in times), 2),
            "bar": case.bar,
        }
        for i, case in enumerate(CASES, start=1)
    ]


@click.command()
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def main(rounds: int, format_: str) -> None:
    """Ratios of whole commands to a bare import of ortools."""
    rows = measure(rounds)
    if format_ == "json":
        click.echo(json.dumps(rows, indent=1))
        return
    click.echo(f"{'command':<40} {'CPU s':>7} {'import s':>9} {'ratio':>6} {'bar':>5}")
    for row in rows:
        click.echo(
            f"{row['case']:<40} {row['seconds']:>7} {row['baseline_seconds']:>9} {row['ratio']:>6} {row['bar']:>5}"
        )


if __name__ == "__main__":
    main()
