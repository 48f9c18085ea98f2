"""The last number for which something holds, wherever it is looked for first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.partition.rooms import most_that


@given(st.integers(0, 70), st.integers(0, 60), st.integers(0, 80))
@settings(derandomize=True)
def test_the_last_number_is_found_wherever_one_begins(last: int, high: int, near: int) -> None:
    assert most_that(lambda number: number <= last, high, near) == min(last, high)
