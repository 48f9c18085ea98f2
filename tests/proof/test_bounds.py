"""What is said of a whole box is true of every layout in it, whatever the rule."""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.refutation.bounds import BoxBuilder, excludes
from constraints.refutation.partial import Box, Space, in_groups
from constraints.refutation.ranges import Unbounded
from constraints.registry import enforced_rules
from tests.strategies import problems

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def random_box(rng: Random, space: Space) -> dict[str, tuple[int, ...]]:
    """A part of the space: some decisions taken, some half open."""
    box = dict(space.root)
    for name in sorted(box, key=lambda n: (n != "pp", n)):
        if name == "pp" or rng.random() < 0.6:
            value = rng.choice(list(box[name]))
            box = space.narrowed(box, name, value)
        elif rng.random() < 0.7:
            kept = sorted(rng.sample(box[name], rng.randint(1, len(box[name]))))
            box[name] = tuple(kept)
    return box


def random_layout(rng: Random, space: Space, box: Box, *, groups: bool = True) -> Layout | None:
    """One that ``box`` stands for, ``groups`` of layers among them; ``None`` if the space does not have it."""
    point = {name: rng.choice(values) for name, values in box.items()}
    if point["vpp"] not in space.stages(point["pp"]):
        return None
    layout, sizes = space.layout(point), space.group_sizes_at(point)
    size = rng.choice([1, *sizes]) if groups else 1
    return layout if size == 1 else in_groups(layout, size)


def assert_sound(problem: Problem, seed: int, boxes: int) -> int:
    rng, space = Random(seed), Space(problem)
    excluded = 0
    for _ in range(boxes):
        box = random_box(rng, space)
        for rule in enforced_rules(problem):
            builder = BoxBuilder(space, box)
            with contextlib.suppress(Unbounded):
                rule.post(builder, problem)
            whole = excludes(rule, space, box)  # what is said of groups too
            if not (builder.excluded or whole):
                continue
            excluded += 1
            for _ in range(6):
                layout = random_layout(rng, space, box, groups=whole)
                assert layout is None or not rule.holds(problem, layout), (rule.id, box, layout)
    return excluded


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(problems(most_gpus=16), st.integers(0, 2**32))
def test_a_rule_that_excludes_a_box_fails_on_its_layouts(problem: Problem, seed: int) -> None:
    assert_sound(problem, seed, 4)


@pytest.mark.heavy
@settings(max_examples=600, deadline=None, derandomize=True, database=None, suppress_health_check=QUIET)
@given(problems(), st.integers(0, 2**32))
def test_a_rule_that_excludes_a_box_fails_on_its_layouts_at_length(problem: Problem, seed: int) -> None:
    assert_sound(problem, seed, 8)


def test_memory_is_excluded_by_bounds_and_not_by_counting() -> None:
    """The boxes in which memory is refuted hold far more layouts than are looked at one by one."""
    from constraints.registry import rule_named
    from solver.request import Request
    from solver.resolution import resolve

    space = Space(resolve(Request(model="llama-3.1-405b", gpus=8, gpu="h100")))
    box = space.narrowed(space.root, "pp", 1)
    for name, value in (("tp", 8), ("cp", 1), ("dp", 1)):
        box = space.narrowed(box, name, value)
    rule = rule_named("memory.capacity")
    assert rule is not None
    assert excludes(rule, space, box)
