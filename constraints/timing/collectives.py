"""What a collective costs per byte, by the links that its group really uses: integer picoseconds per KiB, and latency.

A ring inside one NVLink domain runs at a measured share of NVLink (small groups see less); a ring that leaves it runs
at what the narrowest domain can send out, one NIC per member. An all-to-all sends each share where it belongs: the part
that leaves the domain crosses each rank's own NIC. Sources: the GPU's catalog entry for every rate; form: Thakur et al.
2005.
"""

from __future__ import annotations

from functools import lru_cache

from constraints.arithmetic import ceil_div
from constraints.problem import Problem
from constraints.topology import fewest_together, inside_domain
from models_catalog.schema import GpuSpec

__all__ = [
    "context_all_to_all",
    "context_latency",
    "context_ring",
    "context_step",
    "dense_data_ring",
    "expert_all_to_all",
    "expert_data_ring",
    "expert_latency",
    "expert_tensor_latency",
    "expert_tensor_ring",
    "pipeline_step",
    "tensor_latency",
    "tensor_ring",
]

PS_PER_S = 10**12
KIB = 1024


@lru_cache(maxsize=256)
def _efficiency(gpu: GpuSpec, size: int) -> float:
    """Share of NVLink that a group of ``size`` reaches: the entry of the largest measured size not above it."""
    measured = [share for members, share in sorted(gpu.collective_efficiency) if members <= size]
    return measured[-1] if measured else gpu.collective_efficiency[0][1]


def _nvlink(gpu: GpuSpec, size: int) -> int:
    """Bytes per second of a collective of ``size`` ranks inside one domain."""
    return int(gpu.nvlink_bytes_per_second * _efficiency(gpu, size))


def _network(gpu: GpuSpec) -> int:
    """Bytes per second that one GPU's NIC delivers."""
    return int(gpu.network_bytes_per_second * gpu.network_efficiency)


def ring_cost(p: Problem, stride: int, size: int) -> int:
    """Picoseconds per KiB of the whole tensor for one all-gather or reduce-scatter over the group.

    Each rank moves ``(size - 1) / size`` of the tensor. An all-reduce costs twice as much.
    """
    if size <= 1:
        return 0
    bandwidth = _nvlink(p.gpu, size)
    together = fewest_together(stride, size, p.gpus, p.nvlink_domain)
    if together < size:
        bandwidth = min(bandwidth, together * _network(p.gpu))
    return ceil_div(KIB * PS_PER_S * (size - 1), size * bandwidth)


def step_cost(p: Problem, stride: int, size: int) -> int:
    """Picoseconds per KiB sent once from each rank to the next one of its ring: one hop leaves the domain if any does."""
    if size <= 1:
        return 0
    inside = inside_domain(stride, size, p.gpus, p.nvlink_domain)
    return ceil_div(KIB * PS_PER_S, _nvlink(p.gpu, 2) if inside else min(_nvlink(p.gpu, 2), _network(p.gpu)))


def all_to_all_cost(p: Problem, stride: int, size: int) -> int:
    """Picoseconds per KiB that each rank holds, ``1/size`` of it for each member: the slower of its two ways out."""
    if size <= 1:
        return 0
    together = fewest_together(stride, size, p.gpus, p.nvlink_domain)
    inside = ceil_div(KIB * PS_PER_S * (together - 1), size * _nvlink(p.gpu, together)) if together > 1 else 0
    outside = ceil_div(KIB * PS_PER_S * (size - together), size * _network(p.gpu))
    return max(inside, outside)


def latency_ns(p: Problem, stride: int, size: int) -> int:
    """Fixed nanoseconds of one collective over the group, 0 for a group of one."""
    if size <= 1:
        return 0
    inside = inside_domain(stride, size, p.gpus, p.nvlink_domain)
    return p.gpu.collective_latency_ns if inside else p.gpu.network_latency_ns


# Below, each group by the degrees that place it: tp fastest, then cp (or ep over etp), then dp, pp last.


def tensor_ring(p: Problem, tp: int) -> int:
    """Ring cost of the tensor group."""
    return ring_cost(p, 1, tp)


def tensor_latency(p: Problem, tp: int) -> int:
    """Latency of the tensor group."""
    return latency_ns(p, 1, tp)


def context_ring(p: Problem, tp: int, cp: int) -> int:
    """Ring cost of the context group."""
    return ring_cost(p, tp, cp)


def context_step(p: Problem, tp: int, cp: int) -> int:
    """Cost of one hop of the context ring."""
    return step_cost(p, tp, cp)


def context_all_to_all(p: Problem, tp: int, cp: int) -> int:
    """All-to-all cost of the context group."""
    return all_to_all_cost(p, tp, cp)


def context_latency(p: Problem, tp: int, cp: int) -> int:
    """Latency of the context group."""
    return latency_ns(p, tp, cp)


def expert_all_to_all(p: Problem, etp: int, ep: int) -> int:
    """All-to-all cost of the expert group."""
    return all_to_all_cost(p, etp, ep)


def expert_latency(p: Problem, etp: int, ep: int) -> int:
    """Latency of the expert group."""
    return latency_ns(p, etp, ep)


def expert_tensor_ring(p: Problem, etp: int) -> int:
    """Ring cost of the expert-tensor group."""
    return ring_cost(p, 1, etp)


def expert_tensor_latency(p: Problem, etp: int) -> int:
    """Latency of the expert-tensor group."""
    return latency_ns(p, 1, etp)


def dense_data_ring(p: Problem, tp: int, pp: int) -> int:
    """Ring cost of the dense data-parallel group with context parallelism: the rest of the stage, ``tp`` apart."""
    return ring_cost(p, tp, p.gpus // (tp * pp))


def expert_data_ring(p: Problem, expert_ranks: int, pp: int) -> int:
    """Ring cost of the expert data-parallel group: the rest of the stage, ``etp * ep`` apart."""
    return ring_cost(p, expert_ranks, p.gpus // (expert_ranks * pp))


def pipeline_step(p: Problem) -> int:
    """Cost between neighbouring pipeline ranks, ``gpus / pp`` apart: NVLink only where one domain holds every GPU."""
    return step_cost(p, 1, 2) if p.gpus <= p.nvlink_domain else step_cost(p, p.nvlink_domain, 2)
