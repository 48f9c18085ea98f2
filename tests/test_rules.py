"""What holds for every rule, present and future, and for the user's own words as rules.

One property: over random problems, what a rule posts admits exactly the layouts for which it holds, and it has something
to say exactly when it does not. It is put twice: to a builder of plain integers on any layout that a person may write,
and to the solver's own model on the layouts that its variables can take.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.layout import Layout
from constraints.partition.search import best_partition
from constraints.problem import Origin, Problem
from constraints.registry import RULES, rule_named
from constraints.rule import Noticed, Rule, SettingsRule, Stratum
from solver.model import Model
from solver.request import Request
from solver.resolution import resolve
from tests.rules import plain_builder, solver_cases
from tests.rules.examples import EXAMPLES
from tests.rules.random_cases import (
    DECISIONS,
    random_layout,
    random_problem,
    random_word,
    telling_problem,
    with_decision,
)
from tests.rules.varied import VARIED

NEVER_WRITTEN_BY_SOLVE = {
    "pipeline.pp-even",
    "pipeline.pp-account",
    "pipeline.pp-first-last",
    "pipeline.pp-first-last-sane",
    "pipeline.pp-modes-excl",
    "pipeline.layout-string",
    "pipeline.layout-count",
    "pipeline.layout-content",
    "pipeline.hybrid-layout",
    "pipeline.even-chunks",
    "pipeline.mtp-with-loss",
    "recompute.rc-full",
    "recompute.rc-mtp",
    "recompute.block-leaves-some",
    "recompute.group-in-chunk",
    "recompute.rc-sel",
    "batch.requested",
}
"""Rules that only a layout written by a person can break: the solver's variables have no such values."""

INTERNAL = re.compile(
    r"\bNone\b| // |\bobject at\b|\w+Spec\(|\b[A-Z]\w+\(\w+=|<\w+[ .]|\blambda\b|frozenset|\{|\}|\bself\b"
)
"""Python's notation, or ours, where a person reads."""

SPECIFIC = re.compile(r"\d|\w=\w|'\S|[a-z]_[a-z]")
"""A number, a ``name=value``, something quoted, or a name of Megatron's: a sentence that fits this case alone."""

SAID = re.compile(r"\b([a-z_0-9]+)=(?!true\b|false\b|alltoall\b|null\b)")
"""A ``name=value`` that is said of this case; a lower-case truth value or ``null`` is what to set instead."""

Visit = Callable[[Rule, Problem, Random], None]
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)


def explore(examples: int, visit: Callable[[int], None]) -> None:
    """Call ``visit`` with random seeds, the same ones in every run."""

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, 2**64 - 1))
    def visits(seed: int) -> None:
        visit(seed)

    visits()


def for_rule(rule: Rule, examples: int, visit: Visit) -> None:
    def visit_seed(seed: int) -> None:
        rng = Random(f"{rule.id} {seed}")
        visit(rule, telling_problem(rng, rule), rng)

    explore(examples, visit_seed)


def for_words(examples: int, visit: Visit) -> None:
    """The same with pins and limits that come from random words, read as the command line reads them."""

    def visit_seed(seed: int) -> None:
        rng = Random(seed)
        word = random_word(rng)
        asked = Request(model="llama-3.2-1b", gpus=8, gpu="h100")
        asked = replace(asked, limit=(word,)) if re.search("[<>]", word) else replace(asked, pin=(word,))
        (rule,) = resolve(asked).pins
        visit(rule, random_problem(rng, rule, pins=(rule,)), rng)

    explore(examples, visit_seed)


# -- post and holds, on any layout


class Agreement:
    """``post`` evaluated in plain integers says what ``holds`` says; counts what was seen."""

    def __init__(self) -> None:
        self.seen: Counter[bool] = Counter()

    def __call__(self, rule: Rule, problem: Problem, rng: Random) -> None:
        for _ in range(8):
            layout = random_layout(rng, problem)
            holds = rule.holds(problem, layout)
            assert plain_builder.admits(rule, problem, layout) == holds, (rule.id, problem, layout)
            self.seen[holds] += 1


@every_rule
def test_post_admits_exactly_the_layouts_for_which_it_holds(rule: Rule) -> None:
    agreement = Agreement()
    for_rule(rule, 30, agreement)
    assert min(agreement.seen[True], agreement.seen[False]) >= 5, f"the generator seldom decides it: {agreement.seen}"


def test_the_users_words_admit_exactly_the_layouts_for_which_they_hold() -> None:
    agreement = Agreement()
    for_words(200, agreement)
    assert min(agreement.seen[True], agreement.seen[False]) >= 100


