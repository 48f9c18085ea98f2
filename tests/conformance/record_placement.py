"""The groups that the real ``parallel_state`` makes, of every rank, for meshes of many shapes."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from tests.conformance.megatron import groups

__all__ = ["record_groups", "shapes"]

KINDS = {
    "TENSOR_MODEL_PARALLEL_GROUP": "tp",
    "CONTEXT_PARALLEL_GROUP": "cp",
    "DATA_PARALLEL_GROUP": "dp",
    "DATA_PARALLEL_GROUP_WITH_CP": "dp_cp",
    "PIPELINE_MODEL_PARALLEL_GROUP": "pp",
    "EXPERT_TENSOR_PARALLEL_GROUP": "etp",
    "EXPERT_MODEL_PARALLEL_GROUP": "ep",
    "EXPERT_DATA_PARALLEL_GROUP": "edp",
}
"""What Megatron calls a kind of group, and its short name."""

MOST_RANKS = 192


def shapes(count: int, seed: int = 7) -> list[dict[str, int]]:
    """Different meshes, odd degrees among them, whose dense and expert cuts both fill the world."""
    draw, found = Random(seed), {}
    while len(found) < count:
        tp, cp, pp = draw.choice((1, 2, 3, 4, 6, 8)), draw.choice((1, 1, 2, 3, 4)), draw.choice((1, 2, 3, 4, 5, 8))
        dp, etp, ep = (
            draw.choice((1, 2, 3, 4, 5, 6, 8, 12)),
            draw.choice((1, 1, 2, 4)),
            draw.choice((1, 2, 3, 4, 6, 8, 16)),
        )
        ranks = tp * cp * dp
        if ranks * pp <= MOST_RANKS and ranks % (etp * ep) == 0:
            shape = {"tp": tp, "cp": cp, "pp": pp, "dp": dp, "etp": etp, "ep": ep, "edp": ranks // (etp * ep)}
            found[json.dumps(shape)] = shape
    return list(found.values())


def record_groups(path: Path, head: dict[str, Any], count: int = 240) -> None:
    """Write every shape with every group of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{**head, "shapes": count}, *({"shape": shape, "groups": _groups(shape)} for shape in shapes(count))]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        zipped.write(text.encode())


def _groups(shape: dict[str, int]) -> dict[str, list[list[int]]]:
    import torch.distributed as dist
    from megatron.core import parallel_state

    made: dict[str, list[list[int]]] = defaultdict(list)
    real = dist.new_group

    def new_group(ranks: Any = None, *args: Any, **given: Any) -> Any:
        kind = KINDS.get(str(given.get("group_desc")))
        if kind is not None and list(ranks) not in made[kind]:
            made[kind].append(list(ranks))
        return real(ranks, *args, **given) if 0 in ranks else dist.GroupMember.NON_GROUP_MEMBER

    groups.world(shape["tp"] * shape["cp"] * shape["dp"] * shape["pp"])
    with patch.object(dist, "new_group", new_group):
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=shape["tp"],
            pipeline_model_parallel_size=shape["pp"],
            context_parallel_size=shape["cp"],
            expert_model_parallel_size=shape["ep"],
            expert_tensor_parallel_size=shape["etp"],
            create_gloo_process_groups=False,
        )
    return dict(made)
