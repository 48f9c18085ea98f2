"""How much slower each published layout is than meshwright's choice for the same request, in meshwright's own eyes.

The request keeps what the run fixes: model, GPU and count, sequence length, batch, precision, task, switches and software.
The published layout is let fit: the memory budget is the usable memory, or what the layout itself is estimated at, where
that is more. Runs of one distinct layout count once; only pretraining on GPUs newer than the A100. The constants never saw
the model (:mod:`benchmarks.left_out`): a layout is not judged by what was learnt from its own measurement. ``replayed`` is
the same two layouts' regret when their schedules are played through (:mod:`constraints.timing.played`): where it is far below
``regret``, the choice is better in the closed form only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import mean, median
from typing import Any

from benchmarks.left_out import calibration_without
from benchmarks.time_rows import Run
from constraints.memory.budget import memory_report
from constraints.timing.played import played_step
from constraints.timing.step import step_time

__all__ = ["regrets"]

SECONDS = 30.0
LARGE = 0.15
SHOWN = 20


def regrets(runs: Iterable[Run]) -> dict[str, Any]:
    """Median, mean and 90th percentile of the regret, the layouts with the most (all of the large ones among them), and the
    runs that were not decided."""
    newest: dict[Any, Run] = {}
    for run in runs:
        older = newest.get(run.key)
        if run.problem.task == "pretrain" and run.problem.gpu.architecture != "ampere":
            newest[run.key] = run if older is None or run.problem.stack >= older.problem.stack else older
    cases: list[dict[str, Any]] = []
    undecided: list[dict[str, Any]] = []
    for run in newest.values():
        case = _case(run)
        (cases if "regret" in case else undecided).append(case)
    values, played = (sorted(case[name] for case in cases) for name in ("regret", "replayed"))
    large = sum(value > LARGE for value in values)
    return {
        "layouts": len(cases),
        "undecided": undecided,
        "median": round(median(values), 4) if values else None,
        "mean": round(mean(values), 4) if values else None,
        "p90": round(values[int(0.9 * (len(values) - 1))], 4) if values else None,
        "replayed_median": round(median(played), 4) if played else None,
        "replayed_mean": round(mean(played), 4) if played else None,
        "above_15_percent": large,
        "worst": sorted(cases, key=lambda case: -case["regret"])[: max(SHOWN, large)],
    }


def _case(run: Run) -> dict[str, Any]:
    """The published layout and ours with the regret of the one, or why there is none."""
    from solver.search import Disagreement, ModelError, best_layouts

    name = f"{run.name} on {run.problem.gpus} {run.problem.gpu.name} {run.problem.precision}"
    report = memory_report(run.problem, run.layout)
    if report is None:
        return {"name": name, "reason": "layers are not placed"}
    problem = replace(
        run.problem,
        objective="step-time",
        calibration=calibration_without(run.problem.model.name),
        global_batch_size=run.layout.global_batch_size,
        budget_bytes=max(run.problem.budget_bytes, report.high_bytes),
    )
    try:
        found = best_layouts(problem, seconds=SECONDS)
    except (Disagreement, ModelError) as error:
        return {"name": name, "reason": f"{type(error).__name__}: {error}"}
    if not found.layouts:
        return {"name": name, "reason": found.status}
    pair = run.layout, found.layouts[0]
    published, chosen = (step_time(problem, layout).step_ns for layout in pair)
    played, chosen_played = (played_step(problem, layout).step_ns for layout in pair)
    return {
        "name": name,
        "regret": round(published / chosen - 1, 4),
        "replayed": round(played / chosen_played - 1, 4),
        "proved": found.status == "optimal",
        "published": _words(run.layout),
        "chosen": _words(found.layouts[0]),
    }


def _words(x: Any) -> str:
    return f"tp{x.tp} pp{x.pp} vpp{x.vpp or 1} cp{x.cp} ep{x.ep} mbs{x.micro_batch_size} {x.recompute}"
