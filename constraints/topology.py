"""Which ranks a group holds, where they sit, and so which links it really uses.

Megatron's default rank order is tp fastest, then cp, ep, dp, and pp last: every group of size z lies on ranks that are
``stride`` apart inside an aligned block of ``stride * z`` ranks. Source: NVIDIA/Megatron-LM@d98e8a6
``megatron/core/parallel_state.py::RankGenerator``. Rank r sits in NVLink domain ``r // nvlink_domain``; the last domain
may be partly filled. A kind of group is inside a domain only if every group of that kind is.
"""

from __future__ import annotations

from functools import lru_cache

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, Stratum, mcore

__all__ = ["RULES", "fewest_together", "inside_domain", "usual_share"]


def inside_domain(stride: int, size: int, gpus: int, domain: int) -> bool:
    """True if every group of ``size`` ranks ``stride`` apart lies inside one NVLink domain.

    Blocks of ``stride * size`` ranks are aligned to their own length, so a domain boundary cuts one of them unless the
    block length divides the domain; with a single domain there is no boundary.

    >>> inside_domain(1, 8, 96, 8), inside_domain(1, 16, 96, 72), inside_domain(1, 6, 12, 8)
    (True, False, False)
    """
    return size == 1 or gpus <= domain or domain % (stride * size) == 0


def usual_share(domain: int, gpus: int) -> int:
    """GPUs of each NVLink domain that a job on ``gpus`` mostly gets: those of a power-of-two size leave the rest idle.

    NVIDIA's own measurements on GB200 and GB300 take 64 of the 72 GPUs of a rack (NVIDIA-NeMo/Megatron-Bridge@067f987
    ``docs/performance-summary.md``: 64, 128, 256 GPUs).

    >>> usual_share(72, 256), usual_share(72, 144), usual_share(72, 64), usual_share(8, 256)
    (64, 72, 72, 8)
    """
    usable = 1 << (domain.bit_length() - 1)
    return usable if gpus > domain and gpus & (gpus - 1) == 0 else domain


@lru_cache(maxsize=65536)
def fewest_together(stride: int, size: int, gpus: int, domain: int) -> int:
    """The fewest members that some group has in one of the domains it touches: the width of its narrowest way out.

    >>> fewest_together(1, 16, 64, 8), fewest_together(8, 4, 64, 8), fewest_together(1, 16, 96, 72)
    (8, 1, 8)
    """
    if inside_domain(stride, size, gpus, domain):
        return size
    block = stride * size
    if stride >= domain:
        return 1
    if domain % stride == 0 and block % domain == 0:
        return domain // stride  # blocks start at domain boundaries: every share is alike
    fewest = size
    for start in range(0, max(block, gpus), block):
        first_cut = -(-start // domain) * domain
        if start and first_cut >= start + block:
            continue
        for offset in _offsets_at_cuts(start, stride, block, domain):
            members: dict[int, int] = {}
            for rank in range(start + offset, start + block, stride):
                members[rank // domain] = members.get(rank // domain, 0) + 1
            fewest = min(fewest, *members.values())
        if fewest == 1 or start >= block * domain:
            break  # one is the least; and cuts repeat after block * domain ranks
    return fewest


def _offsets_at_cuts(start: int, stride: int, block: int, domain: int) -> set[int]:
    """Offsets inside the stride of the groups with the smallest shares: a member right on a cut leaves least before it."""
    offsets = {0}
    cut = (start // domain + 1) * domain
    while cut < start + block and len(offsets) < stride:
        offsets.add((cut - start) % stride)
        cut += domain
    return offsets


class TensorInDomain(Rule):
    """Every tensor-parallel group lies inside one NVLink domain.

    Megatron runs the other way too, at network speed; ``--relax topology.tp-in-domain`` lets ``solve`` do it.
    """

    id = "topology.tp-in-domain"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("parallel_state.py", "RankGenerator.get_ranks")
    scope = ("tp",)
    reads = ("gpus", "nvlink_domain")
    fix = "a tp that divides the NVLink domain, or --relax topology.tp-in-domain"
    example = "tp=16 on nodes of 8 GPUs"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return inside_domain(1, layout.tp, problem.gpus, problem.nvlink_domain)

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("tp", lambda tp: inside_domain(1, tp, problem.gpus, problem.nvlink_domain))

    def reason(self, problem: Problem, layout: Layout) -> str:
        domain = problem.nvlink_domain
        cut = "is larger than" if layout.tp > domain else "does not divide"
        return (
            f"tensor groups of {layout.tp} consecutive ranks leave their NVLink domain: {layout.tp} {cut} {domain}, "
            f"so {problem.gpu.name} would run every layer's collectives over the network"
        )


RULES = (TensorInDomain(),)
