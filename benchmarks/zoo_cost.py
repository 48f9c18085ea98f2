"""What a zoo costs beside its solves, as ratios of runs of the same jobs on this machine.

``python -m benchmarks.zoo_cost [--size N] [--no-ray] [--format text|json]`` runs N mixed jobs (dense and mixture-of-experts,
feasible and not, three objectives) one after the other in this process, in a pool of one process, in one of two, and on a Ray
cluster of two cores. Bars, on two idle cores: two processes at least 1.7 times as fast as one; one process at most 1.2 times
the plain loop; Ray at most 1.4 times the pool of two. Times include the start of processes and every write; Ray's own
start, some seconds, is told apart. On a machine that others use, CPU seconds tell more.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from cli.zoo.progress import progress
from cli.zoo.work import solve_and_emit
from solver.zoo.file import read_zoo
from solver.zoo.guard import Limits
from solver.zoo.jobs import Job, Jobs
from solver.zoo.pool import LocalPool
from solver.zoo.run import run_jobs
from solver.zoo.store import Store, maker

ZOO = """\
models: [llama-3.1-8b, llama-3.1-70b, qwen3-32b, qwen3-30b-a3b, gpt-oss-20b, deepseek-v2-lite, nemotron-nano-9b-v2]
clusters:
  - {gpu: h100, gpus: [8, 13, 24, 96, 97, 128, 520]}
  - {gpu: gb200, gpus: [16, 72, 73]}
sequence_lengths: [4096, 16384]
objectives: [step-time, data-parallel, memory]
"""
LIMITS = Limits()
LEAST_SPEED_UP, MOST_OF_LOOP, MOST_OF_POOL = 1.7, 1.2, 1.4


def chosen(size: int) -> list[Job]:
    """``size`` jobs, spread evenly over all of the zoo."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zoo.yaml"
        path.write_text(ZOO, "utf-8")
        jobs = list(Jobs(read_zoo(str(path))))
    return [jobs[i * len(jobs) // size] for i in range(min(size, len(jobs)))]


def looped(jobs: list[Job]) -> tuple[float, float]:
    """(seconds, CPU seconds) of solving and rendering in this process, without writing; ortools is loaded before."""
    solve_and_emit(jobs[0].problem(), LIMITS)
    started, used = time.monotonic(), cpu_seconds()
    for job in jobs:
        solve_and_emit(job.problem(), LIMITS)
    return time.monotonic() - started, cpu_seconds() - used


def cpu_seconds() -> float:
    """Of this process and those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run(jobs: list[Job], pool: Callable[[], Any]) -> tuple[float, float]:
    """(seconds that the pool took to come up, seconds of the run)."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        store = Store(str(Path(folder) / "out"), resume=False, maker=maker(LIMITS))
        stack.callback(store.close)
        started = time.monotonic()
        running = stack.enter_context(pool())
        up = time.monotonic()
        watcher = stack.enter_context(progress())
        totals = run_jobs(jobs, store, running, solve_and_emit, LIMITS, watcher)
        assert totals.exit_code == 0, totals.failures
        return up - started, time.monotonic() - up


@click.command()
@click.option("--size", type=click.IntRange(2, 420), default=300, show_default=True)
@click.option("--ray/--no-ray", default=True)
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def main(size: int, ray: bool, format_: str) -> None:
    """Ratios of the ways to run one zoo."""
    jobs = chosen(size)
    loop, loop_cpu = looped(jobs)
    used = cpu_seconds()
    _, one = run(jobs, lambda: LocalPool(1, LIMITS))
    one_cpu = cpu_seconds() - used
    _, two = run(jobs, lambda: LocalPool(2, LIMITS))
    figures: dict[str, Any] = {
        "jobs": len(jobs),
        "loop_seconds": round(loop, 2),
        "pool_of_one_seconds": round(one, 2),
        "pool_of_two_seconds": round(two, 2),
        "speed_up_of_two": (round(one / two, 2), f">= {LEAST_SPEED_UP}"),
        "pool_over_loop": (round(one / loop, 2), f"<= {MOST_OF_LOOP}"),
        "pool_over_loop_in_cpu": (round(one_cpu / loop_cpu, 2), f"<= {MOST_OF_LOOP}"),
    }
    if ray:
        from solver.zoo.ray_pool import RayPool

        up, seconds = run(jobs, lambda: RayPool("local", LIMITS))
        figures |= {"ray_seconds": round(seconds, 2), "ray_start_seconds": round(up, 2)}
        figures["ray_over_pool"] = (round(seconds / two, 2), f"<= {MOST_OF_POOL}")
    if format_ == "json":
        click.echo(json.dumps(figures, indent=1))
        return
    for name, value in figures.items():
        figure, bar = value if isinstance(value, tuple) else (value, "")
        click.echo(f"{name.replace('_', ' '):<22} {figure:>8} {bar:>8}")


if __name__ == "__main__":
    main()
