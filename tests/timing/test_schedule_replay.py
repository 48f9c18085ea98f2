"""The closed form of the pipeline against Megatron's order played through."""

from __future__ import annotations

import random

import pytest

from constraints.arithmetic import Integers
from constraints.timing.pipeline import PARTS, hops, pipelined
from constraints.timing.replay import replayed


def closed(stages: list[int], microbatches: int, chunks: int) -> float:
    slowest, total = max(stages), sum(stages)
    return microbatches * slowest + (total - slowest) / chunks


def split(times: list[int]) -> tuple[list[int], list[int]]:
    """A third of each chunk is its forward pass."""
    return [time // 3 for time in times], [time - time // 3 for time in times]


@pytest.mark.parametrize(
    ("pp", "vpp", "microbatches", "expected"), [(4, 1, 16, 1900), (4, 5, 16, 1660), (8, 2, 32, 35.5 * 100)]
)
def test_an_even_pipeline_takes_exactly_the_closed_form(pp: int, vpp: int, microbatches: int, expected: float) -> None:
    chunk = 300
    forward, backward = [chunk // 3] * (pp * vpp), [chunk - chunk // 3] * (pp * vpp)
    found = replayed(forward, backward, pp, microbatches)
    rank = chunk * vpp
    assert found == microbatches * rank + (pp - 1) * rank / vpp
    assert found * 100 / rank == pytest.approx(expected)
    closed_form = pipelined(Integers(), microbatches * rank, (pp - 1) * rank, vpp)
    assert closed_form / PARTS == pytest.approx(found, rel=0.01)


def test_a_heavy_last_stage_paces_1f1b() -> None:
    times = [30, 30, 30, 45]
    forward, backward = split(times)
    assert replayed(forward, backward, 4, 8) == 450 == closed(times, 8, 1)


def test_a_heavy_last_chunk_paces_an_interleaved_pipeline() -> None:
    forward, backward = split([15, 15, 15, 15, 15, 15, 15, 24])
    assert replayed(forward, backward, 4, 8) == 357 == closed([30, 30, 30, 39], 8, 2)


def test_groups_larger_than_the_pipeline() -> None:
    forward, backward = split([15] * 8)
    assert replayed(forward, backward, 4, 6, group=6) == 225


@pytest.mark.parametrize("seed", range(3))
def test_uneven_1f1b_is_never_below_the_replay_and_seldom_far_above(seed: int) -> None:
    draw = random.Random(seed)
    errors = []
    for _ in range(120):
        pp, microbatches = draw.choice([2, 3, 4, 6, 8]), draw.randint(1, 24)
        times = [draw.randint(60, 140) for _ in range(pp)]
        forward, backward = split(times)
        errors.append(closed(times, microbatches, 1) / replayed(forward, backward, pp, microbatches) - 1)
    assert min(errors) >= 0
    assert max(errors) <= 0.15
    assert sum(errors) / len(errors) <= 0.03


def test_uneven_interleaving_stays_within_the_stated_band() -> None:
    draw = random.Random(5)
    errors = []
    for _ in range(150):
        pp, vpp = draw.choice([2, 4, 8]), draw.choice([2, 3, 4])
        microbatches = pp * draw.randint(1, 5)
        chunks = [draw.randint(60, 140) for _ in range(pp * vpp)]
        forward, backward = split(chunks)
        stages = [sum(chunks[rank::pp]) for rank in range(pp)]
        errors.append(closed(stages, microbatches, vpp) / replayed(forward, backward, pp, microbatches) - 1)
    assert min(errors) >= -0.16
    assert max(errors) <= 0.12
    assert abs(sum(errors) / len(errors)) <= 0.05


@pytest.mark.parametrize(
    ("pp", "vpp", "microbatches"), [(4, 1, 8), (4, 1, 16), (8, 1, 16), (4, 2, 8), (4, 2, 16), (8, 2, 16), (4, 4, 16)]
)
def test_hops_on_the_critical_path_as_the_replay_has_them(pp: int, vpp: int, microbatches: int) -> None:
    forward, backward = [1000] * (pp * vpp), [2000] * (pp * vpp)
    still = replayed(forward, backward, pp, microbatches)
    moved = replayed(forward, backward, pp, microbatches, hop=1)
    assert hops(Integers(), 1, microbatches, pp, vpp) / PARTS == pytest.approx(moved - still, abs=0.3)
