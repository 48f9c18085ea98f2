"""What no data sheet says of a GPU and its software: efficiencies, exposures, host time - with where each came from.

The shipped values stand in ``calibration.json``: for each constant its prior (a microbenchmark or a published figure), the
width of the prior on a log scale (0: held fixed), and the value fitted on published runs by ``benchmarks.fit_time``.
Constants belong to hardware, precision and software generation, never to a model or to a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["NEWEST_STACK", "STACKS", "Calibration", "Constant", "Evidence", "constants", "evidence", "shipped"]

HOME = Path(__file__).with_name("calibration.json")

STACKS = ("24.01", "25.09", "26.02", "26.06")
"""Software generations, by the NeMo container each begins with: what moved is the routed-row traffic and host time."""

NEWEST_STACK = STACKS[-1]


@dataclass(frozen=True)
class Constant:
    """One constant: its fitted ``value``, the ``prior`` with its log-normal ``width``, its unit and source."""

    name: str
    value: float
    prior: float
    width: float
    unit: str
    source: str


@dataclass(frozen=True)
class Evidence:
    """How far predictions of one regime were off when its model was left out of the fit: fractions, and rows behind them."""

    regime: str
    rows: int
    median: float
    p90: float


@dataclass(frozen=True, eq=False)
class Calibration:
    """Values by name. Compared by identity: a fit tries thousands, and holds arrays of trial values in one."""

    values: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def of(self, *names: str, default: Any = 1.0) -> Any:
        """The value of the first of ``names`` that there is, else ``default``."""
        return next((self.values[name] for name in names if name in self.values), default)


@cache
def constants() -> tuple[Constant, ...]:
    """Every constant of the shipped calibration."""
    return tuple(Constant(name, **entry) for name, entry in _document()["constants"].items())


@cache
def evidence() -> Mapping[str, Evidence]:
    """The cross-validated errors by regime."""
    return {name: Evidence(name, **entry) for name, entry in _document()["evidence"].items()}


@cache
def shipped() -> Calibration:
    """The calibration that comes with the package."""
    return Calibration({constant.name: constant.value for constant in constants()})


@cache
def _document() -> dict[str, Any]:
    import json

    document: dict[str, Any] = json.loads(HOME.read_text(encoding="utf-8"))
    return document
