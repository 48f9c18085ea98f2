"""The formulas' arithmetic on CP-SAT: linear forms with known bounds; products and quotients become new variables.

Every new variable declares its bounds by interval arithmetic, and the same operation on the same operands is the same
variable, so formulas may be evaluated over and over. One of the files that import ortools.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ortools.sat.python import cp_model

__all__ = ["LARGEST", "BoundsError", "Choice", "CpSat", "Linear"]

LARGEST = 1 << 60
"""No declared bound may reach this: CP-SAT wants sums well inside 63 bits."""

LARGEST_PRODUCT = 1 << 48
"""Products are declared no larger: 3 days in nanoseconds, 256 TiB in bytes. Layouts beyond are not considered."""

SMALL_DOMAIN = 4096
"""Values of a variable are remembered up to this many; look-ups need them."""


class BoundsError(Exception):
    """A formula's bounds left 63 bits: a bug in units or in the request's limits, never "no layout"."""


class Linear:
    """``sum(coefficient * variable) + constant`` over the variables of one :class:`CpSat`."""

    __slots__ = ("_key", "constant", "space", "terms")

    def __init__(self, space: CpSat, terms: Mapping[int, int], constant: int) -> None:
        self.space, self.terms, self.constant = space, terms, constant
        self._key: tuple[Any, ...] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity for the cache: equal forms have equal keys."""
        if self._key is None:
            self._key = (tuple(sorted(self.terms.items())), self.constant)
        return self._key

    @property
    def low(self) -> int:
        lows, highs = self.space.lows, self.space.highs
        return self.constant + sum(c * (lows[i] if c > 0 else highs[i]) for i, c in self.terms.items())

    @property
    def high(self) -> int:
        lows, highs = self.space.lows, self.space.highs
        return self.constant + sum(c * (highs[i] if c > 0 else lows[i]) for i, c in self.terms.items())

    def __add__(self, other: Linear | int) -> Linear:
        if isinstance(other, int):
            return self if other == 0 else Linear(self.space, self.terms, self.constant + other)
        terms = dict(self.terms)
        for i, coefficient in other.terms.items():
            total = terms.get(i, 0) + coefficient
            if total:
                terms[i] = total
            else:
                del terms[i]
        return Linear(self.space, terms, self.constant + other.constant)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Linear:
        if factor == 1:
            return self
        if factor == 0:
            return Linear(self.space, {}, 0)
        return Linear(self.space, {i: c * factor for i, c in self.terms.items()}, self.constant * factor)

    __rmul__ = __mul__

    def __sub__(self, other: Linear | int) -> Linear:
        return self + (-other if isinstance(other, int) else other * -1)

    def __rsub__(self, other: int) -> Linear:
        return self * -1 + other

    def expression(self) -> Any:
        """The form as ortools writes it."""
        variables = [self.space.variables[i] for i in self.terms]
        if not variables:
            return self.constant
        return cp_model.LinearExpr.weighted_sum(variables, list(self.terms.values())) + self.constant


@dataclass(frozen=True)
class Choice:
    """A decision among ``options``; exactly one of ``literals`` is true."""

    options: tuple[Any, ...]
    literals: tuple[Any, ...]


Operand = Linear | int


