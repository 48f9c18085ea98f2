"""From a request and the words of a layout to a verdict: what ``meshwright check`` does, for a program to call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from constraints.asked import Asked, asked_words
from constraints.layout import Layout
from constraints.problem import Origin, Problem
from constraints.reading import Reading, read_values
from constraints.word_values import WordValues
from models_catalog.schema import GpuSpec, ModelSpec
from solver.amendment import amended_model, amended_request
from solver.generations import other_generations
from solver.pinned import pinned_words
from solver.request import Request
from solver.resolution import find_model, resolve
from solver.verdict import Verdict, check

__all__ = ["judge"]

_DECISIONS = tuple(f.name for f in fields(Layout) if f.name not in ("split", "settings", "gpus"))
_FOLLOWS = Origin("derived", "derived")


def judge(
    request: Request,
    raw: Mapping[str, Any],
    origins: Mapping[str, Origin] | None = None,
    *,
    model: ModelSpec | None = None,
    gpu: GpuSpec | None = None,
    figures: bool = True,
) -> Verdict:
    """Judge the layout that ``raw`` (word to value, in any spelling) describes, under ``request``.

    ``raw`` may also say what the request leaves open (sequence length, precision, fields of the model). ``figures=False``
    leaves out memory and communication. Raises :class:`~constraints.errors.MeshwrightError` for words that are none, or
    contradict each other or the request, and what :func:`~solver.resolution.resolve` raises.

    >>> from solver import Request, judge
    >>> asked = Request(model="llama-3.1-70b", gpus=64, gpu="h100", global_batch_size=128)
    >>> judge(asked, {"tp": 8, "model.pipeline_model_parallel_size": 4, "sp": True}).legal
    True
    """
    words = WordValues(raw, origins or {})
    asked = asked_words(raw, words.origins) if words.asks else Asked()
    request = amended_request(request, asked, words)
    notes: list[str] = []
    if asked.model:
        model = model or find_model(request)
        model, notes = amended_model(model, asked, pinned_words(request).model_fields)
    problem = resolve(request, model=model, gpu=gpu)
    reading = read_values(words, asked, problem)
    verdict = check(_as_read(problem, reading), reading.layout, [*notes, *reading.warnings], figures=figures)
    others = other_generations(problem, verdict, lambda other: read_values(words, asked, other).layout)
    return replace(verdict, notes=(*verdict.notes, *others))


def _as_read(problem: Problem, reading: Reading) -> Problem:
    """The problem with the layout's switches and places, so that a fact shows what was judged and where it stood."""
    origins = {**problem.origins, **dict.fromkeys(_DECISIONS, _FOLLOWS), **reading.origins}
    if problem.global_batch_size is not None:
        origins["global_batch_size"] = problem.origin("global_batch_size")
    return replace(problem, settings=reading.layout.settings, origins=origins)
