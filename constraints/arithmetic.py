"""The small arithmetic in which every byte and time formula is written once.

A formula takes an :class:`Arithmetic` and combines quantities with ``+``, multiplication by a constant, and the methods
below. :class:`Integers` evaluates it on plain ``int`` (report, checker, brute-force oracle); ``solver.arithmetic``
evaluates the same text on CP-SAT expressions. All quantities are non-negative.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["Arithmetic", "Integers", "Quantity", "Remembering", "ceil_div", "once"]

P = ParamSpec("P")
R = TypeVar("R")

Quantity = Any
"""An ``int``, or a CP-SAT expression with known bounds that supports ``+``, ``-`` and ``*`` by an ``int``."""


def ceil_div(dividend: int, divisor: int) -> int:
    """``dividend / divisor`` rounded up; both non-negative, ``divisor`` at least 1."""
    return -(-dividend // divisor)


class Arithmetic(Protocol):
    """What a formula may do besides adding and multiplying by constants."""

    def mul(self, a: Quantity, b: Quantity) -> Quantity:
        """``a * b``."""

    def ceil_div(self, a: Quantity, b: Quantity) -> Quantity:
        """``a / b`` rounded up; ``b >= 1``."""

    def floor_div(self, a: Quantity, b: Quantity) -> Quantity:
        """``a / b`` rounded down; ``b >= 1``."""

    def maximum(self, *terms: Quantity) -> Quantity:
        """The largest term."""

    def minimum(self, *terms: Quantity) -> Quantity:
        """The smallest term."""

    def lookup(self, table: Callable[..., int], problem: Any, *keys: Quantity) -> Quantity:
        """``table(problem, *keys)``: for what has no formula, such as the link that a group of ranks really uses."""

    def choose(self, choice: Any, formula: Callable[[Any], Quantity]) -> Quantity:
        """``formula(option)`` for the option that ``choice`` takes (which activations are recomputed)."""

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        """``make()``, or what it gave before under the same key."""


def once(
    formula: Callable[Concatenate[Arithmetic, Any, Any, P], R],
) -> Callable[Concatenate[Arithmetic, Any, Any, P], R]:
    """Let a formula over (arithmetic, problem, degrees, ...) be built once per arithmetic and further arguments.

    An arithmetic that remembers (CP-SAT's) serves one problem and one set of variables, so neither is part of the key.
    """

    @wraps(formula)
    def remembered(a: Arithmetic, p: Any, x: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return a.once((formula, *args), lambda: formula(a, p, x, *args, **kwargs))

    return remembered


class Integers:
    """The plain evaluator: exact Python integers."""

    def mul(self, a: int, b: int) -> int:
        return a * b

    def ceil_div(self, a: int, b: int) -> int:
        return -(-a // b)

    def floor_div(self, a: int, b: int) -> int:
        return a // b

    def maximum(self, *terms: int) -> int:
        return max(terms)

    def minimum(self, *terms: int) -> int:
        return min(terms)

    def lookup(self, table: Callable[..., int], problem: Any, *keys: int) -> int:
        return table(problem, *keys)

    def choose(self, choice: Any, formula: Callable[[Any], int]) -> int:
        return formula(choice)

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        return make()


class Remembering(Integers):
    """Plain integers that build each formula once: for one problem and one layout, whose stages share most of theirs."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        if key not in self._made:
            self._made[key] = make()
        made: R = self._made[key]
        return made
