"""A layout with its numbers: memory stage by stage, communication by group, a step's time, and the split written out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from constraints.arithmetic import Remembering
from constraints.context import loss_as_said
from constraints.layout import Layout
from constraints.memory.budget import MemoryReport, layout_stages, memory_report
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.problem import GIB, Problem
from constraints.registry import broken_rules
from constraints.rule import Stratum
from constraints.timing.communication import GROUPS, stage_communication
from constraints.timing.step import busy_ns
from solver.relief import Relief, ways_to_lower
from solver.timing import Timing, timing_of

__all__ = ["Answer", "answer_of", "gib"]


@dataclass(frozen=True)
class Answer:
    """One placed layout. ``communication_ns`` is that of the slowest rank, by group."""

    problem: Problem
    layout: Layout
    assignment: Assignment
    memory: MemoryReport
    communication_ns: dict[str, int]
    timing: Timing

    @property
    def communication_seconds(self) -> float:
        return sum(self.communication_ns.values()) / 1e9

    def to_mapping(self, rank: int) -> dict[str, Any]:
        """The entry of ``layouts`` in the JSON of ``solve``; sizes in GiB, times in seconds."""
        x = self.layout
        return {
            "rank": rank,
            **{name: getattr(x, name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp")},
            "sequence_parallel": x.sequence_parallel,
            "micro_batch_size": x.micro_batch_size,
            "num_microbatches": x.num_microbatches,
            "global_batch_size": x.global_batch_size,
            "gpus_used": x.gpus,
            "gpus_idle": self.problem.gpus - x.gpus,
            "pipeline_layout": self.assignment.text() if x.pp > 1 else None,
            "pipeline_form": x.split.form,
            "recompute": {
                "granularity": x.recompute.granularity,
                "method": x.recompute.method,
                "num_layers": x.recompute.num_layers,
                "modules": list(x.recompute.modules),
            },
            **self._settings(),
            "pipeline_stages": [
                {
                    "stage": rank,
                    "layers": self.assignment.layers_of_rank(rank),
                    "chunks": [chunk.tokens() for chunk in self.assignment.of_rank(rank)],
                    "busy_seconds": busy / 1e9,
                }
                for rank, busy in enumerate(self.busy_ns)
            ],
            "memory": memory_mapping(self.memory, self.relief),
            "time": self.timing.to_mapping(),
            "communication": communication_mapping(self.communication_ns),
            "warnings": [f"{rule_id}: {text}" for rule_id, text in self.advice],
        }

    @cached_property
    def busy_ns(self) -> tuple[int, ...]:
        """By pipeline rank, nanoseconds of a step that it works: what an imbalance is seen by."""
        return busy_ns(self.problem, self.layout)

    @cached_property
    def relief(self) -> tuple[Relief, ...]:
        """What would lower the memory, cheapest first."""
        return ways_to_lower(self.problem, self.layout, self.memory)

    @cached_property
    def advice(self) -> tuple[tuple[str, str], ...]:
        """(rule id, sentence) for each piece of advice that the layout does not follow."""
        broken = broken_rules(self.problem, self.layout, Stratum.ADVICE)
        facts = [(rule.id, rule.why(self.problem, self.layout)) for rule in broken]
        return tuple((rule_id, fact.text) for rule_id, fact in facts if fact is not None)

    def _settings(self) -> dict[str, Any]:
        """Switches that are not Megatron Bridge's defaults, under their Megatron names."""
        said = loss_as_said(self.problem, self.layout).changed()
        return {name: list(v) if isinstance(v, tuple) else v for name, v in said.items()}


def answer_of(problem: Problem, layout: Layout) -> Answer | None:
    """The numbers of ``layout``, or ``None`` if its layers are not placed (rules say why)."""
    assignment = assignment_of(problem.model, layout.pp, layout.chunks_per_rank, layout.split)
    memory = memory_report(problem, layout)
    stages = layout_stages(problem, layout)
    if assignment is None or memory is None or stages is None:
        return None
    integers = Remembering()
    slowest = max(
        (stage_communication(integers, problem, layout, stage) for stage in stages), key=lambda by: sum(by.values())
    )
    return Answer(problem, layout, assignment, memory, slowest, timing_of(problem, layout))


def memory_mapping(memory: MemoryReport, relief: tuple[Relief, ...] | None = None) -> dict[str, Any]:
    """The ``memory`` object of the JSON: GiB, to three decimals; with ``relief`` also what would lower it."""
    mapping: dict[str, Any] = {
        "verdict": memory.verdict,
        "allocated_gib": gib(memory.allocated_bytes),
        "peak_gib": gib(memory.peak_bytes),
        "low_gib": gib(memory.low_bytes),
        "high_gib": gib(memory.high_bytes),
        "budget_gib": gib(memory.budget_bytes),
        "margin_gib": {name: gib(size) for name, size in memory.margin.items()},
        "stages": [
            {
                "stage": stage.rank,
                **{f"{name}_gib": gib(size) for name, size in stage.components.items()},
                "peak_gib": gib(stage.allocated_bytes),
                "phase": stage.phase,
            }
            for stage in memory.stages
        ],
    }
    if relief is not None:
        mapping["relief"] = [way.to_mapping() for way in relief]
    return mapping


def communication_mapping(by_group: dict[str, int]) -> dict[str, Any]:
    """The ``communication`` object of the JSON: seconds per optimizer step, before overlap."""
    return {
        "seconds": sum(by_group.values()) / 1e9,
        "by_group": {group: by_group[group] / 1e9 for group in GROUPS},
    }


def gib(size: int) -> float:
    """Bytes as GiB, to three decimals."""
    return round(size / GIB, 3)
