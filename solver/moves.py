"""Moves of one thing that a request asks for, each to the nearest value at which there is a layout. Imports ortools."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from constraints.capability import AMD
from constraints.layout import Layout
from constraints.memory.budget import memory_report
from constraints.pins import COUNTS, Limit, Pin, PinCount
from constraints.precision import has_format
from constraints.problem import GIB, WHOLE, Problem
from constraints.refutation.space import divisors
from constraints.rule import Rule
from models_catalog.schema import GpuSpec
from solver.batch_tolerance import FREE_BATCH
from solver.edits import Changed, with_pins_as_in, without_pins
from solver.feasibility import nearest_to, plainest_layout
from solver.fewest_count import pinned_unit
from solver.search import Disagreement

__all__ = [
    "Move",
    "both",
    "fewer_gpus",
    "first_feasible",
    "gpu_with_format",
    "larger_counts",
    "lighter_numbers",
    "nearest_batch",
    "nearest_pins",
    "nearest_sequence",
    "next_gpu",
    "repinned",
    "shorter_sequence",
    "tenths_needed",
]

MOST_TRIES = {"batch": 12, "sequence": 10, "gpus": 32, "fewer": 16, "gpu": 6}
CONSECUTIVE = 16
"""Multiples of the step that are tried one after the other before the steps grow."""
LARGEST_GPUS = 1_000_000
TENTH = 10
"""A tenth of a percent, in the hundredths that tolerances are counted in."""
NEARLY = 0.9
"""Another GPU may need a little less memory, with a larger NVLink domain for instance."""

Move = Callable[[Changed], "Changed | None"]


def first_feasible(candidates: Iterable[Changed], most: int = 1 << 30) -> Changed | None:
    """The first of the candidates that has a layout, of the first ``most``."""
    for tried, candidate in enumerate(candidates):
        if tried >= most:
            return None
        if plainest_layout(candidate.problem) is not None:
            return candidate
    return None


def both(first: Move, second: Move) -> Move:
    """One move with the batch left open, then the other with the batch that was asked for."""

    def move(start: Changed) -> Changed | None:
        asked: dict[str, Any] = {name: getattr(start.problem, name) for name in FREE_BATCH}
        if asked == FREE_BATCH:
            return None
        moved = first(Changed(replace(start.problem, **FREE_BATCH), start.edits))
        return second(Changed(replace(moved.problem, **asked), moved.edits)) if moved else None

    return move


def nearest_pins(start: Changed, pins: list[Rule]) -> Changed | None:
    """The pins at the nearest values that have a layout together; ``None`` also if a single one has no value there."""
    moved = repinned(without_pins(start, pins), pins)
    return None if moved is not None and len(pins) == 1 and not all(edit.text for edit in moved.edits) else moved


def repinned(released: Changed, pins: list[Rule], *, only_near: bool = False) -> Changed | None:
    """A change without the pins, with them again, as they stand in the layout nearest to what they asked for.

    With ``only_near`` those that would be far from that are left out.
    """
    if not pins:
        return released
    wanted: dict[str, int] = {}
    for pin in pins:
        if isinstance(pin, Pin | Limit) and pin.decision != "sequence_parallel":
            wanted[pin.decision] = int(pin.value or 1)
        elif isinstance(pin, PinCount) and isinstance(pin.value, int):
            wanted |= dict.fromkeys(COUNTS, pin.value)
    layout = nearest_to(released.problem, wanted)
    return with_pins_as_in(released, pins, layout, only_near=only_near) if layout is not None else None


def nearest_batch(start: Changed) -> Changed | None:
    """The batch nearest to the one asked for, or the least tolerance that lets it be as near."""
    problem = start.problem
    if problem.target_batch is not None:
        return _wider_tolerance(start, problem.target_batch)
    wanted = problem.global_batch_size
    if wanted is None:
        return None
    return first_feasible((start.batch(size) for size in _batches_near(problem, wanted)), MOST_TRIES["batch"])


def _wider_tolerance(start: Changed, wanted: int) -> Changed | None:
    """The tolerance, in tenths of a percent, within which the nearest batches are that have a layout."""
    away = (abs(size - wanted) for size in _batches_near(start.problem, wanted))
    steps = dict.fromkeys(-(-distance * WHOLE // (wanted * TENTH)) * TENTH for distance in away)
    larger = (step for step in steps if start.problem.batch_tolerance < step <= WHOLE)
    return first_feasible(map(start.tolerance, larger), MOST_TRIES["batch"])


def _batches_near(problem: Problem, wanted: int) -> list[int]:
    """Other batches, the nearest first: multiples of what the replicas can be, a micro-batch or a group each."""
    pinned = {pin.decision: pin.value for pin in problem.pins if isinstance(pin, Pin)}
    micro, stages = pinned.get("micro_batch_size", 1), pinned.get("pp", 1)
    sizes: set[int] = set()
    for replicas in divisors(problem.gpus):
        for unit in {replicas * micro, replicas * micro * stages}:
            sizes |= {wanted // unit * unit, (wanted // unit + 1) * unit}
    return sorted(sizes - {0, wanted}, key=lambda size: (abs(size - wanted), size))


def nearest_sequence(start: Changed) -> Changed | None:
    """The sequence length nearest to the one asked for: multiples of what it is cut into."""
    problem = start.problem
    wanted = problem.seq_length
    pinned = [int(pin.value) for pin in problem.pins if isinstance(pin, Pin) and pin.decision in ("cp", "tp")]
    units = {2**k for k in range(1, 11)} | {2 * math.prod(pinned), *(2 * value for value in pinned)}
    lengths = {length for unit in units for length in (wanted // unit * unit, -(-wanted // unit) * unit)}
    ordered = sorted(lengths - {0, wanted}, key=lambda length: (abs(length - wanted), -length))
    return first_feasible((start.sequence(length) for length in ordered), MOST_TRIES["sequence"])


def shorter_sequence(start: Changed) -> Changed | None:
    """The sequence halved, as often as it takes."""
    lengths = (start.problem.seq_length >> k for k in range(1, 5))
    return first_feasible(start.sequence(length) for length in lengths if length >= 128)


def fewer_gpus(start: Changed) -> Changed | None:
    """The most of the GPUs that can be used, the others idle: down to a node fewer one by one, then whole nodes."""
    gpus, node = start.problem.gpus, start.problem.gpus_per_node
    near = max(0, gpus - node)
    counts = chain(range(gpus - 1, near, -1), range(near // node * node, 0, -node))
    return first_feasible((start.idle(count) for count in counts), MOST_TRIES["fewer"])


def larger_counts(problem: Problem, at_least: int) -> Iterator[int]:
    """Counts above: up to a node one by one, then whole nodes, ever larger steps; multiples of what pins multiply to."""
    node, unit = problem.gpus_per_node, pinned_unit(problem)
    pinned = {pin.decision for pin in problem.pins if isinstance(pin, Pin)}
    if unit == 1 and at_least < node:
        yield from range(at_least, node)
    step = math.lcm(unit, node)
    if {"tp", "pp", "cp", "dp"} <= pinned:
        step = unit
    count, tried = -(-at_least // step) * step, 0
    while tried < MOST_TRIES["gpus"] and count <= LARGEST_GPUS:
        yield count
        tried += 1
        if tried >= CONSECUTIVE and tried % 4 == 0:
            step *= 2
        count = (count // step + 1) * step


def next_gpu(start: Changed, needed: float = 0.0) -> Changed | None:
    """The GPU of the catalog with the least memory that is enough, of the same maker; tried from about ``needed`` GiB on."""
    from models_catalog.loader import all_gpus

    problem = start.problem
    larger = [gpu for gpu in all_gpus() if int(gpu.usable_gib * GIB) > problem.budget_bytes]
    alike = [gpu for gpu in larger if _maker(gpu) == _maker(problem.gpu) and gpu.usable_gib >= NEARLY * needed]
    return first_feasible((start.gpu(gpu) for gpu in sorted(alike, key=lambda gpu: gpu.usable_gib)), MOST_TRIES["gpu"])


def gpu_with_format(start: Changed) -> Changed | None:
    """The GPU of the catalog that has the number format and is nearest in memory, of the same maker."""
    from models_catalog.loader import all_gpus

    mine, precision = start.problem.gpu, start.problem.precision
    able = [gpu for gpu in all_gpus() if _maker(gpu) == _maker(mine) and has_format(precision, gpu)]
    able.sort(key=lambda gpu: (abs(gpu.usable_gib - mine.usable_gib), -gpu.bf16_flops))
    return first_feasible((start.gpu(gpu) for gpu in able), MOST_TRIES["gpu"])


def _maker(gpu: GpuSpec) -> str:
    return "amd" if gpu.architecture.startswith(AMD) else "nvidia"


def lighter_numbers(start: Changed) -> Changed | None:
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
    return first_feasible(tries)


def tenths_needed(problem: Problem, least: Layout | None) -> int:
    """Tenths of GiB that ``least`` takes on its fullest stage, at the high end of its interval."""
    report = memory_report(problem, least) if least is not None else None
    if report is None:
        raise Disagreement("a layout of the memory model does not place its layers")
    return math.ceil(report.high_bytes * 10 / GIB)
