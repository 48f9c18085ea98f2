"""The nearest legal layout is legal, fits, and no layout that brute force finds is nearer, or as near and faster."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from constraints.layout import NO_RECOMPUTE, Layout, PipelineSplit, Recompute
from constraints.problem import Origin, Problem
from constraints.registry import RULES
from constraints.rule import Stratum
from constraints.timing.step import step_time
from solver.changes import Change
from solver.nearest import nearest_legal
from solver.single_changes import single_changes
from solver.verdict import Verdict, check
from tests.enumeration import candidates
from tests.rules.builders import FULL, layout, model, moe, problem, selective
from tests.strategies import problems

BINDING = [rule for rule in RULES if rule.stratum in (Stratum.LAW, Stratum.FRAMEWORK) or rule.id == "memory.capacity"]
MOST_CANDIDATES = 5_000
DEGREES = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size", "sequence_parallel", "recompute")


def changed(judged: Layout, found: Layout) -> list[str]:
    """The degrees that differ; sequence parallelism goes by itself where there is one tensor rank."""
    differing = [name for name in DEGREES if _value(found, name) != _value(judged, name)]
    return [name for name in differing if name != "sequence_parallel" or found.tp > 1]


def _value(x: Layout, name: str) -> object:
    return x.vpp or 1 if name == "vpp" else getattr(x, name)


def kept(asked: Problem, found: Layout, judged: Layout) -> Layout:
    """``found`` with the split of ``judged`` where that is legal."""
    own = replace(found, split=judged.split)
    return own if legal_and_fits(asked, own) else found


def legal_and_fits(asked: Problem, found: Layout) -> bool:
    return all(rule.holds(asked, found) for rule in BINDING if rule.in_force(asked.megatron))


def illegal(asked: Problem, data: st.DataObject) -> tuple[Verdict, list[Layout]]:
    """A layout of the problem that is illegal or too large, and all others, legal or not."""
    without_counting = (layout for layout in candidates(asked) if not layout.recompute.by_chunk)
    everything = list(islice(without_counting, MOST_CANDIDATES + 1))
    assume(0 < len(everything) <= MOST_CANDIDATES)
    judged = everything[data.draw(st.integers(0, len(everything) - 1))]
    judged = replace(judged, vpp=None, split=PipelineSplit(), tp=data.draw(st.sampled_from([1, 2, 3, 4, 5, 8])))
    judged = replace(judged, sequence_parallel=judged.sequence_parallel and judged.tp > 1)  # as it is read
    verdict = check(asked, judged)
    assume(not (verdict.legal and verdict.fits))
    return verdict, everything


each_problem = given(asked=problems(most_gpus=8), data=st.data())
quick = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])


@quick
@each_problem
def test_no_layout_is_nearer_or_as_near_and_faster(asked, data):
    asked = replace(asked, pins=(), global_batch_size=asked.global_batch_size or 48)
    verdict, everything = illegal(asked, data)
    judged, found = verdict.layout, nearest_legal(verdict)
    legal: list[Layout] = []
    for count in range(len(DEGREES) + 1):
        legal = [x for x in everything if len(changed(judged, x)) == count and legal_and_fits(asked, x)]
        if legal:
            break
    if not legal:
        assert found is None or found.answer.layout.global_batch_size != judged.global_batch_size or verdict.violations
        return
    assert found is not None
    answer = found.answer.layout
    assert legal_and_fits(asked, answer)
    assert answer.global_batch_size == judged.global_batch_size
    assert len(changed(judged, answer)) <= count
    if len(changed(judged, answer)) == count:  # the judged split, which brute force does not know, may need fewer
        times = [step_time(asked, kept(asked, x, judged)).step_ns for x in legal]
        assert step_time(asked, answer).step_ns <= min(times)


@quick
@each_problem
def test_single_changes_are_all_of_them(asked, data):
    asked = replace(asked, pins=(), global_batch_size=asked.global_batch_size or 48)
    verdict, everything = illegal(asked, data)
    judged, found = verdict.layout, single_changes(verdict)
    for one in found:
        assert legal_and_fits(replace(asked, global_batch_size=one.layout.global_batch_size), one.layout)
        assert changed(judged, one.layout) in ([one.change.name], [])
    near = [replace(x, split=judged.split) for x in everything if len(changed(judged, x)) == 1]
    alone = {_degrees(x) for x in near if legal_and_fits(asked, x)}
    assert alone <= {_degrees(one.layout) for one in found}


def _degrees(x: Layout) -> tuple[object, ...]:
    return tuple(_value(x, name) for name in DEGREES)


def nearest(asked: Problem, judged: Layout) -> dict[str, tuple[object, object]]:
    found = nearest_legal(check(asked, judged))
    assert found is not None
    return {change.name: (change.was, change.now) for change in found.changes}


def test_a_batch_that_cannot_be_kept_moves_least():
    asked = problem(model(num_layers=2), gpus=7, global_batch_size=5)
    judged = layout(gpus=7, global_batch_size=5, num_microbatches=0)
    assert nearest(asked, judged) == {"global_batch_size": (5, 7)}


def test_a_switch_that_forbids_everything_goes():
    asked = problem(model(), seq_length=8192)
    judged = layout(num_distributed_optimizer_instances=3, global_batch_size=64, num_microbatches=1)
    changes = nearest(replace(asked, settings=judged.settings), judged)
    assert changes["num_distributed_optimizer_instances"] == (3, 1)


def test_what_is_recomputed_stays_where_it_can():
    own = Recompute("full", "block", 3)
    judged = layout(tp=3, recompute=own, global_batch_size=64, num_microbatches=1, dp=21)
    changes = nearest(problem(model(), global_batch_size=64), judged)
    assert "recompute" not in changes and "tp" in changes


def test_a_split_that_still_fits_stays():
    own = PipelineSplit(first=7, last=9)
    judged = layout(tp=3, pp=4, dp=5, split=own, global_batch_size=64, num_microbatches=1)
    found = nearest_legal(check(problem(model()), judged))
    assert found is not None and found.answer.layout.split == own


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        (
            layout(tp=4, ep=8, edp=8, etp=1, dp=16, global_batch_size=64, num_microbatches=4),
            ["tp 4 -> 1"],
        ),
        (
            layout(
                tp=4,
                pp=4,
                dp=4,
                sequence_parallel=True,
                global_batch_size=64,
                num_microbatches=16,
                split=PipelineSplit(layout="Et*3|tL"),
            ),
            ["split Et*3|tL -> Et*8|t*8|t*9|t*7L"],
        ),
    ],
)
def test_changes_are_said_in_words(judged, words):
    spec = moe() if judged.ep > 1 else model()
    found = nearest_legal(check(problem(spec, seq_length=4096), judged))
    assert found is not None and found.words == words


def test_nothing_is_offered_where_nothing_is_legal():
    judged = layout(gpus=1, tp=2, dp=1, edp=1, global_batch_size=1, num_microbatches=1)
    asked = problem(model(num_layers=400), gpus=1, budget_bytes=1)
    found = nearest_legal(check(asked, judged))
    assert found is None or found.answer.memory.verdict == "does not fit"


def test_absurd_numbers_find_nothing_and_do_not_fail():
    judged = layout(tp=10**7, cp=10**7, dp=1, micro_batch_size=10**7, global_batch_size=1, num_microbatches=0)
    nearest_legal(check(problem(model(), seq_length=10**8), judged))


def alone(asked: Problem, judged: Layout) -> list[str]:
    return [one.change.typed for one in single_changes(check(asked, judged))]


def test_a_single_change_is_said_as_it_is_typed():
    judged = layout(tp=2, dp=32, micro_batch_size=3, global_batch_size=64, num_microbatches=0)
    assert alone(problem(model(), global_batch_size=64), judged) == ["mbs=2", "mbs=1"]


def test_the_fastest_single_change_comes_first():
    judged = layout(tp=5, dp=12, global_batch_size=64, num_microbatches=5)
    asked = problem(model(), global_batch_size=64)
    found = single_changes(check(asked, judged))
    assert [one.step_ns for one in found] == sorted(one.step_ns for one in found)
    assert {one.change.name for one in found} == {"tp"}


def test_a_degree_that_the_others_leave_can_be_the_only_mistake():
    judged = layout(tp=2, dp=16, global_batch_size=64, num_microbatches=4)
    asked = problem(model(), global_batch_size=64, origins={"dp": Origin("layout", "dp=16")})
    assert set(alone(asked, judged)) == {"dp=32", "tp=4", "cp=2", "pp=2"}
    assert nearest(asked, judged) == {"dp": (16, 32)}


def test_nothing_alone_mends_two_mistakes():
    judged = layout(tp=3, cp=3, dp=7, global_batch_size=64, num_microbatches=9)
    assert alone(problem(model(), global_batch_size=64), judged) == []


def test_rules_of_another_generation_do_not_count():
    """Sequence parallelism with tp = 1 is a mistake where Bridge does not drop it."""
    judged = layout(sequence_parallel=True, recompute=FULL, global_batch_size=64, num_microbatches=1)
    asked = problem(model(), global_batch_size=64, seq_length=4096, megatron="0.16")
    assert "sp=false" in alone(asked, judged)


@pytest.mark.parametrize(
    ("change", "typed"),
    [
        (Change("tp", 8, 4), "tp=4"),
        (Change("vpp", 2, None), "vpp=null"),
        (Change("sequence_parallel", False, True), "sp=true"),
        (Change("recompute", NO_RECOMPUTE, FULL), "recompute=full"),
        (Change("recompute", FULL, NO_RECOMPUTE), "recompute=none"),
        (Change("recompute", NO_RECOMPUTE, selective("moe", "mlp")), "recompute_modules=moe,mlp"),
        (Change("split", PipelineSplit(), PipelineSplit(first=3, last=4)), "first=3 last=4"),
        (Change("split", PipelineSplit(), PipelineSplit(account_for_loss=True)), "account_for_loss=true"),
        (Change("split", PipelineSplit(), PipelineSplit(layout="Et*2|tL")), "layout=Et*2|tL"),
        (Change("split", PipelineSplit(first=3), PipelineSplit()), "an even split"),
    ],
)
def test_each_change_is_said_in_words_that_check_reads(change, typed):
    assert change.typed == typed
