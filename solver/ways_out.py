"""Ways out of a request that has no layout: the nearest values that have one, each tried before it is offered.

Laws and framework rules are never given up. What can move is moved one at a time; where one change is not enough, the
smallest corrections that the conflicts leave are tried together. Imports ortools.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY
from constraints.memory.spread import fewest_gpus
from constraints.precision import FORMAT_ON_GPU, has_format
from constraints.problem import Problem
from constraints.rule import Rule
from solver.conflicts import Conflicts, Correction
from solver.distance import batch_distance, gpus_distance, pin_distance, sequence_distance
from solver.edits import Changed, asked_words, without_pins
from solver.feasibility import least_memory, plainest_layout
from solver.fewest_count import fewest_note
from solver.moves import (
    Move,
    both,
    fewer_gpus,
    first_feasible,
    gpu_with_format,
    larger_counts,
    lighter_numbers,
    nearest_batch,
    nearest_pins,
    nearest_sequence,
    next_gpu,
    repinned,
    shorter_sequence,
    tenths_needed,
)
from solver.releases import releases
from solver.way_out import COSTS, BestLayouts, WayOut

__all__ = ["WayOut", "WaysOut", "ways_out"]

MOST_WAYS = 6
PER_TENSOR = "fp8_cs"
"""The low precision that most GPUs have."""
MULTIPLES = (1, 2, 4, 8)
"""How many times a few nodes more are tried before more GPUs are looked for where no conflict speaks of them."""


@dataclass(frozen=True)
class WaysOut:
    """``ways`` cheapest first; ``useless`` are sentences about changes that alone do not help."""

    ways: tuple[WayOut, ...]
    useless: tuple[str, ...]
    least: Layout | None
    """The layout nearest to fitting, where memory is in the way."""


def ways_out(problem: Problem, found: Conflicts) -> WaysOut:
    """Ways out of ``problem``, given its conflicts."""
    return _Finder(problem, found).all()


class _Finder:
    def __init__(self, problem: Problem, found: Conflicts) -> None:
        self.problem, self.found = problem, found
        self.rules = {rule.id: rule for conflict in found.conflicts for rule in conflict.rules}
        self.pins = {rule.id: rule for rule in problem.pins}
        self.read = {name for rule in self.rules.values() for name in (*rule.reads, *rule.scope)}
        nearest = least_memory(problem) if CAPACITY in self.rules else None
        self.least = nearest.layout if nearest is not None else None
        self.useless: list[str] = []

    def all(self) -> WaysOut:
        ways = list(self._single())
        if not ways or all(way.cost[0] >= COSTS["gpus"] for way in ways):
            ways += self._combined(ways)
        if not ways:
            ways += self._everything()
        unique: dict[str, WayOut] = {}
        for way in sorted(ways, key=lambda way: way.cost):
            unique.setdefault(way.text, way)
        self.useless += self._pins_that_do_not_help()
        shown = list(unique.values())[:MOST_WAYS]
        best = BestLayouts()
        ways = [best.of(way) for way in shown]
        ways += islice(releases(Changed(self.problem), self._movable(), ways, best), MOST_WAYS - len(ways))
        ordered = sorted(ways, key=lambda way: way.cost)
        return WaysOut(tuple(ordered), tuple(self.useless), self.least)

    # -- one change

    def _single(self) -> Iterator[WayOut]:
        start = Changed(self.problem)
        for rule in self._movable():
            yield from self._way("pin", start, partial(nearest_pins, pins=[rule]), pin_distance)
        for name in self.problem.settings.changed():
            if name in self.read:
                yield from self._way("pin", start, partial(Changed.switch_off, name=name))
        for rule in self.rules.values():
            if rule.relaxable and self._may(rule.id):
                yield from self._way("advice", start, partial(Changed.relax, rule_id=rule.id))
        asked = self.problem.global_batch_size or self.problem.target_batch
        if asked is not None and "global_batch_size" in self.read and self._may("batch"):
            yield from self._way("batch", start, nearest_batch, batch_distance)
        if "seq_length" in self.read:
            yield from self._way("sequence", start, nearest_sequence, sequence_distance)
        if "precision" in self.read and self.problem.precision != "bf16":
            yield from self._way("precision", start, lambda c: c.precision("bf16"))
        if FORMAT_ON_GPU in self.rules:
            if has_format(PER_TENSOR, self.problem.gpu):
                yield from self._way("precision", start, lambda c: c.precision(PER_TENSOR))
            yield from self._way("gpu", start, gpu_with_format)
        yield from self._machines(start)
        if self.least is not None and self._may("memory"):
            yield from self._memory(start)

    def _movable(self) -> list[Rule]:
        """The pins and limits that alone may help."""
        return [rule for rule in self.pins.values() if rule.id in self.rules and self._may(rule.id)]

    def _may(self, knob: str) -> bool:
        """False if the conflicts say that this knob alone cannot help."""
        return not self.found.exhausted or any([k.name for k in c.knobs] == [knob] for c in self.found.corrections)

    def _machines(self, start: Changed) -> Iterator[WayOut]:
        counted = "gpus" in self.read and self._may("gpus")
        if counted and not self.problem.allow_idle and self.problem.gpus > 1:
            yield from self._way("idle", start, fewer_gpus, gpus_distance, note=_idle_note)
        if counted or self._may_want_more_gpus():
            yield from self._way("gpus", start, self.more_gpus, gpus_distance, note=fewest_note)

    def _may_want_more_gpus(self) -> bool:
        """True if a few times as many GPUs have a layout, though the conflicts do not say so: they are about degrees that
        these GPUs have, and more replicas share the optimizer's state."""
        shared = all(CAPACITY in c.ids or any("gpus" in rule.reads for rule in c.rules) for c in self.found.conflicts)
        if CAPACITY not in self.rules or not shared:
            return False
        at_least = self._at_least(self.problem) + self.problem.gpus_per_node
        few = [nodes * times for nodes in islice(larger_counts(self.problem, at_least), 1) for times in MULTIPLES]
        return first_feasible(map(Changed(self.problem).gpus, few)) is not None

    def _memory(self, start: Changed) -> Iterator[WayOut]:
        if not self.problem.allow_borderline:
            yield from self._way("borderline", start, lambda c: c.borderline())
        yield from self._way("options", start, lighter_numbers)
        if not self.problem.settings.use_distributed_optimizer:
            yield from self._way("options", start, partial(Changed.switch_off, name="use_distributed_optimizer"))
        if self.problem.task != "lora" and not self.problem.settings.optimizer_cpu_offload:
            offload = {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 1.0}
            yield from self._way("offload", start, lambda c: c.switched("--offload-optimizer 100%", **offload))
        if self.problem.origin("budget_bytes").kind == "catalog":
            needed = tenths_needed(self.problem, self.least) / 10
            ways = list(self._way("gpu", start, partial(next_gpu, needed=needed)))
            if not ways:
                self.useless.append(
                    f"another GPU of the catalog alone: about {needed:g} GiB are needed on each of {self.problem.gpus}"
                )
            yield from ways
        elif self.least is not None:
            yield from self._way("gpu", start, lambda c: c.memory(tenths_needed(self.problem, self.least)))
        if "seq_length" not in self.read:
            yield from self._way("shorter", start, shorter_sequence, sequence_distance)

    def more_gpus(self, start: Changed) -> Changed | None:
        """The nearest larger count that has a layout, whole nodes first."""
        counts = larger_counts(start.problem, self._at_least(start.problem))
        return first_feasible(start.gpus(count) for count in counts)

    def _at_least(self, problem: Problem) -> int:
        """A larger count than there are, on which the model's state may lie."""
        return max(problem.gpus + 1, fewest_gpus(problem))

    # -- several changes

    def _combined(self, singles: list[WayOut]) -> Iterator[WayOut]:
        """Corrections of more than one knob; where GPUs suffice alone, fewer of them with some pins released."""
        alone = {way.changed.problem.gpus for way in singles if way.changed.edits[-1].text.startswith("--gpus")}
        for correction in self.found.corrections:
            if len(correction.knobs) > 1:
                way = self._together(correction)
                if way is not None:
                    yield way
        pins = [rule for rule in self.pins.values() if rule.id in self.rules]
        if pins and alone:
            way = self._released(pins, "gpus", self.more_gpus)
            if way is not None and way.changed.problem.gpus < min(alone):
                yield way

    def _everything(self) -> Iterator[WayOut]:
        """The last resort: every pin and switch released, then the batch, the GPUs or the machine moved as needed."""
        start = Changed(self.problem)
        for name in self.problem.settings.changed():
            if name in self.read and name in start.problem.settings.changed():  # one option may set several
                start = start.switch_off(name)
        pins = list(self.pins.values())
        moves: tuple[tuple[str, Move], ...] = (
            ("pin", lambda c: c),
            ("batch", nearest_batch),
            ("gpus", self.more_gpus),
            ("gpus", both(self.more_gpus, nearest_batch)),
            ("gpu", next_gpu),
        )
        for kind, move in moves:
            moved = move(without_pins(start, pins))
            if moved is None or plainest_layout(moved.problem) is None:
                continue
            moved = repinned(moved, pins, only_near=True)
            way = self._witnessed(kind, moved, gpus_distance, len(pins)) if moved is not None else None
            if way is not None:
                yield way
                return

    def _together(self, correction: Correction) -> WayOut | None:
        kinds = [knob.kind for knob in correction.knobs]
        pins = [self.pins[knob.name] for knob in correction.knobs if knob.kind == "pin"]
        relaxed = [knob.name for knob in correction.knobs if knob.kind == "advice"]

        def move(start: Changed) -> Changed | None:
            moved: Changed | None = start
            for rule_id in relaxed:
                moved = moved and moved.relax(rule_id)
            for kind, attempt in (("batch", nearest_batch), ("gpus", self.more_gpus), ("memory", next_gpu)):
                if kind in kinds:
                    moved = moved and attempt(moved)
            return moved

        return self._released(pins, max(kinds, key=lambda kind: COSTS.get(kind, 0)), move)

    def _released(self, pins: list[Rule], kind: str, move: Move) -> WayOut | None:
        """``move`` without the pins, then each pin at its nearest value, or left out where that is far."""
        moved = move(without_pins(Changed(self.problem), pins))
        moved = repinned(moved, pins, only_near=True) if moved is not None else None
        return self._witnessed(kind, moved, gpus_distance, len(pins)) if moved is not None else None

    def _pins_that_do_not_help(self) -> Iterator[str]:
        alone = {c.knobs[0].name for c in self.found.corrections if len(c.knobs) == 1}
        for rule in self.pins.values():
            if rule.id in self.rules and rule.id not in alone:
                others = [c for c in self.found.conflicts if rule.id not in c.ids]
                if others:
                    left = ", ".join(r.id for r in others[0].rules)
                    yield f"another {getattr(rule, 'name', rule.id)} alone ({asked_words(rule)}): {left} still conflict"

    # -- trying

    def _way(
        self,
        kind: str,
        start: Changed,
        move: Move,
        distance: Callable[[Problem, Problem], float] | None = None,
        note: Callable[[Problem, Problem], str] | None = None,
    ) -> Iterator[WayOut]:
        moved = move(start)
        way = moved and self._witnessed(kind, moved, distance)
        if way:
            yield replace(way, note=note(self.problem, way.changed.problem)) if note else way

    def _witnessed(
        self, kind: str, moved: Changed, distance: Callable[[Problem, Problem], float] | None, more: int = 0
    ) -> WayOut | None:
        layout = plainest_layout(moved.problem)
        if layout is None:
            return None
        far = distance(self.problem, moved.problem) if distance else 0.0
        return WayOut(moved, layout, (COSTS[kind] + more, far))


def _idle_note(asked: Problem, changed: Problem) -> str:
    nodes = asked.gpus - changed.gpus >= asked.gpus_per_node  # whole nodes alone were tried there
    return f"{'at least ' if nodes else ''}{changed.gpus} of the {asked.gpus} GPUs can be used"
