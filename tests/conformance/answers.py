"""Answers of ``solve`` as Megatron Bridge overrides, for the recorder to hand to the real Megatron.

    python -m tests.conformance.answers --out answers.jsonl

One JSON object a line: the model's entry, the request, and the emitted text itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

from cli.emit import bridge
from constraints.errors import MeshwrightError
from models_catalog.loader import model_names
from models_catalog.schema import ModelSpec
from solver import Request
from solver.resolution import OBJECTIVE_NAMES, resolve
from solver.synthesis import solve_problem

__all__ = ["asked", "entry"]

GPU_COUNTS = (
    8,
    12,
    16,
    20,
    24,
    28,
    36,
    40,
    48,
    56,
    60,
    72,
    80,
    96,
    100,
    112,
    120,
    144,
    160,
    168,
    200,
    216,
    250,
    256,
    320,
    384,
)
GPUS = ("h100", "h100", "b200", "gb200-nvl72")
TOP = 8
SECONDS = 8.0


def asked(seed: int, count: int) -> Iterator[dict[str, Any]]:
    """``count`` answers, from solves of random models, GPU counts and objectives."""
    draw, found = Random(seed), 0
    names = sorted(model_names())
    while found < count:
        request = Request(
            model=draw.choice(names),
            gpus=draw.choice(GPU_COUNTS),
            gpu=draw.choice(GPUS),
            objective=draw.choice(OBJECTIVE_NAMES),
            seq_length=draw.choice((4096, 4096, 8192)),
            precision=draw.choice(("bf16", "bf16", "bf16", "fp8_cs", "fp8_mx")),
            global_batch_size=draw.choice((None, None, 512, 768, 1000)),
            allow_idle=True,
        )
        try:
            problem = resolve(request)
            report = solve_problem(problem, top=TOP, seconds=SECONDS)
        except MeshwrightError:
            continue
        for answer in report.answers:
            found += 1
            yield {
                "model": entry(problem.model),
                "gpus": answer.layout.gpus,
                "gpu": problem.gpu.name,
                "seq_length": problem.seq_length,
                "precision": problem.precision,
                "objective": problem.objective,
                "text": bridge.emit(problem, answer.layout),
            }


def entry(model: ModelSpec) -> dict[str, Any]:
    """A model's fields that are not at their defaults, as a batch line has them."""
    given = {f.name: getattr(model, f.name) for f in fields(model) if getattr(model, f.name) != f.default}
    dropped = ("sources", "note", "aliases", "hf_id", "family", "total_parameters", "active_parameters")
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if k not in dropped}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write answers of solve for the recorder.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1100)
    parser.add_argument("--seed", type=int, default=20261125)
    chosen = parser.parse_args(words)
    with chosen.out.open("w", encoding="utf-8") as file:
        for answer in asked(chosen.seed, chosen.count):
            print(json.dumps(answer), file=file, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
