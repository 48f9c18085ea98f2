"""Where ``solve`` puts layers: evenly where that comes out, else for the fastest slowest rank that whole layers allow."""

from __future__ import annotations

from itertools import combinations_with_replacement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.pipeline.assignment import assignment_of
from constraints.pipeline.placement import layer_flops, loss_flops, place
from models_catalog.loader import load_model
from models_catalog.schema import ModelSpec
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
    st.integers(1, 3),
    st.sampled_from([512, 128256, 4_000_000]),
    st.sampled_from([None, 1, 2]),
)
def test_no_dealing_of_whole_layers_is_faster(layers: int, pp: int, vpp: int, vocab: int, mtp: int | None) -> None:
    spec = model(num_layers=layers, vocab_size=vocab, mtp_num_layers=mtp)
    placed = place(spec, pp, vpp)
    assert placed is not None
    assignment, split = placed
    assert sum(assignment.sizes) == layers
    assert assignment_of(spec, pp, vpp, split) == assignment
    mine = tuple(assignment.layers_of_rank(rank) for rank in range(pp))
    if layers % (pp * vpp) == 0:
        assert set(assignment.sizes) == {layers // (pp * vpp)}
        return
    least = vpp if pp * vpp <= layers else 0
    assert min(assignment.sizes) >= min(1, least)
    assert slowest(spec, mine) == min(slowest(spec, dealt) for dealt in every_dealing(layers, pp, least))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(2, 8), st.integers(1, 4))
def test_chunks_of_one_rank_differ_by_at_most_one_layer(layers: int, pp: int, vpp: int) -> None:
    placed = place(model(num_layers=layers), pp, vpp)
    assert placed is not None
    for rank in range(pp):
        sizes = [chunk.layers for chunk in placed[0].of_rank(rank)]
        assert max(sizes) - min(sizes) <= 1


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
