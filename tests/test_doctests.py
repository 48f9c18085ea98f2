"""Every example in a docstring of the four rooms is run, and shows what it says."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models_catalog", "constraints", "solver", "cli")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = [
    module_name(path)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if ">>>" in path.read_text(encoding="utf-8")
]


def examples_of(name: str) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder().find(import_module(name)) if test.examples]


def test_there_are_examples_in_every_room() -> None:
    assert {name.split(".")[0] for name in WITH_EXAMPLES} == set(ROOMS)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_show_what_they_say(name: str) -> None:
    tests = examples_of(name)
    assert tests, f"{name} has >>> in a place that doctest does not look at"
    complaints: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF)
    for test in tests:
        runner.run(test, out=complaints.append)
    assert not complaints, "".join(complaints)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_every_example_shows_a_result_and_none_is_a_comment(name: str) -> None:
    for test in examples_of(name):
        assert not any(example.source.lstrip().startswith("#") for example in test.examples), test.name
        assert any(example.want for example in test.examples), f"{test.name} shows nothing"
