"""A report put to the test again: the named rules alone leave nothing, without any one of them something is left.

Held against brute force, which knows neither the solver nor the trees.
"""

from __future__ import annotations

import pytest

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.certificate import verify
from constraints.refutation.partial import Space
from constraints.registry import enforced_rules
from solver.refutation import Refutation, refutation_of
from tests import enumeration
from tests.exploring import in_parts
from tests.proof.problems import for_infeasible


def considered(space: Space, layout: Layout) -> bool:
    """False for what brute force makes beside the space: block recompute by count, no micro-batch, or one that does not
    divide the batch."""
    point = space.point(layout)
    return not layout.recompute.first and all(
        value in space.root[name] for name, value in point.items() if name != "group"
    )


def replayed(problem: Problem) -> Refutation:
    assert next(enumeration.legal(problem), None) is None, "brute force finds a layout"
    refutation = refutation_of(problem)
    assert refutation.explained
    space = Space(problem)
    candidates = [layout for layout in enumeration.candidates(problem) if considered(space, layout)]
    for explained in refutation.explained:
        rules = sorted(explained.minimal.rules, key=lambda rule: rule.id.startswith("memory"))
        assert not any(all(rule.holds(problem, layout) for rule in rules) for layout in candidates)
        for spared in rules:
            witness = explained.minimal.witnesses[spared.id]
            assert [rule.id for rule in rules if not rule.holds(problem, witness)] == [spared.id]
    for way in refutation.ways.ways:
        changed = way.changed.problem
        assert all(rule.holds(changed, way.layout) for rule in enforced_rules(changed)), way.text
    if refutation.certificate is not None:
        verify(refutation.certificate)
    return refutation


def replay(examples: int, at_least: int, part: int = 0) -> None:
    proofs: list[str] = []
    for_infeasible(
        examples, lambda p: proofs.append(replayed(p).proof.level), most_gpus=8, at_least=at_least, part=part
    )
    assert proofs.count("solver") <= 0.1 * len(proofs), proofs


def test_replay_of_random_requests() -> None:
    replay(8, 3)


@pytest.mark.heavy
@in_parts(4)
def test_replay_of_hundreds_of_random_requests(part: int) -> None:
    replay(125, 50, part)


def test_the_same_request_gets_the_same_report() -> None:
    def twice(problem: Problem) -> None:
        assert refutation_of(problem).to_mapping() == refutation_of(problem).to_mapping()

    for_infeasible(8, twice, most_gpus=8, at_least=2)


def test_no_false_blame() -> None:
    """Every value that is cited has its origin; every word that is blamed is one of the request's."""

    def blamed(problem: Problem) -> None:
        refutation = refutation_of(problem)
        for explained in refutation.explained:
            for step in explained.steps:
                assert set(step.values) <= set(step.origins)
                assert all(str(step.origins[name]) for name in step.values), step
        for word in refutation.blamed:
            assert str(word.origin)
        guilty = {rule.id for explained in refutation.explained for rule in explained.minimal.rules}
        assert len(refutation.innocent) <= sum(pin.id not in guilty for pin in problem.pins)

    for_infeasible(8, blamed, most_gpus=8, at_least=2)
