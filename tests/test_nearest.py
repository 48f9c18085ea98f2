"""The nearest legal layout is legal, fits, and no layout that brute force finds is nearer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from constraints.layout import Layout, PipelineSplit, Recompute
from constraints.problem import Problem
from constraints.registry import RULES
from constraints.rule import Stratum
from solver.nearest import nearest_legal
from solver.verdict import check
from tests.enumeration import candidates
from tests.rules.builders import layout, model, moe, problem
from tests.strategies import problems

BINDING = [rule for rule in RULES if rule.stratum in (Stratum.LAW, Stratum.FRAMEWORK) or rule.id == "memory.capacity"]


def changed(judged: Layout, found: Layout) -> tuple[int, float]:
    """(decisions that differ, how many doublings they differ by)."""
    names = ("tp", "pp", "vpp", "cp", "ep", "etp", "micro_batch_size")
    factors = [(getattr(found, name) or 1) / (getattr(judged, name) or 1) for name in names]
    others = (found.sequence_parallel != judged.sequence_parallel) + (found.recompute != judged.recompute)
    return sum(factor != 1 for factor in factors) + others, sum(abs(math.log2(factor)) for factor in factors)


def broken(asked: Problem, found: Layout) -> list[str]:
    return [rule.id for rule in BINDING if not rule.holds(asked, found)]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(asked=problems(most_gpus=8), data=st.data())
def test_no_layout_is_nearer(asked, data):
    asked = replace(asked, pins=(), global_batch_size=asked.global_batch_size or 48)
    everything = list(candidates(asked))
    assume(everything)
    judged = data.draw(st.sampled_from(everything))
    judged = replace(judged, vpp=None, split=PipelineSplit(), tp=data.draw(st.sampled_from([1, 2, 3, 4, 5, 8])))
    verdict = check(asked, judged)
    assume(not (verdict.legal and verdict.fits))
    legal = [other for other in everything if all(rule.holds(asked, other) for rule in BINDING)]  # memory is last
    found = nearest_legal(verdict)
    if not legal:
        assert found is None or found.answer.layout.global_batch_size != judged.global_batch_size or verdict.violations
        return
    assert found is not None
    answer = found.answer.layout
    assert broken(asked, answer) == []
    assert answer.global_batch_size == judged.global_batch_size
    count, distance = changed(judged, answer)
    best = min(changed(judged, other) for other in legal)
    assert (count, distance) <= (best[0], best[1] + 0.5), (answer, best)


def nearest(asked: Problem, judged: Layout) -> dict[str, tuple[object, object]]:
    found = nearest_legal(check(asked, judged))
    assert found is not None
    return {name: (was, now) for name, was, now in found.changes}


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
            ["sequence_parallel false -> true"],
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
            ["split Et*3|tL -> even"],
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
