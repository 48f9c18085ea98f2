"""What a collective costs, by the links that its group really uses: worked examples and laws, in nanoseconds."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.problem import Problem
from constraints.timing import collectives
from models_catalog.loader import load_gpu
from tests.rules.builders import gpu, problem

EXACT = gpu(collective_efficiency=((2, 1.0),), network_efficiency=1.0)
"""450 GB/s of NVLink and 50 GB/s of network, of which everything is reached."""

MIB = 1 << 20


def machine(**words: Any) -> Problem:
    return problem(None, **{"gpu": EXACT, "gpus": 64} | words)


def ns(ps_per_kib: int, size: int) -> float:
    """Nanoseconds of ``size`` bytes at a cost in picoseconds per KiB."""
    return size / 1024 * ps_per_kib / 1000


# -- rings


def test_a_tensor_all_gather_of_128_mib_over_eight_h100() -> None:
    """8192 tokens of width 8192: 7/8 of 128 MiB at 0.698 of 450 GB/s, and 12 us: 385 896 ns, but for whole picoseconds."""
    asked = problem(gpu=gpu(collective_efficiency=((2, 0.5), (8, 0.698)), collective_latency_ns=12_000))
    found = ns(collectives.tensor_ring(asked, 8), 128 * MIB) + collectives.tensor_latency(asked, 8)
    assert found == pytest.approx(385_896, rel=2e-4)


def test_the_same_with_the_catalogs_h100() -> None:
    """Its entry says 0.75 of NVLink for groups of eight, and 13 us."""
    asked = problem(gpu=load_gpu("h100"))
    found = ns(collectives.tensor_ring(asked, 8), 128 * MIB) + collectives.tensor_latency(asked, 8)
    assert found == pytest.approx(128 * MIB * 7 / 8 / (450 * 0.75) + 13_000, rel=2e-4)
    assert found == pytest.approx(385_896, rel=0.07)


@pytest.mark.parametrize(
    ("stride", "size", "gpus", "domain", "gigabytes_per_second"),
    [
        (1, 8, 64, 8, 450),
        (8, 8, 64, 8, 50),  # one member a node: one NIC
        (4, 16, 64, 8, 100),  # two members a node: two NICs
        (1, 64, 64, 8, 400),  # eight members, eight NICs
        (1, 64, 64, 72, 450),  # one rack
        (1, 16, 144, 72, 400),  # 64-71 | 72-79: eight of sixteen on either side
        (1, 24, 144, 72, 450),  # three groups fill a rack
        (32, 2, 64, 8, 50),
        (1, 48, 48, 4, 200),
        (2, 6, 24, 8, 100),  # 12-22: two members in the second node, four in the third
    ],
)
def test_the_bandwidth_of_a_ring_is_that_of_its_narrowest_way_out(
    stride: int, size: int, gpus: int, domain: int, gigabytes_per_second: int
) -> None:
    asked = machine(gpus=gpus, nvlink_domain=domain)
    expected = 1024 * 1000 * (size - 1) / size / gigabytes_per_second
    assert collectives.ring_cost(asked, stride, size) == ceil(expected)


def test_the_network_never_beats_nvlink() -> None:
    """A wide group over a slow NVLink: its NICs together would be faster than a rank can take part."""
    slow = gpu(collective_efficiency=((2, 1.0),), network_efficiency=1.0, nvlink_bytes_per_second=100 * 10**9)
    assert collectives.ring_cost(machine(gpu=slow), 1, 64) == ceil(1024 * 1000 * 63 / 64 / 100)


@pytest.mark.parametrize(("size", "share"), [(2, 0.5), (3, 0.5), (4, 0.7), (6, 0.7), (8, 0.9), (64, 0.9)])
def test_a_group_reaches_the_share_of_the_largest_measured_group_not_above_it(size: int, share: float) -> None:
    asked = machine(gpu=gpu(collective_efficiency=((2, 0.5), (4, 0.7), (8, 0.9))), nvlink_domain=64)
    assert collectives.ring_cost(asked, 1, size) == ceil(1024 * 1000 * (size - 1) / size / (450 * share))


# -- one hop, all-to-all, latency


def test_a_hop_leaves_the_domain_if_any_hop_does() -> None:
    asked = machine()
    assert collectives.step_cost(asked, 1, 8) == ceil(1024 * 1000 / 450)
    assert collectives.step_cost(asked, 1, 16) == ceil(1024 * 1000 / 50)
    assert collectives.step_cost(asked, 8, 2) == ceil(1024 * 1000 / 50)


@pytest.mark.parametrize(
    ("stride", "size", "inside", "outside"),
    [
        (1, 8, 7 / 8 / 450, 0),
        (1, 16, 7 / 16 / 450, 8 / 16 / 50),
        (1, 64, 7 / 64 / 450, 56 / 64 / 50),
        (8, 8, 0, 7 / 8 / 50),
        (4, 4, 1 / 4 / 450, 2 / 4 / 50),
    ],
)
def test_an_all_to_all_takes_the_slower_of_its_two_ways_out(
    stride: int, size: int, inside: float, outside: float
) -> None:
    """Each rank sends 1/size of what it has to each other member, over NVLink in the domain, over its own NIC beyond."""
    expected = 1024 * 1000 * max(inside, outside)
    assert collectives.all_to_all_cost(machine(), stride, size) == ceil(expected)


def test_inside_a_domain_a_ring_and_an_all_to_all_move_as_much_outside_an_all_to_all_is_dearer() -> None:
    """Eight NICs serve one ring together; in an all-to-all each rank's own traffic crosses its own NIC."""
    asked = machine()
    assert collectives.all_to_all_cost(asked, 1, 8) == collectives.ring_cost(asked, 1, 8)
    assert collectives.all_to_all_cost(asked, 1, 64) > 7 * collectives.ring_cost(asked, 1, 64)


