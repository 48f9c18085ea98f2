"""How long a step of a layout takes, where it goes, how sure that is, and what it means as a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.timing.calibration import evidence
from constraints.timing.flops import FLOP_CONVENTION, model_flop_per_token, peak_flops
from constraints.timing.played import reported_step
from constraints.timing.regime import regime_of
from constraints.timing.step import StepTime

__all__ = ["Timing", "timing_of"]

UNKNOWN_ERROR = 0.5
"""Where no run of a regime stands behind the estimate."""


@dataclass(frozen=True)
class Timing:
    """A step's time and the rates that follow. ``error`` is the fraction that nine in ten runs of models outside the fit,
    of the same regime, stayed within."""

    step: StepTime
    tokens: int
    gpus: int
    flop_per_token: int
    peak_flops: int
    regime: str
    stack: str
    error: float
    evidence_rows: int

    @property
    def step_seconds(self) -> float:
        return self.step.step_ns / 1e9

    @property
    def tokens_per_second_per_gpu(self) -> float:
        return self.tokens / self.step_seconds / self.gpus

    @property
    def model_flops_per_gpu(self) -> float:
        """Model FLOP/s of one GPU."""
        return self.tokens_per_second_per_gpu * self.flop_per_token

    @property
    def mfu(self) -> float:
        """Model FLOP/s over the dense peak at the precision of the GEMMs."""
        return self.model_flops_per_gpu / self.peak_flops

    def to_mapping(self) -> dict[str, Any]:
        """The ``time`` object of the JSON; seconds per step, slowest stage."""
        step, exposed = self.step, self.step.exposed_ns
        return {
            "step_seconds": step.step_ns / 1e9,
            "step_seconds_low": round(self.step_seconds / (1 + self.error), 6),
            "step_seconds_high": round(self.step_seconds * (1 + self.error), 6),
            "tokens_per_second_per_gpu": round(self.tokens_per_second_per_gpu, 2),
            "compute_seconds": step.compute_ns / 1e9,
            "bubble_seconds": step.bubble_ns / 1e9,
            "schedule": "played through" if step.played else "closed form",
            "exposed_communication_seconds": sum(exposed.values()) / 1e9,
            "exposed_by_group": {group: time / 1e9 for group, time in exposed.items()},
            "host_seconds": step.host_ns / 1e9,
            "optimizer_seconds": step.optimizer_ns / 1e9,
            "fixed_seconds": step.fixed_ns / 1e9,
            "model_tflops_per_gpu": round(self.model_flops_per_gpu / 1e12, 2),
            "mfu": round(self.mfu, 4),
            "flop_convention": FLOP_CONVENTION,
            "software": self.stack,
            "regime": self.regime,
            "evidence_rows": self.evidence_rows,
        }


def timing_of(problem: Problem, layout: Layout) -> Timing:
    """The estimate for a placed layout."""
    regime = regime_of(problem)
    found = evidence().get(regime)
    return Timing(
        step=reported_step(problem, layout),
        tokens=layout.global_batch_size * problem.seq_length,
        gpus=layout.gpus,
        flop_per_token=model_flop_per_token(problem),
        peak_flops=peak_flops(problem),
        regime=regime,
        stack=problem.stack,
        error=found.p90 if found else UNKNOWN_ERROR,
        evidence_rows=found.rows if found else 0,
    )
