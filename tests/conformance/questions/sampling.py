"""A stream of questions from a seed: sound ones, ones with one fault, ones with several, and wild ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.conformance.questions.architectures import FAMILIES, architecture
from tests.conformance.questions.faults import FAULTS
from tests.conformance.questions.layouts import Question, sound_question

__all__ = ["questions"]

LAYOUTS_A_MODEL = 12
FAULT_COUNTS = (0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 3)


def questions(seed: int, count: int) -> Iterator[Question]:
    """``count`` questions; the same seed gives the same ones. Faults come in turn, so that each is met equally often."""
    draw = Random(seed)
    names = sorted(FAULTS)
    turn = 0
    model: dict[str, Any] = {}
    for number in range(count):
        if number % LAYOUTS_A_MODEL == 0:
            model = architecture(draw.choice(FAMILIES), draw, number // LAYOUTS_A_MODEL)
        question = sound_question(copy.deepcopy(model), draw)
        for _ in range(draw.choice(FAULT_COUNTS)):
            for _ in range(len(names)):
                turn = (turn + 1) % len(names)
                if FAULTS[names[turn]](question, draw):
                    break
        for part in ("model", "layout"):
            question[part] = {key: value for key, value in question[part].items() if value is not None}
        yield question
