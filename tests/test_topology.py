"""The link that a group really uses, against an enumeration of every rank group that Megatron would make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.topology import fewest_together, inside_domain

DENSE_ORDER = ("tp", "cp", "dp", "pp")
EXPERT_ORDER = ("etp", "ep", "edp", "pp")
Groups = list[list[int]]


def groups_of(sizes: Mapping[str, int], order: tuple[str, ...], over: tuple[str, ...]) -> Groups:
    """Every group of ranks that differ only in the coordinates ``over``; ``order`` begins with the fastest one."""
    strides, stride = {}, 1
    for name in order:
        strides[name], stride = stride, stride * sizes[name]

    def offsets(names: Iterable[str]) -> list[int]:
        names = list(names)
        ranges = [range(0, sizes[n] * strides[n], strides[n]) for n in names]
        return sorted(sum(point) for point in product(*ranges))

    members, starts = offsets(over), offsets(name for name in order if name not in over)
    return [[start + member for member in members] for start in starts]


def strided_groups(stride: int, size: int, gpus: int) -> Groups:
    """Every group of ``size`` ranks ``stride`` apart, in aligned blocks."""
    return [
        list(range(block + offset, block + offset + stride * size, stride))
        for block in range(0, gpus, stride * size)
        for offset in range(stride)
    ]


def shares(group: list[int], domain: int) -> list[int]:
    """Members of the group in each domain that it touches."""
    return list(Counter(rank // domain for rank in group).values())


def all_inside(groups: Groups, domain: int) -> bool:
    return all(len(shares(group, domain)) == 1 for group in groups)


def narrowest(groups: Groups, domain: int) -> int:
    return min(min(shares(group, domain)) for group in groups)


def assert_true_links(stride: int, size: int, gpus: int, domain: int) -> None:
    groups, where = strided_groups(stride, size, gpus), f"stride {stride} size {size} gpus {gpus} domain {domain}"
    assert inside_domain(stride, size, gpus, domain) == all_inside(groups, domain), where
    assert fewest_together(stride, size, gpus, domain) == narrowest(groups, domain), where


def test_the_rank_order_of_the_enumeration_is_megatrons() -> None:
    """Groups that Megatron-Core 0.20's parallel_state made for tp=2 cp=2 pp=2 ep=4 etp=1 on 32 ranks."""
    dense = {"tp": 2, "cp": 2, "dp": 4, "pp": 2}
    expert = {"etp": 1, "ep": 4, "edp": 4, "pp": 2}
    assert groups_of(dense, DENSE_ORDER, ("tp",))[0] == [0, 1]
    assert groups_of(dense, DENSE_ORDER, ("cp",))[0] == [0, 2]
    assert groups_of(dense, DENSE_ORDER, ("dp",))[0] == [0, 4, 8, 12]
    assert groups_of(dense, DENSE_ORDER, ("cp", "dp"))[0] == list(range(0, 16, 2))
    assert groups_of(dense, DENSE_ORDER, ("pp",))[0] == [0, 16]
    assert groups_of(expert, EXPERT_ORDER, ("ep",))[0] == [0, 1, 2, 3]
    assert groups_of(expert, EXPERT_ORDER, ("edp",))[0] == [0, 4, 8, 12]
    assert groups_of(expert, EXPERT_ORDER, ("pp",))[0] == [0, 16]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
    st.integers(1, 72),
    st.sampled_from([DENSE_ORDER, EXPERT_ORDER]),
)
def test_every_kind_of_group_is_strided_ranks_in_aligned_blocks(
    degrees: list[int], domain: int, order: tuple[str, ...]
) -> None:
    """The whole of topology.py speaks of (stride, size): here each kind of group is enumerated from the mesh itself."""
    sizes, gpus = dict(zip(order, degrees, strict=True)), prod(degrees)
    first, second, third, _ = order
    kinds = {
        (first,): (1, sizes[first]),
        (second,): (sizes[first], sizes[second]),
        (third,): (sizes[first] * sizes[second], sizes[third]),
        (second, third): (sizes[first], sizes[second] * sizes[third]),
        (order[3],): (gpus // sizes[order[3]], sizes[order[3]]),
    }
    for over, (stride, size) in kinds.items():
        groups = groups_of(sizes, order, over)
        assert sorted(groups) == sorted(strided_groups(stride, size, gpus))
        assert inside_domain(stride, size, gpus, domain) == all_inside(groups, domain)
        assert fewest_together(stride, size, gpus, domain) == narrowest(groups, domain)


@pytest.mark.parametrize("domain", range(1, 73))
def test_every_domain_size_with_straddling_groups_and_a_partly_filled_last_node(domain: int) -> None:
    """World sizes below, at and beyond the domain, most of them no multiple of it."""
    for gpus in sorted({max(1, domain - 1), domain + 1, 2 * domain + 4, 96}):
        for block in (d for d in range(1, gpus + 1) if gpus % d == 0):
            for stride in (d for d in range(1, block + 1) if block % d == 0):
                assert_true_links(stride, block // stride, gpus, domain)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 24), st.integers(1, 12), st.integers(1, 72))
def test_random_strides_and_sizes(stride: int, size: int, blocks: int, domain: int) -> None:
    assert_true_links(stride, size, stride * size * blocks, domain)


@pytest.mark.heavy
@settings(max_examples=4000, deadline=None, derandomize=True)
@given(st.integers(1, 130), st.integers(1, 80), st.integers(1, 40), st.integers(1, 72))
def test_many_random_strides_and_sizes(stride: int, size: int, blocks: int, domain: int) -> None:
    assert_true_links(stride, size, stride * size * blocks, domain)


CASES = [
    # stride, size, gpus, domain: inside, fewest together
    ("eight tensor ranks fill a node", 1, 8, 96, 8, True, 8),
    ("sixteen take two nodes, eight each", 1, 16, 96, 8, False, 8),
    ("six do not divide a node of eight: 0-5, then 6-7 | 8-11", 1, 6, 12, 8, False, 2),
    ("twelve GPUs in one 72-GPU domain have no boundary to cross", 1, 6, 12, 72, True, 6),
    ("sixteen straddle 72: 64-71 | 72-79", 1, 16, 96, 72, False, 8),
    ("eighteen divide 72", 1, 18, 144, 72, True, 18),
    ("a last node of four GPUs holds four of the sixteen", 1, 12, 12, 8, False, 4),
    ("neighbours in data parallelism sit on different nodes", 8, 4, 64, 8, False, 1),
    ("expert groups of sixteen span two nodes", 1, 16, 64, 8, False, 8),
    ("pipeline ranks are the outermost", 16, 2, 32, 8, False, 1),
    ("pipeline ranks of one node stay in it", 4, 2, 8, 8, True, 2),
]


@pytest.mark.parametrize(
    ("stride", "size", "gpus", "domain", "inside", "fewest"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_hand_made_cases(stride: int, size: int, gpus: int, domain: int, inside: bool, fewest: int) -> None:
    assert inside_domain(stride, size, gpus, domain) is inside
    assert fewest_together(stride, size, gpus, domain) == fewest
