"""The three tests of a table of layouts that break a rule and of near twins that keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from constraints.rule import Rule
from models_catalog.schema import ModelSpec
from tests.rules.builders import judge

__all__ = ["broken_and_kept"]

Words = dict[str, Any]
Broken = tuple[str, ModelSpec, Words, tuple[str, ...]]
Kept = tuple[str, ModelSpec, Words]
Test = Callable[..., None]


def broken_and_kept(
    by_id: Mapping[str, Rule], broken: Sequence[Broken], kept: Sequence[Kept]
) -> tuple[Test, Test, Test]:
    """Tests: ``broken`` layouts are refused with these words in the reason, ``kept`` ones are not, no rule lacks either."""

    @pytest.mark.parametrize(("name", "spec", "words", "numbers"), broken)
    def test_broken(name: str, spec: ModelSpec, words: Words, numbers: tuple[str, ...]) -> None:
        text = judge(by_id[name], spec, **words)
        assert text is not None
        assert all(number in text for number in numbers), text

    @pytest.mark.parametrize(("name", "spec", "words"), kept)
    def test_kept(name: str, spec: ModelSpec, words: Words) -> None:
        assert judge(by_id[name], spec, **words) is None

    def test_every_rule_is_broken_and_kept() -> None:
        assert {case[0] for case in broken} == {case[0] for case in kept} == set(by_id)

    return test_broken, test_kept, test_every_rule_is_broken_and_kept
