"""What a proof costs: user CPU of the whole command for each recorded scenario, and of verifying its certificate.

``python -m benchmarks.proof_cost [--rounds N] [--optima] [--format text|json] [NAME ...]``. Bars: 3 s for report, ways out
and certificate together, 1 s for ``meshwright verify``. ``--optima`` measures certificates that no layout is better instead,
for which there are no bars. The import of ortools, which every ``solve`` pays, is measured beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import click

from tests.proof.scenarios import SCENARIOS

MESHWRIGHT = [sys.executable, "-m", "cli.main"]
BASELINE = [sys.executable, "-c", "import ortools.sat.python.cp_model"]
SOLVE_BAR, VERIFY_BAR = 3.0, 1.0

OPTIMA = {
    "llama8b_8": "llama-3.1-8b --gpus 8 --gpu h100",
    "llama70b_64": "llama-3.1-70b --gpus 64 --gpu h100 --global-batch-size 128",
    "llama70b_96": "llama-3.1-70b --gpus 96 --gpu h100",
    "llama405b_1024": "llama-3.1-405b --gpus 1024 --gpu h100 --global-batch-size 2048",
    "qwen30b_16": "qwen3-30b-a3b --gpus 16 --gpu h200 --global-batch-size 256",
    "deepseek_v3_256": "deepseek-v3 --gpus 256 --gpu h100 --global-batch-size 2048",
    "deepseek_v3_1021_idle": "deepseek-v3 --gpus 1021 --gpu h100 --allow-idle",
}
"""Requests with a layout."""


def user_seconds(command: list[str], expected: int) -> float:
    """User CPU seconds of one run; raises ``RuntimeError`` for another exit code."""
    before = os.times()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if code != expected:
        raise RuntimeError(f"{' '.join(command)} exits with {code}")
    return os.times().children_user - before.children_user


def measured(name: str, request: str, expected: int, rounds: int, folder: Path) -> dict[str, object]:
    """Medians for one scenario, whose ``solve`` exits with ``expected``."""
    file = folder / f"{name}.json"
    solve = [*MESHWRIGHT, "solve", *request.split(), "--certificate", str(file)]
    solved = [user_seconds(solve, expected) for _ in range(rounds)]
    verified = [user_seconds([*MESHWRIGHT, "verify", str(file)], 0) for _ in range(rounds)]
    return {
        "scenario": name,
        "solve_seconds": round(median(solved), 2),
        "verify_seconds": round(median(verified), 2),
        "certificate_bytes": file.stat().st_size,
    }


@click.command()
@click.argument("names", nargs=-1)
@click.option("--rounds", default=1, show_default=True)
@click.option("--optima", is_flag=True, help="Certificates that no layout is better.")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def main(names: tuple[str, ...], rounds: int, optima: bool, format_: str) -> None:
    """Measure the recorded scenarios; exit 1 if one is beyond its bar."""
    baseline = median(user_seconds(BASELINE, 0) for _ in range(max(rounds, 3)))
    with tempfile.TemporaryDirectory() as folder:
        requests = OPTIMA if optima else SCENARIOS
        rows = [measured(name, requests[name], 0 if optima else 1, rounds, Path(folder)) for name in names or requests]
    slow = [row for row in rows if float(str(row["solve_seconds"])) > SOLVE_BAR and not optima]
    slow += [row for row in rows if float(str(row["verify_seconds"])) > VERIFY_BAR and not optima]
    if format_ == "json":
        click.echo(json.dumps({"ortools_seconds": round(baseline, 2), "scenarios": rows}, indent=1))
    else:
        click.echo(f"importing ortools: {baseline:.2f} s")
        for row in rows:
            click.echo(f"{row['scenario']:42} solve {row['solve_seconds']:5} s  verify {row['verify_seconds']:5} s")
        if not optima:
            click.echo(f"{len(slow)} beyond a bar of {SOLVE_BAR:g} s (solve) or {VERIFY_BAR:g} s (verify)")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
