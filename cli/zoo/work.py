"""One job of a zoo, in whatever process it falls to: solve it, and write everything that its folder is to hold."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click

from cli.rendering import rendered
from cli.text.page import Page
from constraints.memory.budget import MemoryReport
from constraints.problem import GIB, Problem
from constraints.refutation.certificate import written
from solver.answer import Answer
from solver.report import Report
from solver.zoo.guard import Limits
from solver.zoo.outcome import DISAGREEMENT, Outcome

__all__ = ["LAYOUT_FILES", "REPORT_FILES", "solve_and_emit"]

REPORT_FILES = {"report.txt": "text", "report.json": "json"}
LAYOUT_FILES = {
    "layout.yaml": "yaml",
    "bridge.sh": "bridge",
    "bridge.py": "bridge-python",
    "megatron-lm.sh": "megatron-lm",
}
"""File of a job's folder to the format of ``solve`` that it is in."""

CERTIFICATE = "certificate.json"
WIDTH = 100
LONGEST_SECONDS = 86_400.0
"""Never reached: it is work that decides, so that a slow machine comes to the same answer."""

DEGREES = ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "micro_batch_size", "global_batch_size", "sequence_parallel")


def solve_and_emit(problem: Problem, limits: Limits) -> Outcome:
    """The answer to ``problem`` in every format, the same bytes whenever and wherever it is asked for."""
    from solver.search import Disagreement, ModelError
    from solver.synthesis import solve_problem
    from solver.work import bounded_work

    started = time.monotonic()
    try:
        with bounded_work(limits.work):
            report = solve_problem(problem, seconds=LONGEST_SECONDS)
            report = replace(report, wall_seconds=None, time_limit=limits.work)
    except (Disagreement, ModelError) as error:
        return Outcome(DISAGREEMENT, {}, {"reason": str(error)}, time.monotonic() - started)
    files, facts = _files(report), _facts(report)
    return Outcome(report.status, files, facts, time.monotonic() - started)


def _files(report: Report) -> dict[str, bytes]:
    formats = REPORT_FILES | (LAYOUT_FILES if report.answers else {})
    texts = {file: rendered(report, format_, Page(WIDTH, unicode=True)) for file, format_ in formats.items()}
    if report.refutation is not None and report.refutation.certificate is not None:
        texts[CERTIFICATE] = written(report.refutation.certificate)
    return {file: _ended(click.unstyle(text)).encode() for file, text in texts.items()}


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def _facts(report: Report) -> dict[str, Any]:
    """A row of the summary."""
    if report.answers:
        answer = report.answers[0]
        return {
            "objective_value": report.objective_value,
            "objective_unit": report.objective_unit,
            **_facts_of(answer, answer.memory),
        }
    explained = report.refutation.explained if report.refutation else ()
    if not explained:
        return {}
    first = explained[0]
    return {
        "rules": sorted(rule.id for rule in first.minimal.rules),
        "reason": "; ".join(step.text for step in first.steps),
    }


def _facts_of(answer: Answer, memory: MemoryReport) -> dict[str, Any]:
    layout = answer.layout
    return {
        "tokens_per_second_per_gpu": round(answer.timing.tokens_per_second_per_gpu, 2),
        "step_seconds": round(answer.timing.step_seconds, 6),
        "high_gib": round(memory.high_bytes / GIB, 3),
        **{name: getattr(layout, name) for name in DEGREES},
        "recompute": str(layout.recompute),
        "pipeline_layout": answer.assignment.text() if layout.pp > 1 else None,
        "gpus_used": layout.gpus,
    }
