"""What a person may turn when no layout exists: pins, advice, the batch, the GPUs, the memory. Laws are none of them."""

from __future__ import annotations

from dataclasses import dataclass

from constraints.memory.budget import CAPACITY
from constraints.problem import Problem
from constraints.registry import enforced_rules
from constraints.rule import Rule, Stratum

__all__ = ["Knob", "knobs_of"]

WEIGHTS = {"pin": 1, "advice": 2, "batch": 3, "gpus": 4, "memory": 4}
"""What turning one costs: the user's pins are the cheapest to give up, machines the dearest to get."""

MESHES = ("mesh.world-dense", "mesh.world-expert")
BATCH = ("batch.gbs", "batch.requested")


@dataclass(frozen=True)
class Knob:
    """``rules`` are those that give way when it is turned; ``kind`` is pin, advice, batch, gpus or memory."""

    name: str
    kind: str
    rules: frozenset[str]

    @property
    def weight(self) -> int:
        return WEIGHTS[self.kind]


def knobs_of(problem: Problem) -> tuple[Knob, ...]:
    """The knobs of ``problem``, cheapest first."""
    knobs = [knob for rule in enforced_rules(problem) if (knob := _own_knob(rule)) is not None]
    if problem.global_batch_size is not None:
        knobs.append(Knob("batch", "batch", frozenset(BATCH)))
    knobs.append(Knob("gpus", "gpus", frozenset(MESHES)))
    knobs.append(Knob("memory", "memory", frozenset({CAPACITY})))
    return tuple(sorted(knobs, key=lambda knob: knob.weight))


def _own_knob(rule: Rule) -> Knob | None:
    if rule.stratum is Stratum.PIN or rule.relaxable:
        return Knob(rule.id, str(rule.stratum), frozenset({rule.id}))
    return None