def test_latency_is_that_of_the_slowest_link() -> None:
    asked = machine(gpu=gpu(collective_latency_ns=13_000, network_latency_ns=20_000))
    assert collectives.latency_ns(asked, 1, 1) == 0
    assert collectives.latency_ns(asked, 1, 8) == 13_000
    assert collectives.latency_ns(asked, 1, 16) == 20_000


def test_a_group_of_one_costs_nothing() -> None:
    asked = machine()
    for cost in (collectives.ring_cost, collectives.step_cost, collectives.all_to_all_cost):
        assert cost(asked, 4, 1) == 0


# -- where the groups of a layout lie


def test_gb200_with_64_of_72_gpus_in_use() -> None:
    """TP2 EP32 PP8 on 256: a stage of 32 ranks is inside a domain of 64; of 72, every other stage straddles two racks."""
    inside = machine(gpu=load_gpu("gb200"), gpus=256, nvlink_domain=64)
    assert collectives.expert_latency(inside, 1, 32) == inside.gpu.collective_latency_ns
    straddling = machine(gpu=load_gpu("gb200"), gpus=256, nvlink_domain=72)
    assert collectives.expert_latency(straddling, 1, 32) == straddling.gpu.network_latency_ns
    assert collectives.expert_all_to_all(straddling, 1, 32) > collectives.expert_all_to_all(inside, 1, 32)


def test_sixteen_expert_ranks_take_two_nodes_of_h100() -> None:
    """Half of the routed copies leave the node (without deduplication; a token once per node would be 0.498 of them)."""
    asked = machine()
    assert collectives.expert_all_to_all(asked, 1, 16) == ceil(1024 * 1000 * 8 / 16 / 50)


def test_expert_tensor_ranks_push_expert_ranks_apart() -> None:
    asked = machine()
    assert collectives.expert_all_to_all(asked, 2, 4) == collectives.all_to_all_cost(asked, 2, 4)
    assert collectives.expert_latency(asked, 2, 4) == asked.gpu.collective_latency_ns
    assert collectives.expert_latency(asked, 4, 4) == asked.gpu.network_latency_ns


def test_the_data_parallel_groups_are_the_rest_of_the_stage() -> None:
    """70B on 64 H100, TP4 PP8: two ranks, four apart, in one node. Eight stages of eight: one node a stage."""
    asked = machine()
    assert collectives.dense_data_ring(asked, 4, 8) == collectives.ring_cost(asked, 4, 2)
    assert collectives.dense_data_ring(asked, 4, 8) == ceil(1024 * 1000 / 2 / 450)
    assert collectives.dense_data_ring(asked, 8, 1) == ceil(1024 * 1000 * 7 / 8 / 50)
    assert collectives.expert_data_ring(asked, 8, 2) == collectives.ring_cost(asked, 8, 4)


def test_context_ranks_are_tp_apart() -> None:
    asked = machine()
    assert collectives.context_ring(asked, 4, 2) == ceil(1024 * 1000 / 2 / 450)
    assert collectives.context_step(asked, 4, 4) == ceil(1024 * 1000 / 50)
    assert collectives.context_all_to_all(asked, 2, 4) == ceil(1024 * 1000 * 3 / 4 / 450)
    assert collectives.context_latency(asked, 8, 2) == asked.gpu.network_latency_ns


def test_pipeline_neighbours_use_the_network_unless_one_domain_holds_every_gpu() -> None:
    assert collectives.pipeline_step(machine(gpus=8)) == ceil(1024 * 1000 / 450)
    assert collectives.pipeline_step(machine(gpus=16)) == ceil(1024 * 1000 / 50)
    assert collectives.pipeline_step(machine(gpus=64, nvlink_domain=72)) == ceil(1024 * 1000 / 450)


# -- laws


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([2, 3, 4, 6, 8, 16]),
    st.integers(1, 4),
    st.sampled_from([2, 4, 6, 8, 16, 72]),
)
def test_leaving_the_domain_is_never_cheaper(stride: int, size: int, blocks: int, domain: int) -> None:
    gpus = stride * size * blocks
    asked, inside = (machine(gpus=gpus, nvlink_domain=d) for d in (domain, gpus))
    for cost in (collectives.ring_cost, collectives.step_cost, collectives.all_to_all_cost, collectives.latency_ns):
        assert cost(asked, stride, size) >= cost(inside, stride, size) > 0
