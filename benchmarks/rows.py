"""Measured rows of the shared files, each as a problem and a layout of ours, or the reason why it cannot be one."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from constraints.layout import Layout, Settings
from constraints.problem import GIB, Problem
from constraints.reading import read_layout
from models_catalog.errors import CatalogError
from models_catalog.loader import load_gpu, load_model
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["Measured", "Skipped", "number", "read_rows", "text"]

Row = dict[str, str]


@dataclass(frozen=True)
class Skipped(Exception):
    """A row that cannot be scored, and why."""

    reason: str


@dataclass(frozen=True)
class Measured:
    """Memory that PyTorch reported: where it stands, what ran, and on which pipeline stage (``None``: the fullest).

    ``peak_gib`` is ``None`` where a run only ran out. ``moment`` is ``peak``, ``resting`` (what lies there between steps)
    or ``first`` (the peak of the first iteration, before the optimizer has any state).
    """

    name: str
    source: str
    problem: Problem
    layout: Layout
    stage: int | None
    peak_gib: float | None
    ran_out: bool
    moment: str = "peak"

    @property
    def key(self) -> tuple[object, ...]:
        """Rows of one configuration count once."""
        return (self.problem.model, self.problem.gpus, self.problem.seq_length, self.layout, self.stage, self.moment)


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a CSV file as mappings of text."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def text(row: Row, name: str) -> str:
    """The value of a column, empty where the file has none."""
    return (row.get(name) or "").strip()


def number(row: Row, name: str) -> int | None:
    """The whole number of a column, ``None`` where it is empty or something else."""
    value = text(row, name)
    return int(float(value)) if re.fullmatch(r"\d+(\.0+)?", value) else None


def truth(row: Row, name: str) -> bool:
    """True for ``True``, ``1`` and the like."""
    return text(row, name).lower() in ("true", "1", "yes")


def gpu_named(name: str) -> GpuSpec:
    """The catalog's GPU for names such as ``H100-80GB``, ``GB200-186GB`` or ``dgxa100_dracooci``."""
    plain = name.lower()
    for known in ("gb300", "gb200", "b300", "b200", "h200", "h100", "a100", "l40s", "v100"):
        if known in plain and known != "v100":
            return load_gpu("a100-80gb" if known == "a100" else known)
    raise Skipped(f"unknown GPU {name or '(none)'}")


def catalog_model(name: str) -> ModelSpec:
    """A catalog entry for a loosely written name; "(first 12 layers, 1 dense)" cuts it."""
    bare = re.sub(r"\(.*?\)", "", name).strip()
    candidates = [
        bare,
        bare.replace(" ", "-"),
        re.sub(r"\b(sft|peft|lora|pretrain|resume|perf)\b.*", "", bare, flags=re.I),
    ]
    for candidate in candidates:
        try:
            model = load_model(candidate.strip().strip("-").strip())
            break
        except CatalogError:
            continue
    else:
        raise Skipped("model not in the catalog")
    cut = re.search(r"first (\d+) layers(?:, (\d+) dense)?", name)
    return shortened(model, int(cut[1]), int(cut[2]) if cut[2] else None) if cut else model


def shortened(model: ModelSpec, layers: int, dense: int | None = None) -> ModelSpec:
    """The first ``layers`` layers of a model, without MTP; ``dense`` says how many of them are dense, if not as many."""
    frequency = model.moe_layer_freq
    if dense is not None:
        frequency = (0,) * dense + (1,) * (layers - dense)
    elif isinstance(frequency, tuple):
        frequency = frequency[:layers]
    return replace(model, num_layers=layers, moe_layer_freq=frequency, mtp_num_layers=None)


def problem_of(model: ModelSpec, gpu: GpuSpec, gpus: int, seq: int, settings: Settings, **more: Any) -> Problem:
    """A problem with the machine's usual shape."""
    return Problem(
        model=model,
        gpu=gpu,
        gpus=gpus,
        gpus_per_node=gpu.gpus_per_node,
        nvlink_domain=gpu.nvlink_domain,
        budget_bytes=int(gpu.usable_gib * GIB),
        seq_length=seq,
        settings=settings,
        **more,
    )


def layout_of(problem: Problem, words: dict[str, Any]) -> Layout:
    """The layout that the words mean; a row whose degrees or batch do not come out is skipped."""
    layout = read_layout({name: value for name, value in words.items() if value is not None}, problem).layout
    if layout.tp * layout.pp * layout.cp * layout.dp != problem.gpus:
        raise Skipped("degrees do not multiply to the world size")
    if layout.etp * layout.ep * layout.edp * layout.pp != problem.gpus:
        raise Skipped("expert degrees do not multiply to the world size")
    product = layout.num_microbatches * layout.micro_batch_size * layout.dp
    if layout.num_microbatches < 1 or product != layout.global_batch_size:
        raise Skipped("the global batch is no multiple of dp * micro-batch")
    return layout
