"""The changes of one thing that alone make a layout legal and let it fit, each tried out. No ortools here.

Everything else stays as it is written; dp, edp and the number of micro-batches follow, etp too where nobody wrote it, and
sequence parallelism goes where Megatron Bridge drops it (tp = 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from constraints.generations import before
from constraints.layout import NO_RECOMPUTE, Layout, PipelineSplit, Recompute, Settings
from constraints.memory.budget import CAPACITY, memory_report
from constraints.pins import Pin
from constraints.problem import GIB, Origin, Problem
from constraints.refutation.space import values_of_decisions, virtual_stages
from constraints.registry import rules_of
from constraints.rule import Rule
from constraints.timing.played import reported_step
from solver.changes import Change
from solver.completion import best_split, completed
from solver.verdict import BINDING, Verdict

__all__ = [
    "DEGREES",
    "FOLLOWING",
    "Asked",
    "SingleChange",
    "binding_rules",
    "degree_changes",
    "fitting_rules",
    "single_changes",
]

DEGREES = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size")
"""What a person writes; sequence parallelism and what is recomputed are counted with them."""
FOLLOWING = ("dp", "edp")
"""What the other degrees leave."""
LARGEST_MICRO_BATCH = 256
MOST_BATCHES = 64
DEFAULTS = Settings()


@dataclass(frozen=True)
class Asked(Problem):
    """The problem of a judged layout: nothing is pinned, and what the layout has is among what a decision may take."""

    kept: Recompute = NO_RECOMPUTE
    etp_follows: bool = False
    """True if etp is left out, so that it is what tp and ep make it."""

    @property
    def recompute_options(self) -> tuple[Recompute, ...]:
        usual = super().recompute_options
        return usual if self.kept in usual else (*usual, self.kept)

    @classmethod
    def of(cls, verdict: Verdict, settings: Settings, batch: int | None) -> Asked:
        """What ``verdict`` is about, with these switches and this batch (``None``: free)."""
        problem, layout = verdict.problem, verdict.layout
        limits = {"vpp": problem.model.num_layers, "micro_batch_size": LARGEST_MICRO_BATCH}
        mine = {name: getattr(layout, name) for name in DEGREES}
        mine = {name: value for name, value in mine.items() if value and value <= limits.get(name, problem.gpus)}
        own = tuple(Pin(name, name, value, Origin("layout", "layout")) for name, value in mine.items())
        values = {f.name: getattr(problem, f.name) for f in fields(Problem)}
        changed = {"pins": own, "settings": settings, "global_batch_size": batch}
        asked = cls(**values | changed, kept=layout.recompute)
        left_out = not asked.written("etp") and layout.etp == asked.etp_left_out(layout.tp, layout.ep)
        return replace(asked, etp_follows=left_out)

    def written(self, decision: str) -> bool:
        """True if somebody wrote the decision down, and it does not follow from others."""
        return self.origin(decision).kind not in ("derived", "default")

    def etp_left_out(self, tp: int, ep: int) -> int:
        """What etp is where it is left out."""
        return 1 if ep > 1 and self.bridge_mends else tp

    @property
    def bridge_mends(self) -> bool:
        """True if Bridge sets etp beside ep, and drops sequence parallelism with tp = 1."""
        return not before(self.megatron, "0.19")


@dataclass(frozen=True)
class SingleChange:
    """One change, the layout then, and its time."""

    change: Change
    layout: Layout
    step_ns: int
    high_bytes: int

    def to_mapping(self) -> dict[str, Any]:
        """The entry of ``single_changes`` in the JSON of ``check``."""
        return {
            "change": {self.change.name: self.change.plain_now},
            "from": self.change.plain_was,
            "step_seconds": self.step_ns / 1e9,
            "high_gib": round(self.high_bytes / GIB, 3),
        }


def binding_rules(problem: Problem) -> list[Rule]:
    """What makes a layout legal for the problem's Megatron."""
    return [rule for rule in rules_of(problem.megatron) if rule.stratum in BINDING]


def fitting_rules(problem: Problem) -> list[Rule]:
    """What makes it legal, and last, as it is dear to ask, that it fits."""
    return [*binding_rules(problem), *(rule for rule in rules_of(problem.megatron) if rule.id == CAPACITY)]