class CpSat:
    """:class:`constraints.arithmetic.Arithmetic` that posts definitions into a CP-SAT model.

    Definitions are total: they hold for every value of the decisions, so a rule can be left out without changing them.
    """

    def __init__(self, model: cp_model.CpModel) -> None:
        self.model = model
        self.variables: list[Any] = []
        self.lows: list[int] = []
        self.highs: list[int] = []
        self.values: list[tuple[int, ...] | None] = []
        self._cache: dict[tuple[Any, ...], Linear] = {}
        self._built: dict[Hashable, Any] = {}
        self.largest_table = 0

    def variable(self, values: Iterable[int], name: str) -> Linear:
        """A decision over the given values."""
        ordered = tuple(sorted(set(values)))
        made = self.model.new_int_var_from_domain(cp_model.Domain.from_values(ordered), name)
        return self._register(made, ordered[0], ordered[-1], ordered)

    def restrict(self, quantity: Linear, values: Sequence[int]) -> None:
        """Record that a decision takes only ``values`` from here on (the caller posts it)."""
        (index,) = quantity.terms
        self.lows[index], self.highs[index], self.values[index] = values[0], values[-1], tuple(values)

    def values_of(self, quantity: Linear) -> tuple[int, ...]:
        """The values that a decision, or a small product of decisions, can take."""
        (index,) = quantity.terms
        values = self.values[index]
        if values is None:
            raise BoundsError(f"{self.variables[index]} has too many values for a look-up")
        return values

    def range(self, low: int, high: int, name: str) -> Linear:
        """An auxiliary variable with declared bounds."""
        if max(abs(low), abs(high)) >= LARGEST:
            raise BoundsError(f"{name}: {low} to {high} does not fit in 60 bits")
        return self._register(self.model.new_int_var(low, high, name), low, high, None)

    def _register(self, made: Any, low: int, high: int, values: tuple[int, ...] | None) -> Linear:
        self.variables.append(made)
        self.lows.append(low)
        self.highs.append(high)
        self.values.append(values if values is not None and len(values) <= SMALL_DOMAIN else None)
        return Linear(self, {len(self.variables) - 1: 1}, 0)

    def affine(self, a: Linear) -> Linear:
        """``a`` itself if it has at most one variable, else a variable equal to it."""
        if len(a.terms) <= 1:
            return a
        return self._cached(("sum", a.key), lambda: self._define_sum(a))

    def _define_sum(self, a: Linear) -> Linear:
        out = self.range(a.low, a.high, f"s{len(self.variables)}")
        self.model.add(out.expression() == a.expression())
        return out

    def _cached(self, key: tuple[Any, ...], make: Callable[[], Linear]) -> Linear:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._built:
            self._built[key] = make()
        return self._built[key]

    def mul(self, a: Operand, b: Operand) -> Any:
        if isinstance(a, int) or not a.terms:
            return b * (a if isinstance(a, int) else a.constant)
        if isinstance(b, int) or not b.terms:
            return a * (b if isinstance(b, int) else b.constant)
        a, b = self.affine(a), self.affine(b)
        first, second = sorted((a.key, b.key))
        return self._cached(("mul", first, second), lambda: self._define_product(a, b))

    def _define_product(self, a: Linear, b: Linear) -> Linear:
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        out = self.range(min(corners), min(max(corners), LARGEST_PRODUCT), f"p{len(self.variables)}")
        self._remember_values(out, a, b)
        self.model.add_multiplication_equality(out.expression(), [a.expression(), b.expression()])
        return out

    def _remember_values(self, out: Linear, a: Linear, b: Linear) -> None:
        """A product of two small decisions is itself small enough to be looked up by."""
        if a.constant or b.constant or len(a.terms) != 1 or len(b.terms) != 1:
            return
        (i, ci), (j, cj) = next(iter(a.terms.items())), next(iter(b.terms.items()))
        first, second = self.values[i], self.values[j]
        if ci != 1 or cj != 1 or first is None or second is None or len(first) * len(second) > SMALL_DOMAIN:
            return
        (index,) = out.terms
        self.values[index] = tuple(sorted({x * y for x in first for y in second}))

    def floor_div(self, a: Operand, b: Operand) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            return a // b
        if b == 1:
            return a
        a = Linear(self, {}, a) if isinstance(a, int) else self.affine(a)
        b = Linear(self, {}, b) if isinstance(b, int) else self.affine(b)
        return self._cached(("div", a.key, b.key), lambda: self._define_quotient(a, b))

    def _define_quotient(self, a: Linear, b: Linear) -> Linear:
        out = self.range(a.low // b.high, a.high // b.low, f"q{len(self.variables)}")
        self.model.add_division_equality(out.expression(), a.expression(), b.expression())
        return out

    def ceil_div(self, a: Operand, b: Operand) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            return -(-a // b)
        return self.floor_div(a + b - 1, b)

    def remainder(self, a: Operand, b: Operand) -> Any:
        """``a mod b``."""
        if isinstance(a, int) and isinstance(b, int):
            return a % b
        a = Linear(self, {}, a) if isinstance(a, int) else self.affine(a)
        b = Linear(self, {}, b) if isinstance(b, int) else self.affine(b)
        return self._cached(("mod", a.key, b.key), lambda: self._define_remainder(a, b))

    def _define_remainder(self, a: Linear, b: Linear) -> Linear:
        out = self.range(0, max(0, b.high - 1), f"r{len(self.variables)}")
        self.model.add_modulo_equality(out.expression(), a.expression(), b.expression())
        return out

    def maximum(self, *terms: Operand) -> Any:
        return self._extreme("max", terms)

    def minimum(self, *terms: Operand) -> Any:
        return self._extreme("min", terms)

    def _extreme(self, which: str, terms: Sequence[Operand]) -> Any:
        forms = {form.key: form for t in terms for form in [Linear(self, {}, t) if isinstance(t, int) else t]}
        highest, lowest = max(f.low for f in forms.values()), min(f.high for f in forms.values())
        forms = {
            key: form for key, form in forms.items() if (form.high >= highest if which == "max" else form.low <= lowest)
        }
        if len(forms) == 1:
            (form,) = forms.values()
            return form if form.terms else form.constant
        return self._cached((which, *sorted(forms)), lambda: self._define_extreme(which, list(forms.values())))

    def _define_extreme(self, which: str, forms: list[Linear]) -> Linear:
        lows, highs = [form.low for form in forms], [form.high for form in forms]
        expressions = [form.expression() for form in forms]
        if which == "max":
            out = self.range(max(lows), max(highs), f"x{len(self.variables)}")
            self.model.add_max_equality(out.expression(), expressions)
        else:
            out = self.range(min(lows), min(highs), f"n{len(self.variables)}")
            self.model.add_min_equality(out.expression(), expressions)
        return out

    def lookup(self, table: Callable[..., int], problem: Any, *keys: Operand) -> Any:
        if all(isinstance(key, int) for key in keys):
            return table(problem, *keys)
        forms = [key for key in keys if isinstance(key, Linear)]
        assert len(forms) == len(keys), "look-ups are by decisions"
        return self._cached(
            ("lookup", table, *(form.key for form in forms)), lambda: self._define_lookup(table, problem, forms)
        )

    def _define_lookup(self, table: Callable[..., int], problem: Any, keys: list[Linear]) -> Linear:
        rows = [(*point, table(problem, *point)) for point in product(*(self.values_of(key) for key in keys))]
        self.largest_table = max(self.largest_table, len(rows))
        results = sorted({row[-1] for row in rows})
        if len(results) == 1:
            return Linear(self, {}, results[0])
        out = self.variable(results, f"t{len(self.variables)}")
        self.model.add_allowed_assignments([*(key.expression() for key in keys), out.expression()], rows)
        return out

    def choose(self, choice: Any, formula: Callable[[Any], Operand]) -> Any:
        if not isinstance(choice, Choice):
            return formula(choice)
        made = [formula(option) for option in choice.options]
        forms = [Linear(self, {}, q) if isinstance(q, int) else q for q in made]
        if len({form.key for form in forms}) == 1:
            return made[0]
        return self._cached(("choose", *(form.key for form in forms)), lambda: self._define_choice(choice, forms))

    def _define_choice(self, choice: Choice, forms: list[Linear]) -> Linear:
        out = self.range(min(f.low for f in forms), max(f.high for f in forms), f"c{len(self.variables)}")
        for literal, form in zip(choice.literals, forms, strict=True):
            self.model.add(out.expression() == form.expression()).only_enforce_if(literal)
        return out
