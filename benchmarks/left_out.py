"""Constants that never saw a model: what its own runs are judged by, so that no layout is praised by its own measurement.

``left_out.json`` holds, beside the shipped constants and from the same fit, the constants of each fold: fitted to all runs
but those of the fold's models. ``python -m benchmarks.fit_time --write`` writes both. Kept in a file, they cost a board
neither the time to fit again nor the runs that they were fitted on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.time_rows import Run
from constraints.timing.calibration import Calibration, shipped
from constraints.timing.regime import regime_of

__all__ = ["HOME", "calibration_without", "document", "folds", "text_of"]

HOME = Path(__file__).parent / "data" / "left_out.json"

FOLD_ROWS = 8
"""Models with fewer rows share a fold with others of their kind."""


def calibration_without(model: str) -> Calibration:
    """The constants fitted without any run of ``model``: those of its fold, or the shipped ones if it has no run in the fit.

    >>> calibration_without("a-model-without-published-runs") is shipped()
    True
    """
    return _by_model().get(model) or shipped()


@cache
def _by_model() -> Mapping[str, Calibration]:
    known: dict[str, Calibration] = {}
    for fold in document()["folds"]:
        known |= dict.fromkeys(fold["models"], Calibration(fold["values"]))
    return known


def document() -> dict[str, Any]:
    """What the file holds: ``fitted_on``, as the shipped calibration says it, and ``folds`` of ``models`` and ``values``."""
    found: dict[str, Any] = json.loads(HOME.read_text(encoding="utf-8"))
    return found


def text_of(fitted_on: str, folds: Iterable[tuple[set[str], Mapping[str, float]]]) -> str:
    """The file for the constants of each fold."""
    entries = [{"models": sorted(models), "values": dict(values)} for models, values in folds]
    return json.dumps({"fitted_on": fitted_on, "folds": entries}, indent=1) + "\n"


def folds(runs: Sequence[Run]) -> list[set[str]]:
    """Models to leave out together: each with :data:`FOLD_ROWS` rows alone, smaller ones by regime."""
    counts: dict[str, int] = defaultdict(int)
    regime: dict[str, str] = {}
    for run in runs:
        counts[run.problem.model.name] += 1
        regime[run.problem.model.name] = regime_of(run.problem)
    out = [{name} for name, n in counts.items() if n >= FOLD_ROWS]
    small: dict[str, set[str]] = defaultdict(set)
    for i, name in enumerate(sorted(name for name, n in counts.items() if n < FOLD_ROWS)):
        small[f"{regime[name]} {i % 3 if regime[name] == 'dense' else 0}"].add(name)
    return out + list(small.values())
