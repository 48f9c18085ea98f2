"""What becomes of jobs: the answer of one, and of all together how many came to what, where and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DISAGREEMENT", "FACTS", "FAILED", "Failure", "Group", "Outcome", "Reason", "Totals"]

DISAGREEMENT, FAILED = "disagreement", "failed"
KINDS = {
    **{"optimal": "solved", "feasible": "solved", "infeasible": "infeasible", "unknown": "undecided"},
    **{FAILED: "failed", DISAGREEMENT: "failed"},
}
"""Status of a job to what it is counted as."""

ALL_DECIDED, SOME_UNDECIDED, INTERNAL = 0, 3, 70
"""Exit codes."""

FACTS = (
    *("objective_value", "objective_unit", "tokens_per_second_per_gpu", "step_seconds", "high_gib"),
    *("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "micro_batch_size", "global_batch_size", "sequence_parallel"),
    *("recompute", "pipeline_layout", "gpus_used", "rules", "reason"),
)
"""What the manifest and the summary say of an answer; what an answer does not have is left empty."""


@dataclass(frozen=True)
class Outcome:
    """What a worker sends back. ``files`` is what the job's folder is to hold, ``facts`` has keys of :data:`FACTS`.

    ``status`` is that of a report, or ``disagreement``; ``seconds`` is how long it took.
    """

    status: str
    files: Mapping[str, bytes]
    facts: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A job that came to nothing. ``status`` is ``failed`` or ``disagreement``; ``internal`` if the fault is meshwright's."""

    job: str
    status: str
    reason: str
    internal: bool = False


@dataclass
class Group:
    """Jobs on one machine, or on several of one cluster (``gpus`` is then a range)."""

    cluster: str
    gpus: str
    jobs: int = 0
    solved: int = 0
    infeasible: int = 0
    undecided: int = 0
    failed: int = 0

    def add(self, kind: str, count: int = 1) -> None:
        self.jobs += count
        setattr(self, kind, getattr(self, kind) + count)


@dataclass
class Reason:
    """How many jobs have no layout for one set of rules, and the first of them."""

    example: str
    count: int = 0


@dataclass
class Totals:
    """A run so far: ``by_status`` counts jobs; ``reused`` took the answer of an identical one, ``kept`` were there before."""

    jobs: int
    by_status: dict[str, int] = field(default_factory=dict)
    reused: int = 0
    kept: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    reasons: dict[tuple[str, ...], Reason] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)

    def add(self, status: str) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1

    @property
    def done(self) -> int:
        return sum(self.by_status.values())

    def count(self, kind: str) -> int:
        """Jobs that count as ``solved``, ``infeasible``, ``undecided`` (which those are that were not run) or ``failed``."""
        count = sum(count for status, count in self.by_status.items() if KINDS.get(status, "undecided") == kind)
        return count + self.jobs - self.done if kind == "undecided" else count

    @property
    def exit_code(self) -> int:
        """0 if every job is decided; 70 if something is wrong with meshwright itself; else 3."""
        if any(failure.internal for failure in self.failures):
            return INTERNAL
        decided = self.count("solved") + self.count("infeasible")
        return ALL_DECIDED if decided == self.jobs and not self.failures else SOME_UNDECIDED

    def sort(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Fill in groups, reasons and undecided jobs from the rows of all jobs."""
        groups: dict[tuple[str, int], Group] = {}
        for row in rows:
            key = (row["cluster"], row["gpus"])
            kind = KINDS.get(row["status"], "undecided")
            groups.setdefault(key, Group(row["cluster"], str(row["gpus"]))).add(kind)
            if kind == "infeasible":
                self.reasons.setdefault(tuple(row.get("rules") or ()), Reason(row["job"])).count += 1
            elif kind == "undecided":
                self.undecided.append(row["job"])
        self.groups = list(groups.values())

    def merged(self) -> list[Group]:
        """The groups of each cluster as one."""
        merged: dict[str, list[Group]] = {}
        for group in self.groups:
            merged.setdefault(group.cluster, []).append(group)
        return [_together(cluster, groups) for cluster, groups in merged.items()]

    def to_mapping(self) -> dict[str, Any]:
        """The JSON that a run ends with."""
        kinds = ("solved", "infeasible", "undecided", "failed")
        return {
            "jobs": self.jobs,
            **{kind: self.count(kind) for kind in kinds},
            "reused": self.reused,
            "finished_before": self.kept,
            "seconds": round(self.seconds, 3),
            "failures": [{"job": f.job, "status": f.status, "reason": f.reason} for f in self.failures],
        }


def _together(cluster: str, groups: list[Group]) -> Group:
    counts = [int(group.gpus) for group in groups]
    whole = Group(cluster, f"{min(counts)}-{max(counts)}" if len(groups) > 1 else groups[0].gpus)
    for group in groups:
        for kind in ("solved", "infeasible", "undecided", "failed"):
            whole.add(kind, getattr(group, kind))
    return whole
