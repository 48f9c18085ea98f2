"""Why a request has no layout, as one object: conflicts and their steps, the closest miss, ways out, the proof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY, memory_report
from constraints.problem import GIB, Origin, Problem
from constraints.registry import enforced_rules
from constraints.rule import Rule, Stratum
from solver.answer import Answer, answer_of
from solver.batch_tolerance import FREE_BATCH
from solver.because import Step, degree_words, gib, steps_of
from solver.certificate import Certified, NotAConflict, certified
from solver.conflicts import Conflicts, conflicts_of
from solver.edits import asked_words, switch_words
from solver.explain import Exhausted, Minimal
from solver.feasibility import least_memory
from solver.idle import Excluded, excluded
from solver.proof import SOLVER, Proof
from solver.search import Disagreement
from solver.ways_out import WayOut, WaysOut, ways_out

__all__ = ["Blamed", "Explained", "Miss", "Refutation", "refutation_of"]


LONGEST_VALUE = 40


@dataclass(frozen=True)
class Blamed:
    """Words of the request, or a value that it took over, that a conflict rests on."""

    text: str
    origin: Origin
    note: str = ""

    def to_mapping(self) -> dict[str, Any]:
        return {"text": self.text, "origin": str(self.origin), "note": self.note or None}


@dataclass(frozen=True)
class Explained:
    """One minimal conflict and the steps that lead to it."""

    minimal: Minimal
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Miss:
    """The layout that fails by least: ``violations`` are (rule, sentence) with the numbers."""

    layout: Layout
    words: str
    violations: tuple[tuple[Rule, str], ...]
    over_gib: float | None

    def to_mapping(self) -> dict[str, Any]:
        return {
            "layout": layout_mapping(self.layout),
            "words": self.words,
            "violations": [{"rule": rule.id, "reason": text} for rule, text in self.violations],
            "over_gib": self.over_gib,
        }


@dataclass(frozen=True)
class Refutation:
    """What there is to say about a request without a layout. ``explained`` is empty if time ran out before a conflict."""

    problem: Problem
    explained: tuple[Explained, ...]
    exhausted: bool
    miss: Miss | None
    ways: WaysOut
    innocent: tuple[str, ...]
    certificate: Mapping[str, Any] | None = None
    proof: Proof = SOLVER
    idle: Excluded | None = None
    """Where GPUs may stay idle: the proof for every smaller count, if it is not too large."""

    @property
    def core(self) -> tuple[Rule, ...]:
        """Every rule of some conflict, each once, those of the first conflict first."""
        rules = {rule.id: rule for explained in self.explained for rule in explained.minimal.rules}
        return tuple(rules.values())

    @property
    def blamed(self) -> tuple[Blamed, ...]:
        """The user's own words in the conflicts, then values that were taken over: of defaults those that a step tells."""
        told = " ".join(step.text for explained in self.explained for step in explained.steps)
        return tuple(_blamed(self.problem, self.core, told))

    def to_mapping(self) -> dict[str, Any]:
        """The ``explanation`` of the JSON of ``solve``."""
        problem = self.problem
        return {
            "core": [_core_mapping(problem, rule) for rule in self.core],
            "conflicts": [[rule.id for rule in explained.minimal.rules] for explained in self.explained],
            "conflicts_exhausted": self.exhausted,
            "where": [blamed.to_mapping() for blamed in self.blamed],
            "because": [
                {"conflict": number, **step.to_mapping()}
                for number, explained in enumerate(self.explained, start=1)
                for step in explained.steps
            ],
            "closest_miss": self.miss.to_mapping() if self.miss else None,
            "ways_out": [_way_mapping(way) for way in self.ways.ways],
            "does_not_help": list(self.ways.useless),
            "not_to_blame": list(self.innocent),
            "fewer_gpus": {"counts": sorted(self.idle.trees), "rules": list(self.idle.rules)} if self.idle else None,
            "certificate": self.certificate,
        }


def refutation_of(problem: Problem, *, seconds: float = 20.0) -> Refutation:
    """Explain an infeasible problem.

    Raises :class:`~solver.search.Disagreement` if a layout turns up after all, or one that was found breaks a rule.
    """
    try:
        found = conflicts_of(problem, seconds=seconds)
    except Exhausted:
        return Refutation(problem, (), False, None, WaysOut((), (), None), ())
    ways = ways_out(problem, found)
    idle = excluded(problem, range(1, problem.gpus)) if problem.allow_idle else None
    try:
        proved = certified(problem, found.conflicts, ways.ways, idle)
    except NotAConflict:  # only virtual stages that the quick question left out can be the reason
        found = conflicts_of(problem, seconds=seconds, interleaving=True)
        ways = ways_out(problem, found)
        proved = _certified_at_last(problem, found, ways, idle)
    explained = tuple(Explained(conflict, steps_of(problem, conflict)) for conflict in found.conflicts)
    return Refutation(
        problem=problem,
        explained=explained,
        exhausted=found.exhausted,
        miss=_miss(problem, found, ways),
        ways=ways,
        innocent=tuple(_innocent(problem, found)),
        certificate=proved.certificate if proved else None,
        proof=proved.proof if proved else SOLVER,
        idle=idle if proved else None,
    )


def _certified_at_last(problem: Problem, found: Conflicts, ways: WaysOut, idle: Excluded | None) -> Certified | None:
    try:
        return certified(problem, found.conflicts, ways.ways, idle)
    except NotAConflict as error:
        raise Disagreement(f"the checker finds a layout under the rules {error}") from error


