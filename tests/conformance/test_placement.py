"""Rank placement, as link costs see it, is that of the groups which the real ``parallel_state`` makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constraints.problem import Problem
from constraints.timing import collectives
from constraints.topology import fewest_together, inside_domain
from models_catalog.loader import load_gpu, load_model
from tests.conformance.placement_file import placement_files, shapes

FILES = placement_files()
DOMAINS = (2, 3, 4, 6, 8, 16, 36, 72)


def shares(group: list[int], domain: int) -> list[int]:
    places = [rank // domain for rank in group]
    return [places.count(place) for place in set(places)]


def placed(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]) -> tuple[int, int]:
    """(stride, size) that a cost asks the topology about."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(collectives, "ring_cost", lambda problem, stride, size: seen.append((stride, size)))
    monkeypatch.setattr(collectives, "all_to_all_cost", lambda problem, stride, size: seen.append((stride, size)))
    ask()
    return seen[0]


def test_two_hundred_meshes_are_recorded_for_each_generation() -> None:
    assert len(FILES) >= 2
    assert all(len(shapes(path)) >= 200 for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removeprefix("placement_").removesuffix(".jsonl.gz"))
def test_links_are_those_of_the_real_groups(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, gpu = load_model("llama-3.1-8b"), load_gpu("h100")
    for each in shapes(path):
        x, real = each["shape"], each["groups"]
        gpus = x["tp"] * x["cp"] * x["dp"] * x["pp"]
        problem = Problem(model, gpu, gpus, 8, 8, 79 << 30, 4096)
        asked: dict[str, Callable[[], Any]] = {
            "tp": lambda problem=problem, x=x: collectives.tensor_ring(problem, x["tp"]),
            "cp": lambda problem=problem, x=x: collectives.context_ring(problem, x["tp"], x["cp"]),
            "dp_cp": lambda problem=problem, x=x: collectives.dense_data_ring(problem, x["tp"], x["pp"]),
            "etp": lambda problem=problem, x=x: collectives.expert_tensor_ring(problem, x["etp"]),
            "ep": lambda problem=problem, x=x: collectives.expert_all_to_all(problem, x["etp"], x["ep"]),
            "edp": lambda problem=problem, x=x: collectives.expert_data_ring(problem, x["etp"] * x["ep"], x["pp"]),
        }
        for kind, ask in asked.items():
            stride, size = placed(monkeypatch, ask)
            starts = [block + offset for block in range(0, gpus, stride * size) for offset in range(stride)]
            ours = [list(range(start, start + stride * size, stride)) for start in starts]
            assert sorted(real[kind]) == sorted(ours), (kind, x)
            for domain in DOMAINS:
                everywhere = [shares(group, domain) for group in real[kind]]
                assert inside_domain(stride, size, gpus, domain) is all(len(parts) == 1 for parts in everywhere)
                assert fewest_together(stride, size, gpus, domain) == min(min(parts) for parts in everywhere)
        neighbours = {(group[i], group[i + 1]) for group in real["pp"] for i in range(len(group) - 1)}
        assert {b - a for a, b in neighbours} <= {gpus // x["pp"]}, x
