"""Every contiguous split of a small model's layers, judged by the rules and the reports alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from constraints.layout import Layout
from constraints.memory.budget import memory_report
from constraints.pipeline.assignment import from_sizes, simplest_split
from constraints.problem import Problem
from constraints.registry import rule_named
from solver.objectives import OBJECTIVES

__all__ = ["best_splits", "compositions", "splits"]

ASKED = ("pipeline.layer-on-every-rank", "pipeline.even-chunks", "pipeline.mtp-with-loss", "pipeline.hybrid-layout")


def compositions(layers: int, chunks: int) -> Iterator[tuple[int, ...]]:
    """All ways to cut ``layers`` into ``chunks`` parts, empty ones too."""
    if chunks == 1:
        yield (layers,)
        return
    for first in range(layers + 1):
        for rest in compositions(layers - first, chunks - 1):
            yield (first, *rest)


def splits(problem: Problem, layout: Layout) -> Iterator[Layout]:
    """``layout`` with every split of the layers that solve's own rules allow."""
    rules = [rule_named(name) for name in ASKED]
    for sizes in compositions(problem.model.num_layers, layout.pp * layout.chunks_per_rank):
        split = simplest_split(problem.model, from_sizes(problem.model, layout.pp, sizes))
        tried = replace(layout, split=split)
        if all(rule.holds(problem, tried) for rule in rules):
            yield tried


def best_splits(problem: Problem, layout: Layout, *, fitting: bool) -> list[Layout]:
    """Those of :func:`splits` that fit and count least by the objective; none if none fits."""
    measure = OBJECTIVES[problem.objective].measure
    fitted = []
    for tried in splits(problem, layout):
        report = memory_report(problem, tried)
        if report is not None and (not fitting or report.verdict == "fits"):
            fitted.append((measure(problem, tried), tried))
    least = min((cost for cost, _ in fitted), default=None)
    return [tried for cost, tried in fitted if cost == least]
