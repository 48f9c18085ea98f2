"""The memory rule: the high estimate of the fullest stage stays within the usable memory of the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from constraints.arithmetic import Arithmetic, Integers, Quantity, Remembering
from constraints.layout import NO_RECOMPUTE, Layout
from constraints.memory.overhead import LOW_PERCENT, communicators, device_bytes, high_bytes, low_bytes, margin_bytes
from constraints.memory.stage import peaks, phases, static_components
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.pipeline.profile import Stage, stages_of
from constraints.problem import GIB, Problem
from constraints.rule import Builder, Degrees, Noticed, Rule, Stratum, mcore

__all__ = [
    "CAPACITY",
    "RULES",
    "MemoryReport",
    "StageMemory",
    "capacity_bound",
    "capacity_quantities",
    "layout_stages",
    "memory_report",
]

INTEGERS = Integers()
CAPACITY = "memory.capacity"
"""The id of the memory rule, for those who treat it apart."""


@dataclass(frozen=True)
class StageMemory:
    """Bytes on one pipeline rank at its fullest moment by component, their sum, what rests between steps, and the moment."""

    rank: int
    components: dict[str, int]
    allocated_bytes: int
    resting_bytes: int
    phase: str


@dataclass(frozen=True)
class MemoryReport:
    """The estimate for a layout: ``allocated_bytes`` and the interval are those of the fullest stage.

    ``margin`` says what lies between ``allocated_bytes`` and ``high_bytes``.
    """

    stages: tuple[StageMemory, ...]
    allocated_bytes: int
    peak_bytes: int
    low_bytes: int
    high_bytes: int
    budget_bytes: int
    margin: dict[str, int]

    @property
    def verdict(self) -> str:
        """``fits`` if the whole interval is within the budget, ``does not fit`` if none of it is, else ``borderline``."""
        if self.high_bytes <= self.budget_bytes:
            return "fits"
        return "borderline" if self.low_bytes <= self.budget_bytes else "does not fit"

    @property
    def fullest(self) -> StageMemory:
        return max(self.stages, key=lambda stage: stage.allocated_bytes)


def layout_stages(problem: Problem, layout: Layout) -> tuple[Stage, ...] | None:
    """The stages of ``layout``, or ``None`` if its split does not come out (rules say why)."""
    assignment: Assignment | None = assignment_of(problem.model, layout.pp, layout.chunks_per_rank, layout.split)
    if assignment is None:
        return None
    vpp = layout.vpp if layout.pp > 1 else None
    recompute = layout.recompute if layout.recompute.by_chunk else NO_RECOMPUTE
    group, count = layout.microbatch_group, layout.num_microbatches
    return stages_of(problem.model, assignment, vpp, group, count, recompute=recompute)


def memory_report(problem: Problem, layout: Layout) -> MemoryReport | None:
    """The estimate for ``layout``, or ``None`` if its layers are not placed."""
    stages = layout_stages(problem, layout)
    if stages is None:
        return None
    fullest: dict[int, StageMemory] = {}
    remembering = Remembering()
    for stage in stages:
        memory = _stage_memory(remembering, problem, layout, stage)
        if stage.rank not in fullest or memory.allocated_bytes > fullest[stage.rank].allocated_bytes:
            fullest[stage.rank] = memory
    allocated = max(memory.allocated_bytes for memory in fullest.values())
    groups = communicators(INTEGERS, problem, layout)
    return MemoryReport(
        stages=tuple(fullest[rank] for rank in sorted(fullest)),
        allocated_bytes=allocated,
        peak_bytes=device_bytes(problem, allocated, groups),
        low_bytes=low_bytes(allocated),
        high_bytes=-(-high_bytes(INTEGERS, problem, layout, allocated) // 100),
        budget_bytes=problem.budget_bytes,
        margin=margin_bytes(problem, allocated, groups),
    )


def _stage_memory(a: Remembering, problem: Problem, layout: Layout, stage: Stage) -> StageMemory:
    # All states of a rank store the same.
    static = a.once(("stored", stage.rank), lambda: static_components(a, problem, layout, stage))
    moments = phases(a, problem, layout, stage)
    phase = max(moments, key=lambda name: sum(moments[name].values()))
    parts = static | moments[phase]
    return StageMemory(stage.rank, parts, sum(parts.values()), sum(static.values()), phase)


def capacity_bound(problem: Problem) -> int:
    """What :func:`capacity_quantities` must not exceed: 100 times the budget, and where the low estimate decides, what
    still rounds down to it."""
    return problem.budget_bytes * 100 + (99 if problem.allow_borderline else 0)


def capacity_quantities(a: Arithmetic, problem: Problem, x: Degrees, stage: Stage) -> list[Quantity]:
    """100 times the estimates of what ``stage`` holds, high ones, or low ones where a borderline layout is allowed."""
    held = peaks(a, problem, x, stage)
    if problem.allow_borderline:
        return [peak * LOW_PERCENT for peak in held]
    return [high_bytes(a, problem, x, peak) for peak in held]


class Capacity(Rule):
    """What the fullest stage holds, estimated high, is at most the usable memory of a GPU.

    With ``--allow-borderline`` the low estimate decides instead.
    """

    id = CAPACITY
    stratum = Stratum.RESOURCE
    noticed = Noticed.STEP
    source = mcore("pipeline_parallel/schedules.py", "get_forward_backward_func")
    scope = (
        *("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp", "sequence_parallel"),
        *("micro_batch_size", "num_microbatches", "recompute"),
    )
    reads = ("budget_bytes",)
    fix = "more recompute, a smaller micro-batch, more tp, pp or cp, more GPUs or larger ones, lighter optimizer state"
    example = "llama-3.1-405b on 8 GPUs: weights, gradients and optimizer alone are ten times an H100"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        report = memory_report(problem, layout)
        if report is None:
            return True
        return report.verdict == "fits" or (problem.allow_borderline and report.verdict == "borderline")

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        model.at_most_held(lambda stage: capacity_quantities(a, problem, x, stage), capacity_bound(problem))

    def reason(self, problem: Problem, layout: Layout) -> str:
        report = memory_report(problem, layout)
        assert report is not None  # holds() is true otherwise
        return (
            f"stage {report.fullest.rank} needs up to {report.high_bytes / GIB:.1f} GiB "
            f"({report.allocated_bytes / GIB:.1f} allocated), the {problem.gpu.name} has "
            f"{report.budget_bytes / GIB:.1f} usable"
        )


RULES = (Capacity(),)
