"""What the real Megatron said of ten thousand configurations and more, generation by generation, ``check`` says too."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from constraints.registry import RULES
from constraints.rule import Stratum
from tests.conformance.additions import ADDITIONS, NOT_DRIVEN
from tests.conformance.page import PAGE, page
from tests.conformance.replay import Compared, compared, generation_of
from tests.conformance.verdict_file import read_verdicts, recordings

FILES = recordings()
LEAST_ALONE = 20
"""How often each rule is at least the only one that is broken where Megatron refuses."""

each_generation = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.removesuffix(".jsonl.gz"))


@cache
def replayed(path: Path) -> tuple[str, tuple[Compared, ...]]:
    """(generation, every question with both verdicts)."""
    head, recorded = read_verdicts(path)
    generation = generation_of(head)
    return generation, tuple(compared(recorded, generation))


def test_two_generations_are_recorded() -> None:
    assert len({replayed(path)[0] for path in FILES}) >= 2
    assert all(len(replayed(path)[1]) >= 10_000 for path in FILES)


@each_generation
def test_nothing_that_megatron_refuses_is_called_legal(path: Path) -> None:
    wrong = [c for c in replayed(path)[1] if not c.recorded.accepted and not c.broken]
    assert not wrong, f"{len(wrong)}: {wrong[0].recorded.error} in {wrong[0].recorded.line}"


@each_generation
def test_nothing_that_megatron_accepts_is_called_illegal_but_for_named_additions(path: Path) -> None:
    wrong = [c for c in replayed(path)[1] if c.recorded.accepted and c.broken and c.addition is None]
    assert not wrong, f"{len(wrong)}: {wrong[0].broken} {wrong[0].message} in {wrong[0].recorded.line}"


def test_each_rule_is_the_only_one_broken_often_enough() -> None:
    alone: Counter[str] = Counter()
    for path in FILES:
        found = replayed(path)[1]
        alone.update(c.broken[0] for c in found if len(c.broken) == 1 and not c.recorded.accepted)
    binding = [rule for rule in RULES if rule.stratum in (Stratum.LAW, Stratum.FRAMEWORK)]
    few = {rule.id: alone[rule.id] for rule in binding if alone[rule.id] < LEAST_ALONE}
    assert set(few) <= set(ADDITIONS) | set(NOT_DRIVEN), few


def test_additions_and_what_is_not_driven_are_rules() -> None:
    assert set(ADDITIONS) | set(NOT_DRIVEN) <= {rule.id for rule in RULES}


@pytest.mark.heavy
def test_the_page_is_made_from_the_recordings() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.conformance.page writes it anew"
