"""What memory tests ask: bytes by component of every pipeline rank, bytes of one layer."""

from __future__ import annotations

from typing import Any

from constraints.arithmetic import Integers
from constraints.layout import Recompute
from constraints.memory import activations
from constraints.memory.budget import MemoryReport, layout_stages, memory_report
from constraints.memory.stage import phases
from constraints.pipeline.profile import Stage
from models_catalog.schema import LayerKind, ModelSpec
from tests.rules.builders import said

__all__ = ["DENSE", "INTEGERS", "MOE", "kept", "moments", "ranks", "report", "stages"]

INTEGERS = Integers()
DENSE, MOE = LayerKind("attention", "dense"), LayerKind("attention", "moe")


def report(spec: ModelSpec, **words: Any) -> MemoryReport:
    """The memory report of a layout whose layers are placed; words as in :func:`tests.rules.builders.said`."""
    found = memory_report(*said(spec, **words))
    assert found is not None, "the split does not come out"
    return found


def ranks(spec: ModelSpec, **words: Any) -> list[dict[str, int]]:
    """Bytes by component at each rank's fullest moment."""
    return [stage.components for stage in report(spec, **words).stages]


def moments(spec: ModelSpec, **words: Any) -> list[dict[str, dict[str, int]]]:
    """What the forward pass, the backward pass and the optimizer step add, rank by rank."""
    asked = said(spec, **words)
    return [phases(INTEGERS, *asked, stage) for stage in stages(spec, **words)]


def stages(spec: ModelSpec, **words: Any) -> tuple[Stage, ...]:
    found = layout_stages(*said(spec, **words))
    assert found is not None, "the split does not come out"
    return found


def kept(spec: ModelSpec, kind: LayerKind = DENSE, recompute: Recompute | None = None, **words: Any) -> int:
    """Bytes that one layer keeps per micro-batch."""
    return int(activations.kept_bytes(INTEGERS, *said(spec, **words), kind, recompute or Recompute()))
