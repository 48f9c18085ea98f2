"""The request and the layout that a row describes, as the command would hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from benchmarks.rows import Skipped
from constraints.errors import MeshwrightError
from constraints.layout import Layout, Settings
from constraints.problem import GIB, Problem
from constraints.reading import read_layout
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["layout_of", "problem_of", "recompute_words"]

MOST_CHUNKS = 2
"""Virtual stages for each layer: a layout may leave some of them without one."""


def problem_of(model: ModelSpec, gpu: GpuSpec, gpus: int, seq: int, settings: Settings, **more: Any) -> Problem:
    """A problem with the machine's usual shape."""
    if gpus < 1 or seq < 1:
        raise Skipped("no GPU or no token")
    return Problem(
        model=model,
        gpu=gpu,
        gpus=gpus,
        gpus_per_node=gpu.gpus_per_node,
        budget_bytes=int(gpu.usable_gib * GIB),
        seq_length=seq,
        settings=settings,
        **{"nvlink_domain": gpu.nvlink_domain} | more,
    )


def layout_of(problem: Problem, words: Mapping[str, Any]) -> Layout:
    """The layout that the words mean; a row whose degrees or batch do not come out is skipped."""
    try:
        layout = read_layout({name: value for name, value in words.items() if value is not None}, problem).layout
    except MeshwrightError as error:
        raise Skipped(f"unreadable {error.field}") from None
    if layout.pp * layout.chunks_per_rank > MOST_CHUNKS * (problem.model.num_layers + 2):
        raise Skipped("more pipeline stages than layers")
    if layout.tp * layout.pp * layout.cp * layout.dp != problem.gpus:
        raise Skipped("degrees do not multiply to the world size")
    if layout.etp * layout.ep * layout.edp * layout.pp != problem.gpus:
        raise Skipped("expert degrees do not multiply to the world size")
    product = layout.num_microbatches * layout.micro_batch_size * layout.dp
    if layout.num_microbatches < 1 or product != layout.global_batch_size:
        raise Skipped("the global batch is no multiple of dp * micro-batch")
    return layout


def recompute_words(value: str, unnamed: tuple[str, ...] = ()) -> dict[str, Any]:
    """The layout's words for ``none``, ``full:uniform:1``, ``full:uniform/1``, ``selective:moe_act;layernorm`` and the like.

    ``unnamed`` are the modules that a selective recompute without any means.

    >>> recompute_words("selective:[moe_act layernorm]")["recompute_modules"]
    ['moe_act', 'layernorm']
    """
    kind, _, rest = value.strip().partition(":")
    if kind == "full":
        method, layers = re.search(r"[a-z]+", rest), re.search(r"\d+", rest)
        return {
            "recompute_granularity": "full",
            "recompute_method": method[0] if method else "uniform",
            "recompute_num_layers": int(layers[0]) if layers else 1,
        }
    if kind == "selective":
        modules = re.findall(r"[a-z_]+", rest) or list(unnamed)
        return {"recompute_granularity": "selective", "recompute_modules": modules} if modules else {}
    return {}
