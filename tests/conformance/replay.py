"""Our verdict on a recorded question, beside Megatron's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from constraints.errors import MeshwrightError
from constraints.generations import GENERATIONS
from models_catalog.errors import CatalogError
from models_catalog.loader import load_gpu
from models_catalog.schema import ModelSpec
from models_catalog.validation import model_from_mapping
from solver import Request, judge
from tests.conformance.additions import addition
from tests.conformance.verdict_file import Recorded

__all__ = ["Compared", "compared", "generation_of"]

CONTAINER = {"model.calculate_per_token_loss": False}
"""Defaults that the questions, containers put to ``ConfigContainer.validate`` itself, leave as they are, where Bridge's
runner would have set them first (``constraints.context``)."""

REFUSED = "input"
"""Stands where a rule would for a question that meshwright refuses to read."""


@dataclass(frozen=True)
class Compared:
    """One question: what Megatron said, and the rules that meshwright says are broken (:data:`REFUSED`: it is not read)."""

    recorded: Recorded
    broken: tuple[str, ...]
    message: str = ""

    @property
    def agree(self) -> bool:
        return self.recorded.accepted is not bool(self.broken)

    @property
    def addition(self) -> str | None:
        """The documented addition that makes meshwright stricter here, if there is one."""
        return addition(self.broken) if self.recorded.accepted and self.broken else None


def generation_of(head: dict[str, Any]) -> str:
    """The generation of a recording: its Megatron-Core's major and minor version."""
    generation = ".".join(head["megatron_core"].split(".")[:2])
    assert generation in GENERATIONS, generation
    return generation


def compared(recorded: list[Recorded], generation: str) -> Iterator[Compared]:
    """Every question judged by meshwright for that generation; models that come again are read once."""
    models: dict[str, ModelSpec | str] = {}
    for each in recorded:
        key = json.dumps(each.line["model"])
        if key not in models:
            models[key] = _model(each.line["model"])
        model = models[key]
        yield Compared(each, (REFUSED,), model) if isinstance(model, str) else _judged(each, model, generation)


def _model(entry: dict[str, Any]) -> ModelSpec | str:
    try:
        return model_from_mapping(entry, "model")[0]
    except CatalogError as error:
        return str(error)


def _judged(recorded: Recorded, model: ModelSpec, generation: str) -> Compared:
    line = recorded.line
    asked = {name: line[name] for name in ("gpus", "seq_length", "precision", "task") if name in line}
    request = Request(gpu=line["gpu"], megatron=generation, **asked)
    try:
        verdict = judge(request, CONTAINER | line["layout"], model=model, gpu=load_gpu(line["gpu"]), figures=False)
    except MeshwrightError as error:
        return Compared(recorded, (REFUSED,), str(error))
    return Compared(recorded, tuple(violation.rule.id for violation in verdict.violations))
