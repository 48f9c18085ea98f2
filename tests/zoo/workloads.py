"""Functions that tests send to a pool, and a zoo that costs nothing to work on.

They are importable, so that spawned processes find them.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from constraints.problem import Problem
from solver.zoo.guard import Limits
from solver.zoo.outcome import Outcome

ZOO = """\
models: [llama-3.1-8b, qwen3-4b, qwen3-8b]
clusters:
  - {gpu: h100, gpus: [8, 16, 24, 32]}
  - {name: lab, gpu: h100, gpus: [8, 16]}
objectives: [step-time, memory]
"""


def quick(problem: Problem, limits: Limits) -> Outcome:
    """An answer that depends on the problem alone, in several files of which one is not small."""
    time.sleep(0.002)
    words = f"{problem.model.name} on {problem.gpus} for {problem.objective}\n".encode()
    files = {"report.txt": words, "report.json": words * 2000, "layout.yaml": b""}
    if problem.gpus == 24:
        return Outcome(
            "infeasible", files, {"rules": ["mesh.world-dense"], "reason": "24, with a comma"}, time.monotonic()
        )
    return Outcome("optimal", files, {"tp": problem.gpus, "objective_value": 1.5}, time.monotonic())


def slow(problem: Problem, limits: Limits) -> Outcome:
    """:func:`quick` after a while."""
    time.sleep(0.3)
    return quick(problem, limits)


def square(number: int) -> int:
    return number * number


def dies(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def dies_once(marker: str, value: int) -> int:
    """The first process that tries dies."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(3)
    return value


def stops(*_: Any) -> None:
    """No signal but one reaches a stopped process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hangs(*_: Any) -> None:
    while True:
        pass


def fills_memory(*_: Any) -> int:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def raises(*_: Any) -> None:
    raise ValueError("not today")


class _Peculiar(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def raises_what_does_not_pickle(*_: Any) -> None:
    raise _Peculiar(1, 2)
