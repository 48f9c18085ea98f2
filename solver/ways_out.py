"""Ways out of a request that has no layout: the nearest values that have one, each tried before it is offered.

Laws and framework rules are never given up. What can move is moved one at a time; where one change is not enough, the
smallest corrections that the conflicts leave are tried together. Imports ortools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import memory_report
from constraints.pins import Limit, Pin
from constraints.problem import GIB, Problem
from constraints.refutation.space import divisors
from constraints.rule import Rule
from models_catalog.schema import GpuSpec
from solver.conflicts import Conflicts, Correction
from solver.edits import Changed, asked_words, with_pins_as_in, without_pins
from solver.feasibility import any_layout, least_memory, nearest_to, plainest_layout
from solver.search import Disagreement

__all__ = ["WayOut", "WaysOut", "ways_out"]

MOST_WAYS = 6
MOST_TRIES = {"batch": 12, "sequence": 10, "gpus": 32, "fewer": 16, "gpu": 6}
CONSECUTIVE = 16
"""Multiples of the step that are tried one after the other before the steps grow."""
LARGEST_GPUS = 1_000_000

Try = Callable[[Changed], "Changed | None"]


@dataclass(frozen=True)
class WayOut:
    """Edits that together lead to ``layout``, which keeps every rule of ``changed.problem``; ``note`` says more."""

    changed: Changed
    layout: Layout
    cost: tuple[float, float]
    note: str = ""

    @property
    def text(self) -> str:
        return " ".join(str(edit) for edit in self.changed.edits)


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
        self.least = least_memory(problem) if "memory.capacity" in self.rules else None
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
        return WaysOut(tuple(unique.values())[:MOST_WAYS], tuple(self.useless), self.least)

    # -- one change

    def _single(self) -> Iterator[WayOut]:
        start = Changed(self.problem)
        for rule in self.pins.values():
            if rule.id in self.rules and self._may(rule.id):
                yield from self._way("pin", start, partial(_nearest_pins, pins=[rule]), _pin_distance)
        for name in self.problem.settings.changed():
            if name in self.read:
                yield from self._way("pin", start, partial(Changed.switch_off, name=name))
        for rule in self.rules.values():
            if rule.stratum == "advice" and self._may(rule.id):
                yield from self._way("advice", start, partial(Changed.relax, rule_id=rule.id))
        if self.problem.global_batch_size is not None and "global_batch_size" in self.read and self._may("batch"):
            yield from self._way("batch", start, _nearest_batch, _batch_distance)
        if "seq_length" in self.read:
            yield from self._way("sequence", start, _nearest_sequence, _sequence_distance)
        if "precision" in self.read and self.problem.precision != "bf16":
            yield from self._way("precision", start, lambda c: c.precision("bf16"))
        if "gpus" in self.read and self._may("gpus"):
            yield from self._machines(start)
        if self.least is not None and self._may("memory"):
            yield from self._memory(start)

    def _may(self, knob: str) -> bool:
        """False if the conflicts say that this knob alone cannot help."""
        return not self.found.exhausted or any([k.name for k in c.knobs] == [knob] for c in self.found.corrections)

    def _machines(self, start: Changed) -> Iterator[WayOut]:
        if not self.problem.allow_idle and self.problem.gpus > 1:
            yield from self._way("idle", start, _fewer_gpus, _gpus_distance, note=_idle_note)
        yield from self._way("gpus", start, self.more_gpus, _gpus_distance)

    def _memory(self, start: Changed) -> Iterator[WayOut]:
        if not self.problem.allow_borderline:
            yield from self._way("borderline", start, lambda c: c.borderline())
        yield from self._way("options", start, _lighter_numbers)
        if self.problem.task != "lora" and not self.problem.settings.optimizer_cpu_offload:
            offload = {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 1.0}
            yield from self._way("offload", start, lambda c: c.switched("--offload-optimizer 100%", **offload))
        if self.problem.origin("budget_bytes").kind == "catalog":
            ways = list(self._way("gpu", start, _next_gpu))
            if not ways:
                self.useless.append("no other GPU of the catalog alone: none that was tried has the room")
            yield from ways
        elif self.least is not None:
            yield from self._way("gpu", start, lambda c: c.memory(_tenths(self.problem, self.least)))
        if "seq_length" not in self.read:
            yield from self._way("shorter", start, _shorter_sequence, _sequence_distance)

    def more_gpus(self, start: Changed) -> Changed | None:
        """The nearest larger count that has a layout, whole nodes first."""
        at_least = start.problem.gpus + 1
        if self.least is not None:
            at_least = _enough_memory(start, next(_larger_counts(start.problem, at_least)))
        return _first(start.gpus(count) for count in _larger_counts(start.problem, at_least))

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
            if name in self.read:
                start = start.switch_off(name)
        pins = list(self.pins.values())
        moves: tuple[tuple[str, Try], ...] = (
            ("pin", lambda c: c),
            ("batch", _nearest_batch),
            ("gpus", self.more_gpus),
            ("gpus", _both(self.more_gpus, _nearest_batch)),
            ("gpu", _next_gpu),
        )
        for kind, move in moves:
            moved = move(without_pins(start, pins))
            if moved is None or any_layout(moved.problem) is None:
                continue
            moved = _repinned(moved, pins)
            way = self._witnessed(kind, moved, _gpus_distance, len(pins)) if moved is not None else None
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
            for kind, attempt in (("batch", _nearest_batch), ("gpus", self.more_gpus), ("memory", _next_gpu)):
                if kind in kinds:
                    moved = moved and attempt(moved)
            return moved

        return self._released(pins, max(kinds, key=lambda kind: COSTS.get(kind, 0)), move)

    def _released(self, pins: list[Rule], kind: str, move: Try) -> WayOut | None:
        """``move`` without the pins, then each pin at its nearest value."""
        moved = move(without_pins(Changed(self.problem), pins))
        moved = _repinned(moved, pins) if moved is not None else None
        return self._witnessed(kind, moved, _gpus_distance, len(pins)) if moved is not None else None

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
        move: Try,
        distance: Callable[[Problem, Problem], float] | None = None,
        note: Callable[[Problem, Problem], str] | None = None,
    ) -> Iterator[WayOut]:
        moved = move(start)
        way = moved and self._witnessed(kind, moved, distance)
        if way:
            words = note(self.problem, way.changed.problem) if note else ""
            yield WayOut(way.changed, way.layout, way.cost, words)

    def _witnessed(
        self, kind: str, moved: Changed, distance: Callable[[Problem, Problem], float] | None, more: int = 0
    ) -> WayOut | None:
        layout = plainest_layout(moved.problem)
        if layout is None:
            return None
        far = distance(self.problem, moved.problem) if distance else 0.0
        return WayOut(moved, layout, (COSTS[kind] + more, far))


COSTS = {
    **{"pin": 1, "advice": 2, "idle": 2, "borderline": 2, "batch": 3, "sequence": 3, "precision": 3, "options": 3},
    **{"offload": 4, "gpus": 5, "memory": 5, "gpu": 5, "shorter": 6},
}
"""What a change costs the person: words first, then what touches convergence, then speed, then machines."""


def _first(candidates: Iterable[Changed], most: int = 1 << 30) -> Changed | None:
    for tried, candidate in enumerate(candidates):
        if tried >= most:
            return None
        if any_layout(candidate.problem) is not None:
            return candidate
    return None


def _both(first: Try, second: Try) -> Try:
    """One move with the batch left open, then the other with the batch that was asked for."""

    def move(start: Changed) -> Changed | None:
        batch = start.problem.global_batch_size
        if batch is None:
            return None
        moved = first(Changed(replace(start.problem, global_batch_size=None), start.edits))
        return second(Changed(replace(moved.problem, global_batch_size=batch), moved.edits)) if moved else None

    return move


def _nearest_pins(start: Changed, pins: list[Rule]) -> Changed | None:
    return _repinned(without_pins(start, pins), pins)


def _repinned(released: Changed, pins: list[Rule]) -> Changed | None:
    if not pins:
        return released
    wanted: dict[str, int] = {}
    for pin in pins:
        if isinstance(pin, Pin | Limit) and pin.decision != "sequence_parallel":
            wanted[pin.decision] = int(pin.value or 1)
    layout = nearest_to(released.problem, wanted)
    return with_pins_as_in(released, pins, layout) if layout is not None else None


def _nearest_batch(start: Changed) -> Changed | None:
    """The batch nearest to the one asked for: multiples of what the replicas can be, a micro-batch or a group each."""
    problem = start.problem
    wanted = problem.global_batch_size
    if wanted is None:
        return None
    pinned = {pin.decision: pin.value for pin in problem.pins if isinstance(pin, Pin)}
    micro, stages = pinned.get("micro_batch_size", 1), pinned.get("pp", 1)
    sizes: set[int] = set()
    for replicas in divisors(problem.gpus):
        for unit in {replicas * micro, replicas * micro * stages}:
            sizes |= {wanted // unit * unit, (wanted // unit + 1) * unit}
    ordered = sorted(sizes - {0, wanted}, key=lambda size: (abs(size - wanted), size))
    return _first((start.batch(size) for size in ordered), MOST_TRIES["batch"])


def _nearest_sequence(start: Changed) -> Changed | None:
    """The sequence length nearest to the one asked for: multiples of what it is cut into."""
    problem = start.problem
    wanted = problem.seq_length
    pinned = [int(pin.value) for pin in problem.pins if isinstance(pin, Pin) and pin.decision in ("cp", "tp")]
    units = {2**k for k in range(1, 11)} | {2 * math.prod(pinned), *(2 * value for value in pinned)}
    lengths = {length for unit in units for length in (wanted // unit * unit, -(-wanted // unit) * unit)}
    ordered = sorted(lengths - {0, wanted}, key=lambda length: (abs(length - wanted), -length))
    return _first((start.sequence(length) for length in ordered), MOST_TRIES["sequence"])


def _shorter_sequence(start: Changed) -> Changed | None:
    lengths = (start.problem.seq_length >> k for k in range(1, 5))
    return _first(start.sequence(length) for length in lengths if length >= 128)


def _fewer_gpus(start: Changed) -> Changed | None:
    """The most of the GPUs that can be used, the others idle: down to a node fewer one by one, then whole nodes."""
    gpus, node = start.problem.gpus, start.problem.gpus_per_node
    near = max(0, gpus - node)
    counts = chain(range(gpus - 1, near, -1), range(near // node * node, 0, -node))
    return _first((start.idle(count) for count in counts), MOST_TRIES["fewer"])


def _enough_memory(start: Changed, count: int) -> int:
    """``count``, or about as many GPUs as the least memory on ``count`` of them divides into: a place to begin at."""
    problem = start.gpus(count).problem
    least = least_memory(problem)
    report = memory_report(problem, least) if least is not None else None
    return max(count, int(0.9 * count * report.high_bytes / report.budget_bytes)) if report else count


def _larger_counts(problem: Problem, at_least: int) -> Iterator[int]:
    """Counts above: up to a node one by one, then whole nodes, ever larger steps; multiples of what pins multiply to."""
    node = problem.gpus_per_node
    pinned = {pin.decision: int(pin.value or 1) for pin in problem.pins if isinstance(pin, Pin)}
    dense = math.prod(pinned.get(name, 1) for name in ("tp", "pp", "cp", "dp"))
    expert = math.prod(pinned.get(name, 1) for name in ("ep", "etp", "edp", "pp"))
    unit = math.lcm(dense, expert)
    if unit == 1 and at_least < node:
        yield from range(at_least, node)
    step = math.lcm(unit, node)
    if {"tp", "pp", "cp", "dp"} <= pinned.keys():
        step = unit
    count, tried = -(-at_least // step) * step, 0
    while tried < MOST_TRIES["gpus"] and count <= LARGEST_GPUS:
        yield count
        tried += 1
        if tried >= CONSECUTIVE and tried % 4 == 0:
            step *= 2
        count = (count // step + 1) * step


def _next_gpu(start: Changed) -> Changed | None:
    """The GPU of the catalog with the least memory that is enough, of the same maker."""
    from models_catalog.loader import all_gpus

    problem = start.problem
    larger = [gpu for gpu in all_gpus() if int(gpu.usable_gib * GIB) > problem.budget_bytes]
    alike = [gpu for gpu in larger if _maker(gpu) == _maker(problem.gpu)]
    return _first((start.gpu(gpu) for gpu in sorted(alike, key=lambda gpu: gpu.usable_gib)), MOST_TRIES["gpu"])


def _maker(gpu: GpuSpec) -> str:
    return "amd" if gpu.architecture.startswith("cdna") else "nvidia"


def _lighter_numbers(start: Changed) -> Changed | None:
    """Gradients, then moments, then both in bf16."""
    settings = start.problem.settings
    if start.problem.task == "lora" or not settings.use_distributed_optimizer:
        return None
    bf16: dict[str, Any] = {"grad_reduce_in_fp32": False}
    aware: dict[str, Any] = {"use_precision_aware_optimizer": True, "exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "bf16"}
    tries = []
    if settings.grad_reduce_in_fp32:
        tries.append(start.switched("--grad-dtype bf16", **bf16))
    if not settings.use_precision_aware_optimizer:
        tries.append(start.switched("--optimizer precision-aware", **aware))
        if settings.grad_reduce_in_fp32:
            tries.append(tries[0].switched("--optimizer precision-aware", **aware))
    return _first(tries)


def _tenths(problem: Problem, least: Layout | None) -> int:
    report = memory_report(problem, least) if least is not None else None
    if report is None:
        raise Disagreement("a layout of the memory model does not place its layers")
    return math.ceil(report.high_bytes * 10 / GIB)


def _pin_distance(asked: Problem, changed: Problem) -> float:
    before = {pin.id: pin.value for pin in asked.pins if isinstance(pin, Pin)}
    after = {pin.id: pin.value for pin in changed.pins if isinstance(pin, Pin)}
    return sum(_octaves(before[name], after[name]) for name in before.keys() & after.keys())


def _octaves(a: Any, b: Any) -> float:
    return abs(math.log2(max(1, int(a or 1)) / max(1, int(b or 1))))


def _batch_distance(asked: Problem, changed: Problem) -> float:
    return _octaves(asked.global_batch_size, changed.global_batch_size)


def _sequence_distance(asked: Problem, changed: Problem) -> float:
    return _octaves(asked.seq_length, changed.seq_length)


def _gpus_distance(asked: Problem, changed: Problem) -> float:
    return _octaves(asked.gpus, changed.gpus)


def _idle_note(asked: Problem, changed: Problem) -> str:
    return f"uses {changed.gpus} of the {asked.gpus} GPUs"