@pytest.mark.heavy
@every_rule
def test_post_admits_exactly_the_layouts_for_which_it_holds_at_length(rule: Rule) -> None:
    agreement = Agreement()
    for_rule(rule, 300, agreement)
    assert min(agreement.seen[True], agreement.seen[False]) >= 75


# -- post and holds, in the solver


class SolverAgreement:
    """With the decisions fixed, the solver's model is feasible exactly if the rule holds; counts what was seen.

    Under a literal of its own, the rule must also leave the layout alone when the literal is free.
    """

    def __init__(self) -> None:
        self.seen: Counter[bool] = Counter()

    def __call__(self, rule: Rule, problem: Problem, rng: Random) -> None:
        explain = rng.random() < 0.5
        model = Model(problem, explain=explain)
        layouts = self._few_of_each(rule, problem, [solver_cases.layout_of_variables(rng, model) for _ in range(24)])
        assert not layouts or solver_cases.admits(model, layouts[0]), ("no rule is posted", problem, layouts[0])
        model.post([rule])
        literals = [model.literals[rule.id]] if explain else []
        for layout in layouts:
            holds = rule.holds(problem, layout)
            if rule.id == "memory.capacity" and not holds:
                # It is about the best place for the layers, which the model has as a bound: no layout that fits is lost.
                holds = best_partition(problem, layout) is not None
                holds = holds or solver_cases.admits(model, layout, *literals)
            assert solver_cases.admits(model, layout, *literals) == holds, (rule.id, explain, problem, layout)
            if explain and not holds:
                assert solver_cases.admits(model, layout), ("its literal is free", rule.id, problem, layout)
            self.seen[holds] += 1

    def _few_of_each(self, rule: Rule, problem: Problem, drawn: list[Layout | None]) -> list[Layout]:
        layouts = [layout for layout in drawn if layout is not None]
        kept = [layout for layout in layouts if rule.holds(problem, layout)]
        broken = [layout for layout in layouts if not rule.holds(problem, layout)]
        return kept[:2] + broken[:3]


@every_rule
def test_the_solver_admits_exactly_the_layouts_for_which_it_holds(rule: Rule) -> None:
    agreement = SolverAgreement()
    for_rule(rule, 16, agreement)
    assert agreement.seen[True] > 0
    assert (agreement.seen[False] == 0) == (rule.id in NEVER_WRITTEN_BY_SOLVE), agreement.seen


def test_the_solver_admits_exactly_the_layouts_for_which_the_users_words_hold() -> None:
    agreement = SolverAgreement()
    for_words(80, agreement)
    assert min(agreement.seen[True], agreement.seen[False]) >= 40


@pytest.mark.heavy
@every_rule
def test_the_solver_admits_exactly_the_layouts_for_which_it_holds_at_length(rule: Rule) -> None:
    agreement = SolverAgreement()
    for_rule(rule, 100, agreement)
    assert agreement.seen[True] >= 50
    assert rule.id in NEVER_WRITTEN_BY_SOLVE or agreement.seen[False] >= 12, agreement.seen


# -- what it says


def assert_explains(rule: Rule, problem: Problem, layout: Layout) -> None:
    """``why`` speaks exactly when the rule is broken: a sentence with values in it, each value with its origin."""
    fact = rule.why(problem, layout)
    assert (fact is None) == rule.holds(problem, layout)
    if fact is None:
        return
    assert fact.text.strip() == fact.text != ""
    assert "\n" not in fact.text
    assert not INTERNAL.search(fact.text), fact.text
    assert set(fact.values) == {*rule.scope, *rule.reads}
    assert SPECIFIC.search(fact.text), fact.text
    said = {name for name in SAID.findall(fact.text) if name in VARIED}
    assert said <= set(fact.values), f"{fact.text}: {said - set(fact.values)} are not among its values"
    assert set(fact.origins) == set(fact.values)
    for name, origin in fact.origins.items():
        assert str(origin)
        if name in problem.origins:
            assert origin is problem.origins[name]


@every_rule
def test_it_speaks_exactly_when_it_is_broken(rule: Rule) -> None:
    def visit(rule: Rule, problem: Problem, rng: Random) -> None:
        for _ in range(8):
            assert_explains(rule, problem, random_layout(rng, problem))

    for_rule(rule, 15, visit)


