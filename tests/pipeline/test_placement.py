"""Where ``solve`` puts layers: evenly where that comes out, else for the fastest slowest rank that whole layers allow."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.chunks import EvenChunks
from constraints.pipeline.assignment import assignment_of, from_sizes, simplest_split
from constraints.pipeline.placement import layer_flops, loss_flops, place
from models_catalog.loader import load_model
from models_catalog.schema import ModelSpec
from tests.partition.brute_force import compositions
from tests.rules.builders import hybrid, model


def slowest(spec: ModelSpec, layers_of_ranks: tuple[int, ...]) -> int:
    """Forward multiply-adds per token of the busiest rank; the last one computes the loss and MTP layers as well."""
    layer = layer_flops(spec, spec.layer_kinds[-1])
    tail = loss_flops(spec) * (1 + spec.mtp_layers) + spec.mtp_layers * layer
    return max(n * layer + (tail if rank == len(layers_of_ranks) - 1 else 0) for rank, n in enumerate(layers_of_ranks))


def every_dealing(layers: int, pp: int, least: int) -> list[tuple[int, ...]]:
    """Layers of each rank, up to the order of the ranks before the last, all of which cost the same."""
    return [
        (*others, layers - sum(others))
        for others in combinations_with_replacement(range(least, layers + 1), pp - 1)
        if layers - sum(others) >= least
    ]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(1, 14),
    st.integers(1, 5),
    st.sampled_from([512, 128256, 4_000_000]),
    st.sampled_from([None, 1, 2]),
)
def test_no_dealing_of_whole_layers_is_faster(layers: int, pp: int, vocab: int, mtp: int | None) -> None:
    spec = model(num_layers=layers, vocab_size=vocab, mtp_num_layers=mtp)
    placed = place(spec, pp, 1)
    assert placed is not None
    assignment, split = placed
    assert sum(assignment.sizes) == layers
    assert assignment_of(spec, pp, 1, split) == assignment
    mine = tuple(assignment.layers_of_rank(rank) for rank in range(pp))
    if layers % pp == 0:
        assert set(assignment.sizes) == {layers // pp}
        return
    least = int(pp <= layers)
    assert min(assignment.sizes) >= min(1, least)
    assert slowest(spec, mine) == min(slowest(spec, dealt) for dealt in every_dealing(layers, pp, least))


@pytest.mark.parametrize(("pp", "vpp"), [(2, 2), (2, 3), (3, 2)])
@pytest.mark.parametrize("vocab", [512, 4_000_000])
def test_chunks_of_a_rank_are_alike_wherever_that_comes_out(pp: int, vpp: int, vocab: int) -> None:
    for layers in range(pp * vpp, 12):
        spec = model(num_layers=layers, vocab_size=vocab)
        placed = place(spec, pp, vpp)
        assert placed is not None
        alike = [
            sizes
            for sizes in compositions(layers, pp * vpp)
            if EvenChunks().accepts(spec, pp, vpp, simplest_split(spec, from_sizes(spec, pp, sizes)))
            and all(sum(sizes[rank::pp]) for rank in range(pp))
        ]
        mine = placed[0].sizes
        assert (mine in alike) == bool(alike)
        if alike and layers % (pp * vpp):
            ranks = [tuple(sum(sizes[rank::pp]) for rank in range(pp)) for sizes in (mine, *alike)]
            fastest = min(slowest(spec, dealt) for dealt in ranks if min(dealt) > 0)
            assert slowest(spec, ranks[0]) == fastest


def test_deepseek_v3_on_sixteen_ranks() -> None:
    """61 layers: three ranks more than 3 each are four; the loss and MTP relieve the last rank."""
    placed = place(load_model("deepseek-v3"), 16, 1)
    assert placed is not None
    sizes = placed[0].sizes
    assert sorted(sizes[:-1]) == sizes_sorted(61 - sizes[-1], 15)
    assert sizes[-1] < max(sizes)
    assert placed[0].chunks[-1].mtp == 1


def sizes_sorted(layers: int, ranks: int) -> list[int]:
    """Layers spread over ranks as evenly as they go, the short ones first."""
    return sorted(layers // ranks + (i < layers % ranks) for i in range(ranks))


@pytest.mark.parametrize(("pp", "vpp"), [(3, 1), (3, 2), (5, 1)])
def test_a_hybrid_model_is_placed_only_where_megatron_has_a_form(pp: int, vpp: int) -> None:
    spec = hybrid("M-M*M-M*")
    placed = place(spec, pp, vpp)
    if vpp > 1:
        assert placed is None
    elif placed is not None:
        assert placed[1].form in ("even", "first-last")


def test_the_pipes_of_a_hybrid_pattern_place_its_layers() -> None:
    """Seven layers, four before the pipe: no count is given, and none is taken."""
    spec = hybrid("M-M*|M-M")
    placed = place(spec, 2, 1)
    assert placed is not None
    assignment, split = placed
    assert assignment.sizes == (4, 3)
    assert split.form == "even"
    assert assignment_of(spec, 2, 1, split) == assignment
    assert assignment_of(spec, 1, 1, split) is None
