"""Every contiguous split of a small model's layers, judged by the rules and the reports alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from constraints.layout import Layout
from constraints.memory.budget import memory_report
from constraints.pipeline.assignment import from_sizes, simplest_split
from constraints.problem import Problem
from constraints.registry import rule_named
from solver.objectives import OBJECTIVES

__all__ = ["ASKED", "Judged", "best", "compositions", "judged_splits", "may_be_asked", "splits"]

ASKED = ("pipeline.layer-on-every-rank", "pipeline.even-chunks", "pipeline.mtp-with-loss", "pipeline.hybrid-layout")


@dataclass(frozen=True)
class Judged:
    """A split: what it costs by the objective, whether it fits."""

    layout: Layout
    cost: int
    fits: bool


def compositions(layers: int, chunks: int) -> Iterator[tuple[int, ...]]:
    """All ways to cut ``layers`` into ``chunks`` parts, empty ones too."""
    if chunks == 1:
        yield (layers,)
        return
    for first in range(layers + 1):
        for rest in compositions(layers - first, chunks - 1):
            yield (first, *rest)


def may_be_asked(sizes: tuple[int, ...], pp: int) -> bool:
    """False where the chunks of a rank differ by more than one, the last of all apart: known sooner than rules say it."""
    ranks = [sizes[rank : len(sizes) - 1 : pp] or sizes[rank::pp] for rank in range(pp)]
    return all(max(chunks) <= min(chunks) + 1 for chunks in ranks)


def splits(problem: Problem, layout: Layout) -> Iterator[Layout]:
    """``layout`` with every split of the layers that solve's own rules allow."""
    rules = [rule for name in ASKED if (rule := rule_named(name)) is not None]
    assert len(rules) == len(ASKED)
    for sizes in compositions(problem.model.num_layers, layout.pp * layout.chunks_per_rank):
        if may_be_asked(sizes, layout.pp):
            split = simplest_split(problem.model, from_sizes(problem.model, layout.pp, sizes))
            tried = replace(layout, split=split)
            if all(rule.holds(problem, tried) for rule in rules):
                yield tried


def judged_splits(problem: Problem, layout: Layout) -> list[Judged]:
    """Each of :func:`splits`."""
    measure = OBJECTIVES[problem.objective].measure
    judged = []
    for tried in splits(problem, layout):
        report = memory_report(problem, tried)
        if report is not None:
            judged.append(Judged(tried, measure(problem, tried), report.verdict == "fits"))
    return judged


def best(judged: Iterable[Judged]) -> list[Judged]:
    """Those that cost least."""
    judged = list(judged)
    least = min((split.cost for split in judged), default=None)
    return [split for split in judged if split.cost == least]
