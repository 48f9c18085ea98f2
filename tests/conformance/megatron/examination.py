"""What a launched job runs up to its first step, stage by stage: the first thing that raises is the verdict."""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.megatron import build, first_step, groups
from tests.conformance.megatron.job import Job, NotDrivable, UnknownField, configuration
from tests.conformance.megatron.stand_ins import on_gpu

__all__ = ["Verdict", "examine"]

CONFIG, GROUPS, BATCH, SPLIT, BUILD, STEP = "config", "groups", "batch", "split", "build", "step"

ATTENTION_CHOICES = ("NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN", "NVTE_UNFUSED_ATTN")
"""Variables by which Megatron tells Transformer Engine which attention to use."""


@dataclass(frozen=True)
class Verdict:
    """``stage`` is ``None`` if Megatron accepts; else where it stopped, the error, and file::function that raised it."""

    stage: str | None = None
    error: str = ""
    where: str = ""
    remarks: tuple[str, ...] = ()
    """What Megatron accepted and no one can want: a stage of -8 layers."""

    @property
    def accepted(self) -> bool:
        return self.stage is None


def examine(job: Job, overrides: list[str] | None = None) -> Verdict:
    """Megatron's verdict on ``job``. Raises :class:`NotDrivable` where it cannot be asked."""
    os.environ |= {"WORLD_SIZE": str(job.gpus), "RANK": "0", "LOCAL_RANK": "0", "CUDA_DEVICE_MAX_CONNECTIONS": "8"}
    for name in ATTENTION_CHOICES:
        os.environ.pop(name, None)  # what the model before this one chose
    run = _Examination(job, overrides)
    with on_gpu(job.gpu):
        for stage, steps in run.plan():
            for step in steps:
                fault = _fault(step)
                if fault is not None:
                    return Verdict(stage, *fault, tuple(run.remarks))
    return Verdict(remarks=tuple(run.remarks))


class _Examination:
    def __init__(self, job: Job, overrides: list[str] | None) -> None:
        self.job, self.overrides = job, overrides
        self.config: Any = None
        self.model: Any = None
        self.remarks: list[str] = []

    def plan(self) -> list[tuple[str, list[Callable[[], None]]]]:
        return [
            (CONFIG, [self.configure]),
            (GROUPS, [self.make_groups]),
            (BATCH, [self.count_microbatches]),
            (SPLIT, [self.split_layers]),
            (BUILD, [self.build]),
            (STEP, [self.slice_batch, self.schedule, self.route, self.attend]),
        ]

    @property
    def provider(self) -> Any:
        return self.config.model

    def configure(self) -> None:
        from megatron.bridge.training.config import runtime_config_update

        groups.close()  # Bridge asks the distributed world for its size before it looks at WORLD_SIZE
        self.config = configuration(self.job, self.overrides)
        runtime_config_update(self.config)

    def make_groups(self) -> None:
        groups.make(self.config, self.job.gpus)

    def count_microbatches(self) -> None:
        self.microbatches = groups.count_microbatches(self.config)

    def split_layers(self) -> None:
        if self.job.model.get("hybrid_override_pattern") is None:
            self.remarks += groups.split_layers(self.provider)

    def build(self) -> None:
        self.model = build.chunks(self.provider)[0]

    def slice_batch(self) -> None:
        first_step.slice_batch(self.provider, self.job.seq_length)

    def schedule(self) -> None:
        first_step.schedule(self.provider, self.microbatches, self.config.train.micro_batch_size)

    def route(self) -> None:
        first_step.route(self.provider, self.model)

    def attend(self) -> None:
        first_step.attend(self.provider, self.model, self.job.seq_length, self.config.train.micro_batch_size)


def _fault(step: Callable[[], None]) -> tuple[str, str] | None:
    """(error, file::function) of what ``step`` raises, ``None`` if nothing."""
    quiet = io.StringIO()
    try:
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            step()
    except NotDrivable:
        raise
    except UnknownField as error:
        return f"UnknownField: {error}", "hydra"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/megatron/" in f.filename.replace("conformance/megatron", "")]
        theirs = [f for f in frames if "/megatron/" in f.filename and "/conformance/" not in f.filename]
        frame = (theirs or ours or frames)[-1]
        if "transformer_engine" in frames[-1].filename:
            frame = frames[-1]
        message = " ".join(str(error).split()) or f"assert {frame.line}"
        start = max(frame.filename.rfind("/megatron/"), frame.filename.rfind("/transformer_engine/"))
        return f"{type(error).__name__}: {message}", f"{frame.filename[start + 1 :]}::{frame.name}"
    return None
