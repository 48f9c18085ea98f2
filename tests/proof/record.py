"""Write the golden texts anew: ``python -m tests.proof.record [NAME ...]``; read the difference before keeping it."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.cli.running import run
from tests.proof.scenarios import SCENARIOS

GOLDEN = Path(__file__).parent / "golden"
WIDTH = "100"


def text_of(name: str) -> str:
    """What ``meshwright solve`` prints for a scenario, on a page of fixed width."""
    os.environ["COLUMNS"] = WIDTH
    outcome = run("solve", *SCENARIOS[name].split())
    return f"$ meshwright solve {SCENARIOS[name]}\n{outcome.out}{outcome.err}exit {outcome.code}\n"


def main(names: list[str]) -> None:
    for name in names or SCENARIOS:
        started = time.process_time()
        (GOLDEN / f"{name}.txt").write_text(text_of(name), encoding="utf-8")
        print(f"{name:45} {time.process_time() - started:5.2f} s of CPU")


if __name__ == "__main__":
    main(sys.argv[1:])
