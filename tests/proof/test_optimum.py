"""Certificates that no layout is better: bounds are sound, the best is the best, and what was tampered with is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from constraints.layout import Layout, PipelineSplit
from constraints.partition.search import best_partition
from constraints.problem import Problem
from constraints.refutation.certificate import (
    BadFile,
    Refuted,
    VerifiedOptimum,
    read_certificate,
    sealed,
    verify,
    written,
)
from constraints.refutation.encoding import digest
from constraints.refutation.objective import OBJECTIVES, no_less_than, value_of
from constraints.refutation.partial import Space
from constraints.refutation.tree import TooLarge, grow_optimum
from constraints.registry import enforced_rules
from solver.certificate import certified_optimum
from solver.idle import excluded
from solver.objectives import OBJECTIVES as THEIRS
from solver.request import Request
from solver.resolution import resolve
from solver.search import best_layouts
from tests.exploring import explore, in_parts
from tests.proof.test_bounds import random_box, random_layout
from tests.proof.test_mutants import nodes
from tests.strategies import problems

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
Certificate = dict[str, Any]

REQUESTS = {
    "time": Request(model="llama-3.1-8b", gpus=8, gpu="h100", global_batch_size=64),
    "free batch": Request(model="llama-3.2-1b", gpus=6, gpu="h100", objective="step-time"),
    "communication": Request(model="llama-3.1-8b", gpus=16, gpu="h100", objective="communication", pin=("pp=2",)),
    "memory": Request(
        model="qwen3-30b-a3b", gpus=16, gpu="h200", objective="memory", pin=("tp=2", "pp=2", "dp=4", "etp=1")
    ),
    "replicas": Request(model="llama-3.1-70b", gpus=32, gpu="h100", objective="data-parallel"),
    "idle": Request(
        model="llama-3.1-8b",
        gpus=17,
        gpu="h100",
        global_batch_size=64,
        pin=("tp=2", "cp=1", "pp=4"),
        allow_idle=True,
    ),
}


def best(problem: Problem) -> Layout:
    (layout,) = best_layouts(problem).layouts
    return layout


@cache
def original(name: str) -> str:
    problem = resolve(REQUESTS[name])
    if not problem.allow_idle:
        return written(certified_optimum(problem, best(problem)).certificate)
    used = replace(problem, gpus=problem.gpus - 1)
    larger = excluded(problem, [problem.gpus])
    assert larger is not None
    return written(certified_optimum(problem, best(used), larger).certificate)


def certificate(name: str) -> Certificate:
    return read_certificate(original(name))


def refused(mutant: Certificate) -> str:
    mutant["request_digest"] = digest(mutant["request"])
    with pytest.raises((Refuted, BadFile)) as error:
        verify(read_certificate(written(sealed(mutant))))
    return str(error.value)


# -- what it says is so


@pytest.mark.parametrize("name", REQUESTS)
def test_the_original_stands(name: str) -> None:
    done = verify(certificate(name))
    assert isinstance(done, VerifiedOptimum)
    used = replace(done.problem, gpus=done.layout.gpus)
    assert done.value == THEIRS[used.objective].measure(used, best(used))
    assert done.leaves["objective"] > 0
    assert done.fewer == ((17,) if name == "idle" else ())


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(problems(most_gpus=16), st.sampled_from(OBJECTIVES), st.integers(0, 2**32))
def test_a_bound_is_below_every_layout_of_its_box(problem: Problem, objective: str, seed: int) -> None:
    problem = replace(problem, objective=objective)
    rng, space = Random(seed), Space(problem)
    for _ in range(4):
        box = random_box(rng, space)
        values = []
        for _ in range(6):
            layout = random_layout(rng, space, box)
            if layout is not None:
                assert value_of(problem, layout) == THEIRS[objective].measure(problem, layout)
                if best_partition(problem, layout) is not None:  # of what does not fit nothing is said
                    values.append(value_of(problem, layout))
        assert not values or not no_less_than(space, box, min(values) + 1), (box, values)


def certify_random(examples: int, at_least: int, part: int = 0) -> None:
    done = 0

    def certifies(drawn: tuple[Problem, str]) -> None:
        nonlocal done
        problem = replace(drawn[0], objective=drawn[1])
        found = best_layouts(problem)
        assume(found.status == "optimal")
        try:
            said = verify(certified_optimum(problem, found.layouts[0]).certificate)
        except TooLarge:
            return
        assert isinstance(said, VerifiedOptimum)
        done += 1
        if not found.layouts[0].recompute.first:  # which is not among those that the tree excludes
            assert grow_optimum(enforced_rules(problem), Space(problem), said.value + 1) is None, "something is better"

    explore(st.tuples(problems(most_gpus=8), st.sampled_from(OBJECTIVES)), certifies, examples, part)
    assert done >= at_least


def test_what_the_solver_calls_best_is_certified() -> None:
    certify_random(12, 4)


@pytest.mark.heavy
@in_parts(4)
def test_what_the_solver_calls_best_is_certified_hundreds_of_times(part: int) -> None:
    certify_random(80, 40, part)


# -- what was tampered with


def tree(c: Certificate) -> Any:
    return c["optimum"]["tree"]


def leaves(c: Certificate, number: int) -> Iterator[list[Any]]:
    """Branches that end in that reason."""
    yield from (branch for node in nodes(tree(c)) for branch in node[1:] if branch[1] == number)


def objective_number(c: Certificate) -> int:
    return len(c["optimum"]["rules"])


def a_smaller_value(c: Certificate) -> None:
    c["optimum"]["value"] -= 1


def a_larger_value(c: Certificate) -> None:
    c["optimum"]["value"] += 1


def another_layout(c: Certificate) -> None:
    layout = c["optimum"]["layout"]
    layout["dp"] = 1 if layout["dp"] > 1 else 2


def drop_a_branch(c: Certificate) -> None:
    if isinstance(tree(c), int):
        c["optimum"]["tree"] = ["pp", [[1], 0]]
    else:
        tree(c).pop()


def drop_a_value(c: Certificate) -> None:
    branch = max((b for node in nodes(tree(c)) for b in node[1:]), key=lambda b: len(b[0]), default=None)
    if branch is None:
        c["optimum"]["tree"] = ["cp", [[1], 0]]
    else:
        branch[0].pop()


def all_by_the_objective(c: Certificate) -> None:
    c["optimum"]["value"] += 1
    c["optimum"]["tree"] = objective_number(c)


def a_rule_by_the_objective(c: Certificate) -> None:
    """Layouts that break a rule and would be better are said to be no better."""
    number = objective_number(c)
    for node in nodes(tree(c)):
        for branch in node[1:]:
            if isinstance(branch[1], int):
                branch[1] = number
    if isinstance(tree(c), int):
        c["optimum"]["value"] += 1


def the_objective_by_a_rule(c: Certificate) -> None:
    for branch in leaves(c, objective_number(c)):
        branch[1] = 0
    if isinstance(tree(c), int):
        c["optimum"]["tree"] = 0


def number_beyond_the_objective(c: Certificate) -> None:
    for branch in leaves(c, objective_number(c)):
        branch[1] += 1
    if isinstance(tree(c), int):
        c["optimum"]["tree"] += 1


def no_rules(c: Certificate) -> None:
    c["optimum"]["rules"] = ["mesh.world-dense", "mesh.world-dense"]


def an_unknown_rule(c: Certificate) -> None:
    c["optimum"]["rules"] = [*c["optimum"]["rules"], "mesh.made-up"]


def miscount(c: Certificate) -> None:
    c["optimum"]["leaves"]["objective"] += 1


def on_more_gpus(c: Certificate) -> None:
    c["optimum"]["gpus"] += 1


def on_fewer_gpus(c: Certificate) -> None:
    c["optimum"]["gpus"] -= 1


def of_another_objective(c: Certificate) -> None:
    others = [name for name in OBJECTIVES if name != c["request"]["objective"]]
    c["request"]["objective"] = others[0]


def of_a_larger_request(c: Certificate) -> None:
    c["request"]["gpus"] *= 2


def of_a_larger_machine(c: Certificate) -> None:
    """With more memory other layouts fit, or the same tree does not exclude what now does."""
    c["request"]["budget_bytes"] = 10**13
    c["optimum"]["layout"]["micro_batch_size"] = 1
    c["optimum"]["value"] = 10**12


def no_word_of_the_gpus_between(c: Certificate) -> None:
    c["optimum"]["gpus"] = min(c["optimum"]["gpus"], c["request"]["gpus"] - 1)
    c["fewer"] = None


MUTATIONS: tuple[Callable[[Certificate], None], ...] = (
    a_smaller_value,
    a_larger_value,
    another_layout,
    drop_a_branch,
    drop_a_value,
    all_by_the_objective,
    a_rule_by_the_objective,
    the_objective_by_a_rule,
    number_beyond_the_objective,
    no_rules,
    an_unknown_rule,
    miscount,
    on_more_gpus,
    on_fewer_gpus,
    of_another_objective,
    of_a_larger_request,
    of_a_larger_machine,
    no_word_of_the_gpus_between,
)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutant_is_refused(name: str, mutation: Callable[[Certificate], None]) -> None:
    mutant = certificate(name)
    mutation(mutant)
    assert refused(mutant)


def test_the_second_best_is_not_passed_off_as_the_best() -> None:
    """A layout that keeps every rule, with its true value, under the tree of the best one and under its own."""
    problem = resolve(REQUESTS["time"])
    second = best_layouts(problem, top=2).layouts[1]
    mutant = certificate("time")
    mutant["optimum"] |= {"value": value_of(problem, second), "layout": Space(problem).point(second)}
    assert "not shown to be no better" in refused(mutant)


def test_each_number_of_a_tree_counts() -> None:
    """Each value and each reason of a small tree, one after the other, is made another one."""
    text = json.dumps(tree(certificate("free batch")))
    for place, character in list(enumerate(text))[::7]:
        if character.isdigit():
            mutant = certificate("free batch")
            changed = text[:place] + str((int(character) + 1) % 10) + text[place + 1 :]
            try:
                mutant["optimum"]["tree"] = json.loads(changed)
            except ValueError:
                continue  # a number with a zero in front
            assert refused(mutant)


@pytest.mark.parametrize("count", [16, 18, 0, True, "17"])
def test_a_tree_for_another_count_of_gpus_is_refused(count: Any) -> None:
    mutant = certificate("idle")
    mutant["fewer"]["trees"][0][0] = count
    assert refused(mutant)


def test_a_tree_of_nothing_for_the_gpus_between_is_refused() -> None:
    for wrong in (0, ["pp", [[1], 0]], []):
        mutant = certificate("idle")
        mutant["fewer"]["trees"][0][1] = wrong
        assert refused(mutant)


def test_counts_that_are_no_business_of_the_request_are_refused() -> None:
    mutant = certificate("time")
    mutant["fewer"] = certificate("idle")["fewer"]
    assert refused(mutant)


def test_layers_placed_otherwise_than_the_best_way_are_refused() -> None:
    problem = resolve(REQUESTS["communication"])
    found = best(problem)
    by_hand = replace(found, split=PipelineSplit(first=15))
    space = Space(problem)
    assert space.layout(space.point(by_hand)) == by_hand
    mutant = certificate("communication")
    mutant["optimum"]["layout"]["pipeline"] = "Et*8|t*24L"
    assert refused(mutant)
