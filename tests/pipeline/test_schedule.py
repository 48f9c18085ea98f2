"""Micro-batches in flight, against a replay of Megatron's schedules, forward by forward and backward by backward.

The replay knows nothing of counts: it keeps the set of (micro-batch, chunk) whose activations are alive and looks at it
whenever it is largest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from operator import mul

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import PipelineSplit
from constraints.pipeline.assignment import assignment_of, from_sizes
from constraints.pipeline.profile import Stage, fullest_candidates, slowest_candidates, stages_of
from constraints.pipeline.schedule import STEADY_GROUPS, chunks_alive, in_flight
from models_catalog.schema import LayerKind, ModelSpec
from tests.rules.builders import model

Step = tuple[str, int, int]
"""("forward" or "backward", micro-batch, chunk)"""


def one_forward_one_backward(pp: int, microbatches: int, rank: int) -> Iterator[Step]:
    """Warm-up: one forward for every rank behind; steady: one forward, one backward; cool-down: what is left."""
    warm_up = min(pp - rank - 1, microbatches)
    for i in range(warm_up):
        yield "forward", i, 0
    for i in range(microbatches - warm_up):
        yield "forward", warm_up + i, 0
        yield "backward", i, 0
    for i in range(microbatches - warm_up, microbatches):
        yield "backward", i, 0


def interleaved(pp: int, vpp: int, group: int, microbatches: int, rank: int) -> Iterator[Step]:
    """``group`` micro-batches through chunk 0, the same through chunk 1 ...; backward in the same order, last chunk first."""
    table = [
        (microbatch, chunk)
        for first in range(0, microbatches, group)
        for chunk in range(vpp)
        for microbatch in range(first, min(first + group, microbatches))
    ]
    warm_up = min(2 * (pp - rank - 1) + (vpp - 1) * group, len(table))
    steady = len(table) - warm_up
    for i in range(warm_up):
        yield "forward", *table[i]
    for i in range(steady):
        yield "forward", *table[warm_up + i]
        yield "backward", table[i][0], vpp - 1 - table[i][1]
    for i in range(steady, len(table)):
        yield "backward", table[i][0], vpp - 1 - table[i][1]


def fullest(steps: Iterator[Step], chunks: int) -> tuple[int, set[tuple[int, ...]]]:
    """The most activations alive at once, and every way in which they lie over the chunks at such moments."""
    alive: set[tuple[int, int]] = set()
    most, states = 0, set[tuple[int, ...]]()
    for what, microbatch, chunk in steps:
        if what == "backward":
            alive.remove((microbatch, chunk))  # a KeyError if backward ever came before forward
            continue
        assert (microbatch, chunk) not in alive
        alive.add((microbatch, chunk))
        if len(alive) > most:
            most, states = len(alive), set()
        if len(alive) == most:
            per_chunk = Counter(chunk for _, chunk in alive)
            states.add(tuple(per_chunk[i] for i in range(chunks)))
    assert not alive, "every forward has its backward"
    return most, states


@st.composite
def interleavings(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """(pp, vpp, group, microbatches, rank) that Megatron accepts, whole groups."""
    pp, vpp = draw(st.integers(2, 8)), draw(st.integers(1, 6))
    group = draw(st.one_of(st.just(pp), st.integers(pp, 2 * pp + 3)))
    return pp, vpp, group, group * draw(st.integers(1, 7)), draw(st.integers(0, pp - 1))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 40), st.data())
def test_1f1b_keeps_as_many_as_ranks_follow_and_one(pp: int, microbatches: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, pp - 1))
    most, states = fullest(one_forward_one_backward(pp, microbatches, rank), 1)
    assert most == min(pp - rank, microbatches)
    assert states == {(most,)}
    (stage,) = [s for s in stages(model(num_layers=pp), pp, None, microbatches) if s.rank == rank]
    assert stage.most_copies is not None
    assert min(stage.most_copies, microbatches) == most


@settings(max_examples=400, deadline=None, derandomize=True)
@given(interleavings())
def test_interleaved_counts_are_those_of_the_replay(made: tuple[int, int, int, int, int]) -> None:
    pp, vpp, group, microbatches, rank = made
    most, states = fullest(interleaved(pp, vpp, group, microbatches, rank), vpp)
    assert chunks_alive(pp, vpp, group, microbatches, rank) == most
    assert in_flight(pp, vpp, group, microbatches, rank) == states


@settings(max_examples=200, deadline=None, derandomize=True)
@given(interleavings(), st.data())
def test_a_short_last_group_counts_too(made: tuple[int, int, int, int, int], data: st.DataObject) -> None:
    """Megatron takes a remainder of at least pp; below two groups the states are exact, beyond them the total is."""
    pp, vpp, group, microbatches, rank = made
    if group > pp:
        microbatches += data.draw(st.integers(pp, group - 1))
    most, states = fullest(interleaved(pp, vpp, group, microbatches, rank), vpp)
    assert chunks_alive(pp, vpp, group, microbatches, rank) == most
    if microbatches < STEADY_GROUPS * group:
        assert in_flight(pp, vpp, group, microbatches, rank) == states


WORKED = [
    # pp, vpp, group, microbatches, rank, chunk activations alive
    (4, 1, 4, 8, 0, 7),
    (4, 2, 4, 16, 0, 11),
    (4, 2, 4, 16, 3, 5),
    (4, 2, 4, 4, 0, 8),
    (4, 8, 4, 16, 3, 29),
    (4, 8, 4, 16, 0, 35),
    (8, 5, 8, 64, 0, 47),
    (4, 2, 6, 12, 0, 13),
]


@pytest.mark.parametrize(("pp", "vpp", "group", "microbatches", "rank", "alive"), WORKED)
def test_worked_examples(pp: int, vpp: int, group: int, microbatches: int, rank: int, alive: int) -> None:
    """Warm-up 2 (pp - rank - 1) + (vpp - 1) group, one more forward, at most everything there is."""
    assert chunks_alive(pp, vpp, group, microbatches, rank) == alive
    assert fullest(interleaved(pp, vpp, group, microbatches, rank), vpp)[0] == alive


@pytest.mark.parametrize(("pp", "vpp"), [(2, 2), (4, 2), (4, 5), (8, 3), (16, 4)])
def test_the_first_rank_pays_the_interleaving_penalty(pp: int, vpp: int) -> None:
    """In stages: pp * (1 + (pp - 1) / (pp * vpp)), which is (pp * vpp + pp - 1) / vpp."""
    assert chunks_alive(pp, vpp, pp, 8 * pp, 0) == pp * vpp + pp - 1


@pytest.mark.parametrize(("pp", "vpp"), [(2, 2), (4, 8), (8, 3)])
def test_later_ranks_hold_less_and_the_last_still_holds_all_but_one_chunk(pp: int, vpp: int) -> None:
    alive = [chunks_alive(pp, vpp, pp, 8 * pp, rank) for rank in range(pp)]
    assert alive == sorted(alive, reverse=True)
    assert alive[-1] == (vpp - 1) * pp + 1


# -- stages: the same counts, weighed by what the chunks hold


def stages(spec: ModelSpec, pp: int, vpp: int | None, microbatches: int, group: int | None = None) -> tuple[Stage, ...]:
    assignment = assignment_of(spec, pp, vpp or 1, PipelineSplit())
    assert assignment is not None
    return stages_of(spec, assignment, vpp, group or pp, microbatches)


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[ModelSpec, int, int, int, int, tuple[int, ...]]:
    """(model, pp, vpp, group, microbatches, chunk sizes): uneven chunks of dense and MoE layers, some empty."""
    pp, vpp = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(0, 3), min_size=pp * vpp, max_size=pp * vpp).filter(any))
    layers = sum(sizes)
    pattern = tuple(draw(st.lists(st.sampled_from([0, 1]), min_size=layers, max_size=layers)))
    spec = model(
        num_layers=layers,
        num_moe_experts=draw(st.sampled_from([None, 8])),
        moe_layer_freq=pattern,
        mtp_num_layers=draw(st.sampled_from([None, 1])),
    )
    group = draw(st.integers(pp, 2 * pp))
    return spec, pp, vpp, group, group * draw(st.integers(1, 4)), tuple(sizes)


def layers_alive(spec: ModelSpec, chunk_layers: list[list[LayerKind]], state: tuple[int, ...]) -> Counter[LayerKind]:
    alive: Counter[LayerKind] = Counter()
    for kinds, copies in zip(chunk_layers, state, strict=True):
        for kind in kinds:
            alive[kind] += copies
    return +alive


@settings(max_examples=250, deadline=None, derandomize=True)
@given(pipelines())
def test_stages_are_the_replays_fullest_states_that_no_other_covers(
    made: tuple[ModelSpec, int, int, int, int, tuple[int, ...]],
) -> None:
    spec, pp, vpp, group, microbatches, sizes = made
    assignment = from_sizes(spec, pp, sizes)
    found = stages_of(spec, assignment, vpp, group, microbatches)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    chunk_kinds = [list(spec.layer_kinds[start : start + n]) for start, n in zip(starts, sizes, strict=True)]
    chunk_kinds[-1] += [spec.layer_kinds[-1]] * spec.mtp_layers
    for rank in range(pp):
        mine = chunk_kinds[rank::pp]
        _, states = fullest(interleaved(pp, vpp, group, microbatches, rank), vpp)
        mtp = [bool(spec.mtp_layers and chunk is chunk_kinds[-1]) for chunk in mine]
        replayed = [
            layers_alive(spec, mine, state) + Counter(mtp=sum(map(mul, mtp, state), start=0)) for state in states
        ]
        kept = [Counter(dict(s.live)) + Counter(mtp=s.mtp_live) for s in found if s.rank == rank]
        assert all(alive in replayed for alive in kept)
        assert all(any(alive <= other for other in kept) for alive in replayed)
        assert not any(one < other for one in kept for other in kept)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pipelines())
def test_every_layer_and_end_is_stored_once(made: tuple[ModelSpec, int, int, int, int, tuple[int, ...]]) -> None:
    spec, pp, vpp, group, microbatches, sizes = made
    found = {s.rank: s for s in stages_of(spec, from_sizes(spec, pp, sizes), vpp, group, microbatches)}
    stored: Counter[LayerKind] = Counter()
    for stage in found.values():
        stored.update(dict(stage.layers))
    assert stored == Counter(spec.layer_kinds) + Counter({spec.layer_kinds[-1]: spec.mtp_layers})
    assert [rank for rank, stage in found.items() if stage.embedding] == [0]
    assert [rank for rank, stage in found.items() if stage.loss] == [pp - 1]
    assert sum(stage.heads for stage in found.values()) == 1 + spec.mtp_layers
    # each of the pp * vpp - 1 boundaries has a sender and a receiver
    assert sum(stage.boundaries for stage in found.values()) == 2 * (pp * vpp - 1)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(pipelines())
def test_no_stage_that_could_be_the_fullest_is_dropped(
    made: tuple[ModelSpec, int, int, int, int, tuple[int, ...]],
) -> None:
    """Whatever non-negative weights the counts get, the heaviest of all stages is among the candidates."""
    spec, pp, vpp, group, microbatches, sizes = made
    found = stages_of(spec, from_sizes(spec, pp, sizes), vpp, group, microbatches)
    for kept, counts in ((fullest_candidates(found), "held"), (slowest_candidates(found), "worked")):
        assert set(kept) <= set(found)
        keys = sorted({key for stage in found for key in getattr(stage, counts)}, key=str)
        for weights in ([1] * len(keys), range(len(keys)), [3**n % 7 for n in range(len(keys))]):
            by_key = dict(zip(keys, weights, strict=True))

            def weigh(stage: Stage, counts: str = counts, by_key: dict[object, int] = by_key) -> int:
                return sum(by_key[key] * n for key, n in getattr(stage, counts).items())

            assert max(map(weigh, kept)) == max(map(weigh, found)), (counts, weights)
