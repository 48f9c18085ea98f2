"""Published runs, each as a problem and a layout of ours with its measured rate, or the reason why it cannot be one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from benchmarks.row_layouts import layout_of, problem_of, recompute_words
from benchmarks.row_names import gpu_named, model_named, precision_named
from benchmarks.row_switches import Kin, is_natural, settings_of
from benchmarks.rows import Row, Skipped, number, read_rows, real, text, truth
from constraints.layout import Layout
from constraints.pipeline.assignment import assignment_of, simplest_split_of_text
from constraints.pipeline.placement import place
from constraints.problem import Problem
from constraints.timing.calibration import NEWEST_STACK, STACKS, shipped
from constraints.topology import usual_share
from models_catalog.schema import ModelSpec

__all__ = ["Run", "read_runs"]

TASKS = ("pretrain", "sft", "lora")
PERFORMANCE_ITEMS = ("pretrain_performance", "pretrain_weak_scaling")
"""Items of a verification card that measure speed; the others check that training converges, on tiny batches."""


@dataclass(frozen=True)
class Run:
    """One measured run: ``tokens_per_second`` is per GPU. ``natural``: routing was not forced to be balanced."""

    name: str
    source: str
    problem: Problem
    layout: Layout
    tokens_per_second: float
    natural: bool

    @property
    def step_seconds(self) -> float:
        """Seconds of a step at the measured rate."""
        return self.tokens / self.tokens_per_second

    @property
    def tokens(self) -> float:
        """Tokens that one GPU's share of a step amounts to."""
        return self.layout.global_batch_size * self.problem.seq_length / self.problem.gpus

    @property
    def routing(self) -> float:
        """What a step takes longer by where experts are not loaded evenly: the stated factor of natural routing."""
        return float(shipped()["natural_routing"]) if self.natural and self.problem.model.is_moe else 1.0

    @property
    def group(self) -> tuple[str, str]:
        """Runs of one model on one GPU, whose order matters."""
        return self.problem.model.name, self.problem.gpu.name

    @property
    def key(self) -> tuple[object, ...]:
        """Runs of one distinct layout."""
        layout = self.layout
        degrees = tuple(getattr(layout, f.name) for f in fields(Layout) if f.name not in ("settings", "recompute"))
        return (*self.group, self.problem.precision, self.problem.seq_length, *degrees)


def read_runs(paths: Iterable[str]) -> tuple[list[Run], Counter[str]]:
    """The runs of the files that can be scored, and how many rows were skipped for each reason."""
    rows = [row for path in paths for row in read_rows(path)]
    kin = Kin(rows)
    runs: list[Run] = []
    skipped: Counter[str] = Counter()
    for row in rows:
        try:
            runs.append(_run(row, kin))
        except Skipped as skip:
            skipped[skip.reason] += 1
    return runs, skipped


def _run(row: Row, kin: Kin) -> Run:
    rate, step = real(row, "tokens_per_sec_per_gpu"), real(row, "step_time_s")
    if rate is None and step is None:
        raise Skipped("no throughput or step time")
    note = text(row, "note")
    if _is_functional(row):
        raise Skipped("functional run")
    if "regression" in note.lower() or "footnote" in note.lower():
        raise Skipped("the source marks it as a regression")
    if text(row, "outcome").lower() not in ("", "ok"):
        raise Skipped("did not finish")
    model, gpus = _model(text(row, "model"), note), number(row, "num_gpus")
    if gpus is None:
        raise Skipped("GPU count unknown")
    seq, batch, micro = number(row, "seq_length"), number(row, "gbs"), number(row, "mbs")
    if seq is None or batch is None or micro is None:
        raise Skipped("sequence length or batch unknown")
    problem = _problem(row, kin, model, gpus, seq)
    layout = _layout(row, problem)
    if rate is None:
        rate = batch * seq / (step or 1.0) / gpus
    source = text(row, "source") or text(row, "provenance")
    return Run(text(row, "model"), source, problem, layout, rate, is_natural(row))


def _is_functional(row: Row) -> bool:
    card = "card item" in text(row, "note") or text(row, "provenance").startswith("repo card")
    return card and not text(row, "section").startswith(PERFORMANCE_ITEMS)


def _model(name: str, note: str) -> ModelSpec:
    model = model_named(name)
    return replace(model, mtp_num_layers=None) if "w/o MTP" in note else model


def _problem(row: Row, kin: Kin, model: ModelSpec, gpus: int, seq: int) -> Problem:
    gpu, task = gpu_named(text(row, "gpu")), text(row, "task").lower()
    return problem_of(
        model,
        gpu,
        gpus,
        seq,
        settings_of(row, kin, model),
        nvlink_domain=usual_share(gpu.nvlink_domain, gpus),
        precision=precision_named(text(row, "precision")),
        task=task if task in TASKS else "pretrain",
        stack=_stack(row),
    )


def _stack(row: Row) -> str:
    """The software generation by the container that the section names; cards and skills are of the newest, papers old."""
    found = re.search(r"\b(\d\d\.\d\d)\b", text(row, "section"))
    if found:
        return max((stack for stack in STACKS if stack <= found[1]), default=STACKS[0])
    return NEWEST_STACK if text(row, "provenance").startswith("repo") else STACKS[0]


def _layout(row: Row, problem: Problem) -> Layout:
    degrees = {name: number(row, name) for name in ("tp", "pp", "cp", "ep", "etp", "mbs", "gbs")}
    vpp, stated = number(row, "vp"), bool(text(row, "sp"))
    words: dict[str, Any] = {
        **degrees,
        "vpp": vpp if vpp and vpp > 1 and (degrees["pp"] or 1) > 1 else None,
        "sp": truth(row, "sp") if stated else (degrees["tp"] or 1) > 1,
        **recompute_words(text(row, "recompute")),
    }
    return _placed(row, problem, layout_of(problem, words))


def _placed(row: Row, problem: Problem, layout: Layout) -> Layout:
    """With the row's own pipeline layout where it fits the degrees, else with an even or the balanced split."""
    chunks, written = layout.pp * layout.chunks_per_rank, text(row, "pp_layout")
    if layout.pp == 1:
        return layout
    if written:
        try:
            split = simplest_split_of_text(problem.model, layout.pp, chunks, written)
        except ValueError:
            split = None
        if split and assignment_of(problem.model, layout.pp, layout.chunks_per_rank, split):
            return replace(layout, split=split)
    found = place(problem.model, layout.pp, layout.chunks_per_rank)
    if found is None:
        raise Skipped("no placement of the layers known")
    return replace(layout, split=found[1])
