"""How full recompute goes, pinned: what ``solve`` finds is what brute force finds, and what is impossible names the pin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest

from constraints.arithmetic import Integers
from constraints.errors import RequestError
from constraints.layout import WHOLE_LAYERS, Layout
from constraints.memory.activations import stage_input_bytes
from constraints.memory.budget import memory_report
from constraints.pins import Pin, PinCount, PinRecompute
from constraints.problem import Origin, Problem
from constraints.refutation.certificate import Refuted
from constraints.refutation.encoding import decoded, encoded
from constraints.refutation.optimum import verified_optimum
from constraints.refutation.partial import Space
from constraints.refutation.tree import TooLarge, grow
from constraints.registry import enforced_rules
from models_catalog.loader import load_model
from solver.objectives import OBJECTIVES
from solver.pareto import pareto_layouts
from solver.pinned import refuse_impossible_counts
from solver.refutation import refutation_of
from solver.search import best_layouts
from solver.synthesis import solve_problem
from solver.tie_breaks import tie_break_key
from solver.usable import largest_usable
from tests import enumeration
from tests.exploring import explore, in_parts
from tests.short_of_memory import CASES, asked, deep
from tests.strategies import problems

Words = tuple[str | int, ...]
BLOCK, UNIFORM = ("block",), ("uniform",)
WORDS: tuple[Words, ...] = (
    BLOCK,
    UNIFORM,
    (1,),
    (2,),
    (3,),
    ("block", 2),
    ("block", 7),
    ("uniform", 2),
    ("uniform", 1),
)
"""A method, a number of layers, or both."""


def with_words(problem: Problem, words: Words, **changes: object) -> Problem:
    origin = Origin("flag", "--pin")
    pins = tuple(PinCount("num_layers" if isinstance(word, int) else "method", word, origin) for word in words)
    return replace(problem, pins=(*problem.pins, *pins), **changes)


def agrees(problem: Problem) -> Layout | None:
    """What the search finds is as good as what brute force does."""
    expected, found = enumeration.best(problem), best_layouts(problem, seconds=600).layouts
    assert (expected is None) == (not found)
    if expected is None:
        return None
    measure = OBJECTIVES[problem.objective].measure
    assert measure(problem, found[0]) == measure(problem, expected)
    assert tie_break_key(problem, found[0]) == tie_break_key(problem, expected)
    return found[0]


PINNED = [
    with_words(problem, WORDS[i % len(WORDS)], objective=(*OBJECTIVES, "step-time")[i % 5])
    for i, problem in enumerate([*CASES, *CASES[::-1], *CASES[1:], *CASES[3:]])
    if not (problem.model.mtp_layers and WORDS[i % len(WORDS)] == ("uniform", 2))
]


@pytest.mark.parametrize("number", range(len(PINNED)))
def test_solve_agrees_with_brute_force(number: int) -> None:
    agrees(PINNED[number])


def test_some_are_blocks_some_groups_and_some_impossible() -> None:
    found = [best_layouts(problem, seconds=600).layouts for problem in PINNED]
    chosen = [layouts[0].recompute for layouts in found if layouts]
    assert all(recompute.is_full for recompute in chosen)
    assert min(sum(r.first > 0 for r in chosen), sum(r.group > 1 for r in chosen)) >= 8
    assert len(chosen) <= len(found) - 4


def grown(problem: Problem) -> object:
    """A tree that excludes everything, if there is one that is not too large."""
    try:
        return grow(enforced_rules(problem), Space(problem))
    except TooLarge:
        return None


@pytest.mark.heavy
@pytest.mark.parametrize("number", range(0, len(PINNED), 2))
def test_what_is_impossible_is_explained_and_has_a_tree_unless_that_is_too_large(number: int) -> None:
    problem = PINNED[number]
    if best_layouts(problem, seconds=600).layouts:
        assert grown(problem) is None
    else:
        assert refutation_of(problem).core


@pytest.mark.parametrize("budget", [26, 28, 34])
@pytest.mark.parametrize("words", [("block", 7), ("block", 6), BLOCK, (2,), UNIFORM])
def test_a_tree_excludes_everything_where_brute_force_finds_no_layout(budget: float, words: Words) -> None:
    """On one or two GPUs a block of seven of eight layers fits in 28 GiB, one of six and groups of two in 34."""
    problem = with_words(asked(budget, pins={"pp": 1}), words)
    possible = budget == 34 or (budget == 28 and words not in (("block", 6), (2,)))
    assert (enumeration.best(problem) is not None) == possible
    assert (grow(enforced_rules(problem), Space(problem)) is None) == possible


def test_a_block_holds_no_less_than_every_layer_by_itself_but_for_an_input() -> None:
    """So that it can stand for blocks where bounds are asked."""
    seen = 0
    for problem in CASES:
        accept = enumeration.Rules(problem).accept
        for layout in islice(enumeration.candidates(problem), 0, None, 17):
            if layout.recompute.first and accept(layout):
                alone = replace(layout, recompute=WHOLE_LAYERS)
                least = memory_report(problem, alone).allocated_bytes - memory_report(problem, layout).allocated_bytes
                assert least <= stage_input_bytes(Integers(), problem, layout)
                seen += 1
    assert seen >= 100


def visit(problem: Problem, words: Sequence[Words] = WORDS) -> None:
    """A random problem with each of the words that it can have."""
    for word in words:
        asked_for = with_words(problem, word)
        try:
            refuse_impossible_counts(asked_for)
        except RequestError:
            assert enumeration.best(asked_for) is None
        else:
            found = agrees(asked_for)
            assert found is None or grown(asked_for) is None
            assert found is not None or refutation_of(asked_for).core


def test_solve_agrees_with_brute_force_on_random_problems() -> None:
    explore(problems(most_gpus=8), lambda problem: visit(problem, (BLOCK, (2,))), 8)


@pytest.mark.heavy
@in_parts(2)
def test_solve_agrees_with_brute_force_on_many_problems(part: int) -> None:
    explore(problems(most_gpus=8), visit, 20, part)


@pytest.mark.parametrize("words", [BLOCK, UNIFORM, (2,)])
def test_the_few_best_and_the_front_are_those_of_brute_force(words: Words) -> None:
    problem = with_words(asked(36, pins={"pp": 1}), words)
    time, memory = OBJECTIVES["step-time"].measure, OBJECTIVES["memory"].measure
    legal = list(enumeration.legal(problem))
    found = best_layouts(problem, top=4, seconds=600).layouts
    expected = sorted({(time(problem, x), tie_break_key(problem, x)) for x in legal})[:4]
    assert [(time(problem, x), tie_break_key(problem, x)) for x in found] == expected
    points = sorted({(time(problem, x), memory(problem, x)) for x in legal})
    front = [point for i, point in enumerate(points) if all(point[1] < before[1] for before in points[:i])]
    on_front = pareto_layouts(problem, most=None, seconds=600).layouts
    assert [(time(problem, x), memory(problem, x)) for x in on_front] == front


def test_a_count_is_usable_if_only_what_is_asked_for_fits_there() -> None:
    problem = with_words(asked(36), ("block", 7))
    assert largest_usable(problem, 2) == 2


def on_chunks(words: Words, **pins: int) -> Problem:
    """Eight layers on sixteen GPUs that hold anything."""
    return with_words(asked(800, 16, pins=pins), words)


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("block", 3), "--pin vpp=null --pin recompute_num_layers=1"),
        (("uniform", 3), "--pin recompute_num_layers=1"),
        ((3,), "without --pin recompute_num_layers=3"),
    ],
)
def test_a_count_that_no_chunk_holds_is_named_with_its_rule_and_a_way_out(words: Words, way: str) -> None:
    """Chunks have one layer: groups of one do, and a block of one where there are no virtual stages."""
    problem = on_chunks(words, pp=4, vpp=2)
    report = solve_problem(problem)
    assert report.status == "infeasible" and report.refutation is not None
    core = {rule.id for rule in report.refutation.core}
    assert {"pin.recompute_num_layers", "pin.pp"} <= core
    assert core & {"recompute.block-leaves-some", "recompute.group-in-chunk"}
    assert report.refutation.certificate is not None and report.refutation.proof.level == "exhaustive"
    assert [found.text for found in report.refutation.ways.ways].count(way) == 1


def test_where_memory_is_the_reason_a_block_is_told_to_be_smaller_or_left() -> None:
    problem = with_words(asked(28, pins={"pp": 1}), ("block", 1))
    assert best_layouts(problem).status == "infeasible"
    refutation = refutation_of(problem)
    core = {rule.id for rule in refutation.core}
    assert {"memory.capacity", "pin.recompute_num_layers"} <= core
    assert any("recompute_num_layers=" in way.text for way in refutation.ways.ways)


def test_what_is_impossible_without_the_words_is_certified_as_before() -> None:
    refutation = refutation_of(with_words(deep(13, pp=1), ("uniform", 4)))
    assert refutation.certificate is not None
    assert not {rule.id for rule in refutation.core} & {"pin.recompute_method", "pin.recompute_num_layers"}


def test_no_optimum_is_certified_where_a_count_is_asked_for() -> None:
    """It leaves blocks aside, which may be all that there is."""
    problem = with_words(asked(36), BLOCK)
    keys = ("value", "layout", "gpus", "rules", "tree", "leaves")
    with pytest.raises(Refuted, match="leaves aside"):
        verified_optimum(problem, dict.fromkeys(keys, 1), None)


@pytest.mark.parametrize("words", WORDS)
def test_the_words_are_written_and_read_back(words: Words) -> None:
    problem = with_words(asked(36), words)
    assert [(type(pin), vars(pin)["text"]) for pin in decoded(encoded(problem)).pins] == [
        (type(pin), vars(pin)["text"]) for pin in problem.pins
    ]


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("gemma-3-27b", (1000,), "more than the 62 layers"),
        ("deepseek-v3", ("uniform", 2), "one by one only"),
        ("llama-3.1-8b", ("block", 32), "is every layer"),
        ("nemotron-h-8b", BLOCK, "alternate"),
        ("nemotron-h-8b", (2,), "alternate"),
    ],
)
def test_what_no_degrees_can_mend_is_bad_input(name: str, words: Words, said: str) -> None:
    problem = with_words(replace(asked(36), model=load_model(name)), words)
    with pytest.raises(RequestError, match=said):
        refuse_impossible_counts(problem)


def test_words_that_recompute_nothing_by_count_leave_everything_as_it_was() -> None:
    problem = replace(
        asked(36), pins=(PinRecompute("full", Origin("flag", "")), Pin("pp", "pp", 1, Origin("flag", "")))
    )
    assert not problem.counts_asked
    refuse_impossible_counts(problem)