def single_changes(verdict: Verdict) -> tuple[SingleChange, ...]:
    """Every change of one thing that alone makes the judged layout legal and lets it fit, the fastest step first."""
    found: list[SingleChange] = []
    rules = fitting_rules(verdict.problem)
    for problem, change, x in _candidates(verdict):
        if all(rule.holds(problem, x) for rule in rules):
            report = memory_report(problem, x)
            assert report is not None, "a layout that keeps the rules places its layers"
            found.append(SingleChange(change, x, reported_step(problem, x).step_ns, report.high_bytes))
    per_sequence = [one.step_ns / one.layout.global_batch_size for one in found]
    return tuple(one for _, one in sorted(zip(per_sequence, found, strict=True), key=lambda pair: pair[0]))


def _candidates(verdict: Verdict) -> Iterator[tuple[Problem, Change, Layout]]:
    judged = verdict.layout
    asked = Asked.of(verdict, judged.settings, judged.global_batch_size)
    batch = judged.global_batch_size
    followed = completed(asked, judged, batch)
    wrong = [
        name for name in FOLLOWING if asked.written(name) and getattr(followed, name, None) != getattr(judged, name)
    ]
    for name, x in degree_changes(asked, judged):
        whole = completed(asked, x, batch)
        if not isinstance(whole, str) and all(getattr(whole, n) == getattr(judged, n) for n in wrong):
            yield asked, Change(name, getattr(judged, name), getattr(whole, name)), whole
    if len(wrong) == 1 and not isinstance(followed, str):
        yield asked, Change(wrong[0], getattr(judged, wrong[0]), getattr(followed, wrong[0])), followed
    split = best_split(asked, judged, "step-time")
    for other in dict.fromkeys((split, PipelineSplit())):
        if other is not None and other != judged.split:
            yield asked, Change("split", judged.split, other), replace(judged, split=other)
    read = {name for violation in verdict.violations for name in violation.rule.reads}
    for f in fields(Settings):
        was, default = getattr(judged.settings, f.name), getattr(DEFAULTS, f.name)
        if f.name in read and was != default:
            reset: dict[str, Any] = {f.name: default}
            settings = replace(judged.settings, **reset)
            yield replace(asked, settings=settings), Change(f.name, was, default), replace(judged, settings=settings)
    yield from _batches(verdict)


def _batches(verdict: Verdict) -> Iterator[tuple[Problem, Change, Layout]]:
    """The nearest smaller and the nearest larger batch of whole micro-batches that break no rule."""
    judged = verdict.layout
    free, rules = Asked.of(verdict, judged.settings, None), binding_rules(verdict.problem)
    unit = judged.dp * judged.micro_batch_size
    least = judged.global_batch_size // unit
    for counts in (range(least, max(0, least - MOST_BATCHES), -1), range(least + 1, least + 1 + MOST_BATCHES)):
        for count in counts:
            size = count * unit
            x = replace(judged, num_microbatches=count, global_batch_size=size)
            if size != judged.global_batch_size and all(rule.holds(free, x) for rule in rules):
                problem = replace(free, global_batch_size=size)
                yield problem, Change("global_batch_size", judged.global_batch_size, size), x
                break


def degree_changes(asked: Asked, judged: Layout) -> Iterator[tuple[str, Layout]]:
    """(what is changed, the layout with it) for every other value of one degree; what follows is not worked out yet."""
    values = values_of_decisions(asked, wide=False)
    values["vpp"] = virtual_stages(asked, judged.pp, values["vpp"])
    for name in DEGREES:
        if name == "etp" and asked.etp_follows and not asked.model.is_moe:
            continue  # nothing is split over it
        for value in values[name]:
            if value != (getattr(judged, name) or 1):
                change: dict[str, Any] = {name: value if name != "vpp" or value > 1 else None}
                yield name, _followed(asked, replace(judged, **change), name)
    yield "sequence_parallel", replace(judged, sequence_parallel=not judged.sequence_parallel)
    for option in asked.recompute_options:
        if option != judged.recompute:
            yield "recompute", replace(judged, recompute=option)


def _followed(asked: Asked, x: Layout, changed: str) -> Layout:
    if changed in ("tp", "ep") and asked.etp_follows:
        x = replace(x, etp=asked.etp_left_out(x.tp, x.ep))
    if x.tp == 1 and asked.bridge_mends:
        x = replace(x, sequence_parallel=False)
    return x
