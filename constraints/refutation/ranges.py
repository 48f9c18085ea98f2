"""The formulas' arithmetic on ranges: what a quantity can be while some decisions are still open.

The third evaluator of the same formulas, after plain integers and CP-SAT: a bound from here holds for every completion,
whatever the formula is, so no formula has to be believed to be monotone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import product
from typing import Any

__all__ = ["Choice", "Decided", "Known", "Range", "Ranges", "Unbounded"]

LARGEST_SET = 512
"""Values of a small quantity are remembered up to this many; look-ups need them."""


class Unbounded(Exception):
    """A formula asks for more than ranges can say."""


class Range:
    """``low`` to ``high``, both included; ``values`` are all that it can be, where they are few (else ``None``)."""

    __slots__ = ("high", "low", "values")

    def __init__(self, low: int, high: int, values: tuple[int, ...] | None = None) -> None:
        self.low, self.high, self.values = low, high, values

    def __add__(self, other: Range | int) -> Range:
        if isinstance(other, int):
            return self if other == 0 else Range(self.low + other, self.high + other)
        return Range(self.low + other.low, self.high + other.high)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Range:
        if factor >= 0:
            return Range(self.low * factor, self.high * factor)
        return Range(self.high * factor, self.low * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Range:
        return Range(-self.high, -self.low)

    def __sub__(self, other: Range | int) -> Range:
        return self + (-other)

    def __rsub__(self, other: int) -> Range:
        return -self + other

    def __repr__(self) -> str:
        return f"Range({self.low}, {self.high})"


class Choice:
    """A decision among options that is still open; hashable by identity."""

    def __init__(self, options: tuple[Any, ...]) -> None:
        self.options = options


Operand = Range | int


def of(values: Iterable[int]) -> Operand:
    """A decision that takes one of ``values``: a plain integer where there is one."""
    ordered = tuple(sorted(set(values)))
    if len(ordered) == 1:
        return ordered[0]
    return Range(ordered[0], ordered[-1], ordered if len(ordered) <= LARGEST_SET else None)


def low(a: Operand) -> int:
    return a if isinstance(a, int) else a.low


def high(a: Operand) -> int:
    return a if isinstance(a, int) else a.high


class Known:
    """What formulas came to in other boxes of the same problem, by the values of the decisions that they really read."""

    def __init__(self) -> None:
        self.formulas: dict[Hashable, dict[tuple[str, ...], dict[Hashable, Any]]] = {}
        self.tables: dict[Hashable, int] = {}


class Decided:
    """The decisions as a formula reads them, which notes what it reads."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self._reading: list[set[str]] = []
        self._keys: dict[str, Hashable] = {}

    def __getattr__(self, name: str) -> Any:
        try:
            value = self._values[name]
        except KeyError:
            raise AttributeError(name) from None
        if self._reading:
            self._reading[-1].add(name)
        return value

    def begin(self) -> None:
        """A formula begins."""
        self._reading.append(set())

    def end(self) -> set[str]:
        """It is done; what it read was read by the formula around it as well."""
        read = self._reading.pop()
        self.read(read)
        return read

    def read(self, names: Iterable[str]) -> None:
        """The formula that is being made read these."""
        if self._reading:
            self._reading[-1].update(names)

    def key(self, names: Iterable[str]) -> Hashable:
        """The values of those decisions, to look up by."""
        return tuple(self._keys[name] if name in self._keys else self._key(name) for name in names)

    def _key(self, name: str) -> Hashable:
        value = self._values[name]
        if isinstance(value, Range):
            value = (value.low, value.high, value.values)
        elif isinstance(value, Choice):
            value = value.options
        self._keys[name] = value
        key: Hashable = value
        return key


class Ranges:
    """:class:`constraints.arithmetic.Arithmetic` on ranges, for one box of decisions (``x``, once they are made)."""

    def __init__(self, known: Known | None = None) -> None:
        self._known = known or Known()
        self._built: dict[Hashable, tuple[Any, tuple[str, ...]]] = {}
        self.x: Decided | None = None

    def mul(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int):
            return a * b if isinstance(b, int) else b * a
        if isinstance(b, int):
            return a * b if a.values is None or b < 0 else Range(a.low * b, a.high * b, tuple(v * b for v in a.values))
        corners = (a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high)
        values = None
        if a.values is not None and b.values is not None and len(a.values) * len(b.values) <= LARGEST_SET:
            values = tuple(sorted({x * y for x in a.values for y in b.values}))
        return Range(min(corners), max(corners), values)

    def floor_div(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        if low(b) < 1:
            raise Unbounded("a divisor may be 0")
        corners = [x // y for x in (low(a), high(a)) for y in (low(b), high(b))]
        return Range(min(corners), max(corners))

    def ceil_div(self, a: Operand, b: Operand) -> Operand:
        if isinstance(a, int) and isinstance(b, int):
            return -(-a // b)
        if low(b) < 1:
            raise Unbounded("a divisor may be 0")
        corners = [-(-x // y) for x in (low(a), high(a)) for y in (low(b), high(b))]
        return Range(min(corners), max(corners))

    def maximum(self, *terms: Operand) -> Operand:
        return self._extreme(max, terms)

    def minimum(self, *terms: Operand) -> Operand:
        return self._extreme(min, terms)

    def _extreme(self, which: Callable[..., int], terms: tuple[Operand, ...]) -> Operand:
        lowest, highest = which(low(t) for t in terms), which(high(t) for t in terms)
        return lowest if lowest == highest else Range(lowest, highest)

    def lookup(self, table: Callable[..., int], problem: Any, *keys: Operand) -> Operand:
        domains = [(key,) if isinstance(key, int) else key.values for key in keys]
        if any(domain is None for domain in domains):
            raise Unbounded("a look-up by a quantity with too many values")
        points = list(product(*(domain for domain in domains if domain is not None)))
        if len(points) > LARGEST_SET:
            raise Unbounded("a look-up with too many entries")
        results = [self._entry(table, problem, point) for point in points]
        return results[0] if min(results) == max(results) else Range(min(results), max(results))

    def _entry(self, table: Callable[..., int], problem: Any, point: tuple[int, ...]) -> int:
        key = (table, point)
        if key not in self._known.tables:
            self._known.tables[key] = table(problem, *point)
        return self._known.tables[key]

    def choose(self, choice: Any, formula: Callable[[Any], Operand]) -> Operand:
        if not isinstance(choice, Choice):
            return formula(choice)
        made = [formula(option) for option in choice.options]
        lowest, highest = min(low(q) for q in made), max(high(q) for q in made)
        return lowest if lowest == highest else Range(lowest, highest)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        x = self.x
        if x is None:
            return make()
        if key in self._built:
            made, names = self._built[key]
            x.read(names)
            return made
        made, names = self._built[key] = self._looked_up(x, key, make)
        return made

    def _looked_up(self, x: Decided, key: Hashable, make: Callable[[], Any]) -> tuple[Any, tuple[str, ...]]:
        """(what the formula comes to, the decisions that it reads), as it was in another box if those were alike."""
        results = self._known.formulas.setdefault(key, {})
        for names, by_values in results.items():
            found = by_values.get(x.key(names), self)
            if found is not self:
                x.read(names)
                return found, names
        x.begin()
        try:
            made = make()
        finally:
            read = x.end()
        names = tuple(sorted(read))
        results.setdefault(names, {})[x.key(names)] = made
        return made, names
