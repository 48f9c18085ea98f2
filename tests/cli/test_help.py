"""The examples that the help of a command shows."""

from __future__ import annotations

import shlex

import pytest

from tests.cli.running import run


def examples(command: str) -> list[tuple[str, ...]]:
    lines = (line.strip() for line in run(command, "--help").out.splitlines())
    return [tuple(shlex.split(line)[1:]) for line in lines if line.startswith(f"meshwright {command} ")]


@pytest.mark.parametrize("args", examples("solve"), ids=" ".join)
def test_an_example_of_solve_has_an_answer(args):
    assert run(*args).code == 0


def test_there_are_examples():
    assert len(examples("solve")) == 2