def test_the_users_words_speak_exactly_when_they_are_broken() -> None:
    def visit(rule: Rule, problem: Problem, rng: Random) -> None:
        layout = random_layout(rng, problem)
        assert_explains(rule, problem, layout)
        fact = rule.why(problem, layout)
        assert fact is None or str(getattr(rule, "text", "")) in fact.text
        assert rule.statement.startswith("You asked for ")
        assert isinstance(getattr(rule, "origin", None), Origin)

    for_words(100, visit)


# -- what it reads


def outside_scope(rule: Rule) -> list[str]:
    """Decisions that the rule says it does not read; the split goes with the pipeline shape."""
    shaped = {"split"} if {"pp", "vpp"} & set(rule.scope) else set()
    return [name for name in DECISIONS if name not in {*rule.scope, *shaped}]


def assert_reads_its_scope_only(rule: Rule, problem: Problem, rng: Random) -> None:
    for _ in range(6):
        layout, other = random_layout(rng, problem), random_layout(rng, problem)
        for name in outside_scope(rule):
            changed = with_decision(layout, name, other)
            assert rule.holds(problem, changed) == rule.holds(problem, layout), (rule.id, name, problem, layout, other)


@every_rule
def test_its_scope_names_every_decision_that_it_reads(rule: Rule) -> None:
    for_rule(rule, 12, assert_reads_its_scope_only)


def test_the_users_words_read_one_decision() -> None:
    for_words(60, assert_reads_its_scope_only)


@every_rule
def test_scope_and_values_are_known_names(rule: Rule) -> None:
    assert set(rule.scope) <= set(DECISIONS)
    assert len(set(rule.scope)) == len(rule.scope)
    assert not set(rule.scope) & set(rule.reads) - {"global_batch_size"}
    assert set(rule.reads) <= set(VARIED), "tell tests/rules/varied.py how such a value is drawn"


@every_rule
def test_a_rule_on_settings_has_no_scope(rule: Rule) -> None:
    if isinstance(rule, SettingsRule):
        assert rule.scope == ()


# -- how it is written down


def test_ids_are_unique_and_of_the_form_family_name() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    for rule_id in ids:
        assert re.fullmatch(r"[a-z]+\.[a-z0-9]+(-[a-z0-9]+)*", rule_id), rule_id
        found = rule_named(rule_id)
        assert found is not None
        assert found.id == rule_id
    assert rule_named("mesh.nothing") is None


@every_rule
def test_its_docstring_begins_with_the_law_in_one_sentence(rule: Rule) -> None:
    lines = (type(rule).__doc__ or "").strip().splitlines()
    assert rule.statement == lines[0]
    assert lines[0].endswith(".")
    assert not re.search(r"[.!?]\)? \(?[A-Z]", lines[0]), "more than one sentence"
    assert len(lines) == 1 or not lines[1].strip(), "the law spills into a second line"


@every_rule
def test_its_citation_is_complete(rule: Rule) -> None:
    if rule.source is None:
        assert rule.stratum in (Stratum.RESOURCE, Stratum.ADVICE)
        assert rule.noticed is Noticed.NEVER
        return
    source = rule.source
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", source.repository)
    assert re.fullmatch(r"[0-9a-f]{7,40}|\d+\.\d+(\.\d+)?", source.commit)
    assert source.path.endswith(".py")
    assert re.fullmatch(r"[A-Za-z_]\w*(\.\w+)?", source.function)
    assert str(source) == f"{source.repository}@{source.commit} {source.path}::{source.function}"


@every_rule
def test_a_framework_rule_is_noticed_by_somebody(rule: Rule) -> None:
    if rule.stratum is Stratum.FRAMEWORK:
        assert rule.source is not None
        assert rule.noticed is not Noticed.NEVER


@every_rule
def test_its_example_breaks_it(rule: Rule) -> None:
    """The words of the example stand beside a layout that is judged; a remainder that it names is the one that is found."""
    assert rule.example
    example = EXAMPLES[rule.id]
    assert example.words == rule.example, "the example was changed: change its layout too"
    fact = rule.why(example.problem, example.layout)
    assert fact is not None, f"{rule.example} does not break {rule.id}"
    assert not INTERNAL.search(fact.text), fact.text
    for remainder in re.findall(r"\d+ mod \d+ = \d+", rule.example):
        assert remainder in fact.text


@every_rule
def test_it_says_what_usually_mends_it(rule: Rule) -> None:
    assert rule.fix
    assert rule.fix.strip() == rule.fix
    assert not rule.fix.endswith(".")
    assert not INTERNAL.search(rule.fix), rule.fix


def test_every_example_is_of_a_rule() -> None:
    assert set(EXAMPLES) == {rule.id for rule in RULES}