def _miss(problem: Problem, found: Conflicts, ways: WaysOut) -> Miss | None:
    """Where only memory is missing, the layout that misses by least; else the layout of the cheapest way out."""
    nearest = ways.least or _nearest_layout(problem, found, ways)
    if nearest is None:
        return None
    layout = replace(nearest, settings=problem.settings)  # a way out may have other switches
    violations = []
    for rule in enforced_rules(problem):
        fact = rule.why(problem, layout)
        if fact is not None:
            violations.append((rule, fact.text))
    report = memory_report(problem, layout)
    over = report.high_bytes - report.budget_bytes if report else 0
    return Miss(
        layout, degree_words(problem, layout), tuple(violations), round(over / GIB, 3) if over > 0 and report else None
    )


def _nearest_layout(problem: Problem, found: Conflicts, ways: WaysOut) -> Layout | None:
    """The layout of the cheapest way out on the same machine, else the one nearest to fitting without the pins at fault."""
    for way in ways.ways:
        if (way.changed.problem.gpus, way.changed.problem.gpu) == (problem.gpus, problem.gpu):
            return way.layout
    guilty = {rule.id for conflict in found.conflicts for rule in conflict.rules}
    if CAPACITY in guilty:
        free = replace(problem, pins=tuple(pin for pin in problem.pins if pin.id not in guilty))
        if (nearest := least_memory(free)) is not None:
            return nearest.layout
    layouts = [way.layout for way in ways.ways] + [correction.layout for correction in found.corrections]
    return layouts[0] if layouts else None


def _innocent(problem: Problem, found: Conflicts) -> list[str]:
    """Pins and limits that are in no conflict; nothing is said if not every conflict is known."""
    if not found.exhausted:
        return []
    guilty = {rule.id for conflict in found.conflicts for rule in conflict.rules}
    return [asked_words(pin) for pin in problem.pins if pin.id not in guilty]


def _blamed(problem: Problem, core: tuple[Rule, ...], told: str) -> list[Blamed]:
    out = [Blamed(asked_words(rule), _origin_of(rule)) for rule in core if rule.stratum is Stratum.PIN]
    read = {name for rule in core for name in rule.reads}
    if problem.global_batch_size is not None and any("global_batch_size" in rule.scope for rule in core):
        read.add("global_batch_size")
    for name, text in (
        ("gpus", f"--gpus {problem.gpus}"),
        ("budget_bytes", f"--gpu {problem.gpu.name}"),
        ("nvlink_domain", f"--nvlink-domain {problem.nvlink_domain}"),
        ("global_batch_size", f"--global-batch-size {problem.global_batch_size}"),
        (
            "batch_tolerance",
            f"--global-batch-size {problem.target_batch} --batch-tolerance {problem.tolerance_percent}",
        ),
        ("seq_length", f"--seq-length {problem.seq_length}"),
        ("precision", f"--precision {problem.precision}"),
        ("task", f"--task {problem.task}"),
    ):
        if name not in read or (name in FREE_BATCH and getattr(problem, name) == FREE_BATCH[name]):
            continue
        origin = problem.origin(name)
        if name == "budget_bytes":
            out.append(_memory_blame(problem, text))
        elif origin.kind != "default" or re.search(rf"\b{getattr(problem, name)}\b", told):
            out.append(Blamed(text, origin, _note(origin)))
    changed = problem.settings.changed()
    switches = {switch_words(problem, name): problem.origin(name) for name in sorted(read & changed.keys())}
    out += [Blamed(text, origin) for text, origin in switches.items()]
    model = sorted(name for name in read if hasattr(problem.model, name) and name not in changed)
    values = [f"{name}={_short(v)}" for name in model if (v := getattr(problem.model, name)) not in (None, False)]
    if values:
        out.append(Blamed(", ".join(values), Origin("catalog", problem.model.name), "the model"))
    return out


def _memory_blame(problem: Problem, text: str) -> Blamed:
    usable = f"{gib(problem.budget_bytes)} GiB usable"
    origin = problem.origin("budget_bytes")
    if origin.kind == "catalog":
        return Blamed(text, problem.origins.get("gpu", origin), f"{usable}, catalog")
    return Blamed(f"--memory-gib {problem.budget_bytes / GIB:g}", origin, usable)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _note(origin: Origin) -> str:
    return {"default": "a default", "catalog": "catalog"}.get(origin.kind, "")


def _origin_of(rule: Rule) -> Origin:
    origin: Origin = getattr(rule, "origin", Origin("request", "request"))
    return origin


def _core_mapping(problem: Problem, rule: Rule) -> dict[str, Any]:
    origins = {name: str(problem.origin(name)) for name in rule.reads}
    if problem.global_batch_size is not None and "global_batch_size" in rule.scope:
        origins["global_batch_size"] = str(problem.origin("global_batch_size"))
    return {
        "rule": rule.id,
        "stratum": str(rule.stratum),
        "statement": rule.statement,
        "source": str(rule.source) if rule.source else None,
        "origin": origins or str(getattr(rule, "origin", "") or "none: it reads decisions only"),
    }


def _way_mapping(way: WayOut) -> dict[str, Any]:
    answer: Answer | None = answer_of(way.changed.problem, way.layout)
    layout = answer.to_mapping(1) if answer is not None else layout_mapping(way.layout)
    layout.pop("rank", None)
    return {
        "change": way.text,
        "edits": [edit.to_mapping() for edit in way.changed.edits],
        "note": way.note or None,
        "layout": layout,
        "tested": True,
        "best": way.best,
    }


def layout_mapping(x: Layout) -> dict[str, Any]:
    """The decisions of a layout by name."""
    return {
        **{name: getattr(x, name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp")},
        "sequence_parallel": x.sequence_parallel,
        "micro_batch_size": x.micro_batch_size,
        "num_microbatches": x.num_microbatches,
        "global_batch_size": x.global_batch_size,
        "recompute": str(x.recompute),
    }
