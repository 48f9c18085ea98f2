"""Random values put to a test, the same ones in every run, in parts that machines and cores can share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

__all__ = ["explore", "in_parts"]

Value = TypeVar("Value")
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def explore(strategy: SearchStrategy[Value], visit: Callable[[Value], None], examples: int, part: int = 0) -> None:
    """Call ``visit`` with ``examples`` values of ``strategy``, other ones for each ``part``."""

    @seed(part)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=QUIET)
    @given(strategy)
    def visits(value: Value) -> None:
        visit(value)

    visits()


def in_parts(parts: int) -> pytest.MarkDecorator:
    """Run a test once for each of so many parts: one long test would end alone on one core."""
    return pytest.mark.parametrize("part", range(parts))
