"""Which layers a chunk builds, in each of Megatron's four forms, against a second reading of Megatron's own procedure."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import (
    Assignment,
    assignment_of,
    from_sizes,
    kinds_of,
    simplest_split,
    simplest_split_of_text,
    sizes_of_split,
)
from constraints.pipeline.language import parse_layout
from models_catalog.schema import LayerKind, ModelSpec
from tests.rules.builders import hybrid, model

DENSE, MOE = LayerKind("attention", "dense"), LayerKind("attention", "moe")


class Refused(Exception):
    """Megatron would raise."""


def layers_built(layers: int, pp: int, vpp: int, split: PipelineSplit, rank: int, virtual_stage: int) -> int:
    """Decoder layers that one rank builds in one virtual stage, asked rank by rank as Megatron does.

    The checks of the configuration (positive counts, multiples of the virtual stages, nothing left over) come first, then
    the procedure of ``get_num_layers_to_build`` for a layer count that is shared, or given for the ends.
    """
    first_rank, last_rank = rank == 0, rank == pp - 1
    if split.first is None and split.last is None:
        total = layers + int(split.account_for_embedding) + int(split.account_for_loss)
        mine = shared(total, pp)
    else:
        mine = given_or_shared(layers, pp, vpp, split, first_rank, last_rank)
    mine = shared(mine, vpp)
    if first_rank and virtual_stage == 0 and split.account_for_embedding:
        mine -= 1
    if last_rank and virtual_stage == vpp - 1 and split.account_for_loss:
        mine -= 1
    return mine


def given_or_shared(layers: int, pp: int, vpp: int, split: PipelineSplit, first_rank: bool, last_rank: bool) -> int:
    left, stages = layers, pp
    for count in (split.first, split.last):
        if count is None:
            continue
        if count <= 0 or count % vpp:
            raise Refused
        left, stages = left - count, stages - 1
    if stages < 0 or (left == 0) is not (stages == 0):
        raise Refused
    mine = shared(left, stages) if stages else 0
    shared(mine, vpp)  # the configuration looks at middle stages even from a rank at an end
    if first_rank and split.first is not None:
        mine = split.first
    if last_rank and split.last is not None:
        mine = split.last
    return mine


def shared(layers: int, among: int) -> int:
    if layers % among:
        raise Refused
    return layers // among


def chunks_by_rank(layers: int, pp: int, vpp: int, split: PipelineSplit) -> tuple[int, ...] | None:
    try:
        return tuple(layers_built(layers, pp, vpp, split, i % pp, i // pp) for i in range(pp * vpp))
    except Refused:
        return None


@st.composite
def splits(draw: st.DrawFn) -> PipelineSplit:
    counts = st.one_of(st.none(), st.integers(-1, 12))
    if draw(st.booleans()):
        return PipelineSplit(first=draw(counts), last=draw(counts))
    return PipelineSplit(account_for_embedding=draw(st.booleans()), account_for_loss=draw(st.booleans()))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 24), st.integers(1, 6), st.integers(1, 4), splits())
def test_each_form_builds_what_megatron_builds(layers: int, pp: int, vpp: int, split: PipelineSplit) -> None:
    assert sizes_of_split(layers, pp, vpp, split) == chunks_by_rank(layers, pp, vpp, split)


def test_every_small_first_and_last_count() -> None:
    """Where forms come out is rare at random, so the small cases are taken one and all."""
    ends = [None, *range(1, 10)]
    found = 0
    for layers, pp, vpp, first, last in product(range(1, 13), range(1, 5), (1, 2, 3), ends, ends):
        split = PipelineSplit(first=first, last=last)
        expected = chunks_by_rank(layers, pp, vpp, split)
        assert sizes_of_split(layers, pp, vpp, split) == expected, (layers, pp, vpp, split)
        found += expected is not None
    assert found > 300


WORKED = [
    # layers, pp, vpp, split, sizes by chunk
    (32, 4, 1, PipelineSplit(), (8, 8, 8, 8)),
    (32, 4, 2, PipelineSplit(), (4,) * 8),
    (61, 16, 1, PipelineSplit(), None),
    (30, 4, 1, PipelineSplit(account_for_embedding=True, account_for_loss=True), (7, 8, 8, 7)),
    (31, 4, 2, PipelineSplit(account_for_loss=True), (4, 4, 4, 4, 4, 4, 4, 3)),
    (31, 4, 2, PipelineSplit(account_for_embedding=True), (3, 4, 4, 4, 4, 4, 4, 4)),
    (2, 2, 2, PipelineSplit(account_for_embedding=True, account_for_loss=True), (0, 1, 1, 0)),
    (6, 4, 2, PipelineSplit(account_for_embedding=True, account_for_loss=True), (0, 1, 1, 1, 1, 1, 1, 0)),
    (3, 1, 1, PipelineSplit(account_for_embedding=True, account_for_loss=True), (3,)),
    (32, 4, 1, PipelineSplit(first=7), None),
    (32, 4, 1, PipelineSplit(first=5), (5, 9, 9, 9)),
    (32, 4, 1, PipelineSplit(last=5), (9, 9, 9, 5)),
    (32, 4, 1, PipelineSplit(first=7, last=7), (7, 9, 9, 7)),
    (32, 4, 2, PipelineSplit(first=6, last=10), (3, 4, 4, 5, 3, 4, 4, 5)),
    (32, 4, 2, PipelineSplit(first=7, last=9), None),
    (12, 2, 1, PipelineSplit(first=5, last=7), (5, 7)),
    (12, 2, 1, PipelineSplit(first=5, last=6), None),
    (12, 3, 1, PipelineSplit(first=6, last=6), None),
    (12, 3, 1, PipelineSplit(first=0, last=4), None),
    (32, 3, 1, PipelineSplit(first=20, last=20), (20, -8, 20)),
]


@pytest.mark.parametrize(("layers", "pp", "vpp", "split", "sizes"), WORKED)
def test_worked_examples(layers: int, pp: int, vpp: int, split: PipelineSplit, sizes: tuple[int, ...] | None) -> None:
    assert sizes_of_split(layers, pp, vpp, split) == sizes


def test_negative_middle_stages_are_no_assignment() -> None:
    assert assignment_of(model(), 3, 1, PipelineSplit(first=20, last=20)) is None


@st.composite
def assignments(draw: st.DrawFn) -> tuple[ModelSpec, Assignment]:
    """Chunks of any size on up to five ranks; MTP layers stand at the end, or in a chunk of their own before the loss."""
    pp, vpp = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(0, 4), min_size=pp * vpp, max_size=pp * vpp).filter(any))
    spec = model(num_layers=sum(sizes), mtp_num_layers=draw(st.sampled_from([None, 1, 2])))
    assignment = from_sizes(spec, pp, tuple(sizes))
    if spec.mtp_layers and pp > 1 and sizes[-1] == 0 and draw(st.booleans()):
        chunks = list(assignment.chunks)
        chunks[-1] = chunks[-1]._replace(mtp=0)
        chunks[-2] = chunks[-2]._replace(mtp=spec.mtp_layers)
        assignment = Assignment(pp, tuple(chunks))
    return spec, assignment


@settings(max_examples=250, deadline=None, derandomize=True)
@given(assignments())
def test_the_simplest_form_says_the_same_assignment(made: tuple[ModelSpec, Assignment]) -> None:
    spec, assignment = made
    pp, vpp = assignment.pp, len(assignment.chunks) // assignment.pp
    assert assignment_of(spec, pp, vpp, simplest_split(spec, assignment)) == assignment


@settings(max_examples=250, deadline=None, derandomize=True)
@given(assignments())
def test_a_written_assignment_reads_as_itself(made: tuple[ModelSpec, Assignment]) -> None:
    spec, assignment = made
    vpp = len(assignment.chunks) // assignment.pp
    text = assignment.text()
    assert assignment_of(spec, assignment.pp, vpp, PipelineSplit(layout=text)) == assignment
    assert parse_layout(text) == tuple(chunk.tokens() for chunk in assignment.chunks)
    assert simplest_split_of_text(spec, assignment.pp, len(assignment.chunks), text) == simplest_split(spec, assignment)


@pytest.mark.parametrize("sizes", [(3, 4, 3), (3, 4), (4, 3), (4, 4, 3), (5, 2, 4)])
def test_a_hybrid_model_is_told_its_uneven_ends(sizes: tuple[int, ...]) -> None:
    """Counting embedding and loss as layers would say the first four too, and rules refuse that of a hybrid model."""
    spec = hybrid(("M*-" * sum(sizes))[: sum(sizes)])
    assignment = from_sizes(spec, len(sizes), sizes)
    split = simplest_split_of_text(spec, len(sizes), len(sizes), assignment.text())
    assert split is not None
    assert split.form == "first-last"
    assert assignment_of(spec, len(sizes), 1, split) == assignment


@settings(max_examples=250, deadline=None, derandomize=True)
@given(assignments())
def test_no_simpler_form_would_do(made: tuple[ModelSpec, Assignment]) -> None:
    """Even before account, account before first/last, and those only without virtual stages."""
    spec, assignment = made
    pp, vpp = assignment.pp, len(assignment.chunks) // assignment.pp
    counts = [None, *range(1, spec.num_layers + 1)]
    by_form = {
        "even": [PipelineSplit()],
        "account": [
            PipelineSplit(account_for_embedding=e, account_for_loss=loss)
            for e in (False, True)
            for loss in (False, True)
        ],
        "first-last": [PipelineSplit(first=f, last=last) for f in counts for last in counts] if vpp == 1 < pp else [],
    }
    chosen = simplest_split(spec, assignment).form
    for form, candidates in by_form.items():
        if form == chosen:
            return
        assert all(assignment_of(spec, pp, vpp, split) != assignment for split in candidates), form


def test_chunks_of_a_rank_are_its_virtual_stages() -> None:
    assignment = assignment_of(model(num_layers=12), 3, 2, PipelineSplit(layout="Et|tt|tt|ttt|ttt|tL"))
    assert assignment is not None
    assert [chunk.tokens() for chunk in assignment.of_rank(0)] == ["Et", "ttt"]
    assert [chunk.tokens() for chunk in assignment.of_rank(2)] == ["tt", "tL"]
    assert [assignment.layers_of_rank(rank) for rank in range(3)] == [4, 5, 3]
    assert [(c.start, c.stop) for c in assignment.chunks] == [(0, 1), (1, 3), (3, 5), (5, 8), (8, 11), (11, 12)]


def test_kinds_follow_the_layer_pattern_and_mtp_repeats_the_last_kind() -> None:
    spec = model(num_layers=6, num_moe_experts=8, moe_layer_freq=(0, 0, 1, 0, 1, 1), mtp_num_layers=2)
    assignment = assignment_of(spec, 2, 1, PipelineSplit())
    assert assignment is not None
    assert kinds_of(spec, assignment.chunks[0]) == {DENSE: 2, MOE: 1}
    assert kinds_of(spec, assignment.chunks[1]) == {DENSE: 1, MOE: 4}


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({"num_moe_experts": 8, "mtp_num_layers": 2, "mtp_dense": True}, {MOE: 4, DENSE: 2}),
        (
            {"num_moe_experts": 8, "hybrid_override_pattern": "*E*E/*E/*E", "mtp_num_layers": 2},
            {LayerKind("attention", "none"): 4, LayerKind("none", "moe"): 4},
        ),
    ],
)
def test_an_mtp_layer_is_what_the_model_says(fields: dict[str, object], kinds: dict[LayerKind, int]) -> None:
    spec = model(num_layers=4, **fields)
    assignment = assignment_of(spec, 1, 1, PipelineSplit())
    assert assignment is not None and kinds_of(spec, assignment.chunks[0]) == kinds


@pytest.mark.parametrize(
    "layout", ["Ett|ttL", "Et*4|t*3L", "Et*4|t*4|L", "Ex|tL", "E(t|", "Et*9|L"], ids=lambda text: str(text)
)
def test_a_layout_that_does_not_come_out_is_no_assignment(layout: str) -> None:
    assert assignment_of(model(num_layers=8), 2, 1, PipelineSplit(layout=layout)) is None
