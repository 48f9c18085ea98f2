"""What an explanation costs: user CPU of the whole command for each recorded scenario, and of verifying its certificate.

``python -m benchmarks.proof_cost [--rounds N] [--format text|json] [NAME ...]``. Bars: 3 s for report, ways out and
certificate together, 1 s for ``meshwright verify``. The import of ortools, which every ``solve`` pays, is measured beside
them.
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


def user_seconds(command: list[str], expected: int) -> float:
    """User CPU seconds of one run; raises ``RuntimeError`` for another exit code."""
    before = os.times()
    code = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if code != expected:
        raise RuntimeError(f"{' '.join(command)} exits with {code}")
    return os.times().children_user - before.children_user


def measured(name: str, rounds: int, folder: Path) -> dict[str, object]:
    """Medians for one scenario."""
    file = folder / f"{name}.json"
    solve = [*MESHWRIGHT, "solve", *SCENARIOS[name].split(), "--certificate", str(file)]
    solved = [user_seconds(solve, 1) for _ in range(rounds)]
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
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def main(names: tuple[str, ...], rounds: int, format_: str) -> None:
    """Measure the recorded scenarios; exit 1 if one is beyond its bar."""
    baseline = median(user_seconds(BASELINE, 0) for _ in range(max(rounds, 3)))
    with tempfile.TemporaryDirectory() as folder:
        rows = [measured(name, rounds, Path(folder)) for name in names or SCENARIOS]
    slow = [row for row in rows if float(str(row["solve_seconds"])) > SOLVE_BAR]
    slow += [row for row in rows if float(str(row["verify_seconds"])) > VERIFY_BAR]
    if format_ == "json":
        click.echo(json.dumps({"ortools_seconds": round(baseline, 2), "scenarios": rows}, indent=1))
    else:
        click.echo(f"importing ortools: {baseline:.2f} s")
        for row in rows:
            click.echo(f"{row['scenario']:42} solve {row['solve_seconds']:5} s  verify {row['verify_seconds']:5} s")
        click.echo(f"{len(slow)} beyond a bar of {SOLVE_BAR:g} s (solve) or {VERIFY_BAR:g} s (verify)")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
