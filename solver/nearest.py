"""The legal layout nearest to one that is not: the fewest degrees changed, then the least time. No ortools here.

What changes is counted in the words a person writes (tp, pp, vpp, cp, ep, etp, micro-batch, sequence parallelism,
recompute); dp and edp follow. A global batch stays as it is if any layout keeps it, switches stay unless a broken rule reads
them, the split stays where it is legal. Up to one change is tried out here; the solver is asked where that
is not enough.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from constraints.layout import Layout, Settings
from constraints.memory.budget import CAPACITY
from constraints.rule import Rule
from constraints.timing.played import reported_step
from solver.answer import Answer, answer_of
from solver.changes import Change
from solver.completion import best_split, completed, some_split
from solver.single_changes import DEFAULTS, DEGREES, FOLLOWING, Asked, binding_rules, degree_changes, fitting_rules
from solver.tie_breaks import tie_break_key
from solver.verdict import Verdict

__all__ = ["Nearest", "nearest_legal"]

SHOWN = (*DEGREES, "sequence_parallel", "global_batch_size", "recompute", "split")


@dataclass(frozen=True)
class Nearest:
    """A legal layout with its numbers, and what is changed to get there."""

    answer: Answer
    changes: tuple[Change, ...]

    @property
    def words(self) -> list[str]:
        """The changes as a person reads them: ``tp 8 -> 4``."""
        return [str(change) for change in self.changes]

    def to_mapping(self) -> dict[str, Any]:
        """The ``nearest`` of the JSON of ``check``: a layout as ``solve`` writes it, and what was changed."""
        entry = self.answer.to_mapping(1)
        del entry["rank"]
        changes = {change.name: {"from": change.plain_was, "to": change.plain_now} for change in self.changes}
        return {"changes": changes} | entry


def nearest_legal(verdict: Verdict, *, seconds: float = 10.0) -> Nearest | None:
    """The nearest layout that breaks no law and no framework rule and fits in memory.

    Where none fits, one that is legal alone (if the judged one is not); ``None`` if there is none, or none was found in
    time.
    """
    deadline = time.monotonic() + seconds
    judged = verdict.layout
    for asked, rules in _questions(verdict):
        layout = _at_most_one_change(asked, rules, judged)
        if layout is None and time.monotonic() < deadline:
            layout = _more_changes(asked, rules, judged, deadline)
        answer = answer_of(asked, layout) if layout is not None else None
        if answer is not None:
            return Nearest(answer, tuple(_changes(asked, judged, answer.layout)))
    return None


def _questions(verdict: Verdict) -> Iterator[tuple[Asked, list[Rule]]]:
    """Ever less of what was asked: the batch is let go, then switches that broken rules read, then the memory."""
    judged = verdict.layout
    plain = _without(judged.settings, verdict)
    fitting, binding = fitting_rules(verdict.problem), binding_rules(verdict.problem)
    for rules in (fitting, binding) if verdict.violations else (fitting,):
        for settings in (judged.settings, plain) if plain != judged.settings else (judged.settings,):
            for batch in (judged.global_batch_size, None):
                yield Asked.of(verdict, settings, batch), rules


def _without(settings: Settings, verdict: Verdict) -> Settings:
    """The switches, those that broken rules read at Megatron's defaults."""
    read = {name for violation in verdict.violations for name in violation.rule.reads}
    defaults: dict[str, Any] = {f.name: getattr(DEFAULTS, f.name) for f in fields(Settings) if f.name in read}
    return replace(settings, **defaults)


def _at_most_one_change(asked: Asked, rules: list[Rule], judged: Layout) -> Layout | None:
    """The fastest layout without a changed degree, or else with one; the layers stay where they are, or move."""
    if asked.global_batch_size is None:
        return None
    judged = replace(judged, settings=asked.settings)
    for degrees in ([judged], [x for _, x in degree_changes(asked, judged)]):
        legal = [x for changed in degrees if (x := _legal(asked, rules, changed)) is not None]
        if legal:
            return min(legal, key=lambda x: (reported_step(asked, x).step_ns, tie_break_key(asked, x)))
    return None


def _legal(asked: Asked, rules: list[Rule], x: Layout) -> Layout | None:
    """``x`` made whole, with its own split or, where rules forbid that, as ``solve`` would place the layers."""
    whole = completed(asked, x, asked.global_batch_size)
    if isinstance(whole, str):
        return None
    if all(rule.holds(asked, whole) for rule in rules):
        return whole
    some = some_split(asked, whole)
    anywhere = replace(whole, split=some) if some is not None else whole
    if not all(rule.holds(asked, anywhere) for rule in rules if rule.id != CAPACITY):
        return None
    split = best_split(asked, whole, "step-time")
    tried = replace(whole, split=split) if split is not None else whole
    return tried if all(rule.holds(asked, tried) for rule in rules) else None


def _more_changes(asked: Asked, rules: list[Rule], judged: Layout, deadline: float) -> Layout | None:
    from solver.fewest_changes import fewest_changes  # half a second of ortools, which a single change does not pay

    found = fewest_changes(asked, rules, judged, deadline)
    if found is None:
        return None
    own = replace(found, split=judged.split)
    return own if all(rule.holds(asked, own) for rule in rules) else found


def _changes(asked: Asked, judged: Layout, found: Layout) -> Iterator[Change]:
    for name in SHOWN:
        was, now = getattr(judged, name), getattr(found, name)
        if was != now and not _follows(asked, name, found):
            yield Change(name, was, now)
    if all(getattr(judged, name) == getattr(found, name) for name in DEGREES):  # else these follow
        for name in FOLLOWING:
            if getattr(judged, name) != getattr(found, name):
                yield Change(name, getattr(judged, name), getattr(found, name))
    for f in fields(Settings):
        was, now = getattr(judged.settings, f.name), getattr(found.settings, f.name)
        if was != now:
            yield Change(f.name, was, now)


def _follows(asked: Asked, name: str, found: Layout) -> bool:
    """True for what nobody has to write: the etp that is left out, and sequence parallelism that Bridge drops."""
    if name == "etp":
        return asked.etp_follows and found.etp == asked.etp_left_out(found.tp, found.ep)
    return name == "sequence_parallel" and found.tp == 1 and asked.bridge_mends
