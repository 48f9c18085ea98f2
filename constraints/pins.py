"""The user's own words as rules: a pinned value or a limit on a decision."""

from __future__ import annotations

import operator
from typing import Any

from constraints.layout import Layout
from constraints.problem import Origin, Problem
from constraints.rule import Builder, Noticed, Rule, Stratum

__all__ = ["COUNTS", "Limit", "Pin", "PinCount", "PinRecompute"]

_COMPARISONS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
COUNTS = ("recompute_layers", "recompute_group")
"""Decisions that say how many layers recompute by count is about, where it is one."""
_SIDES = {"<=": "max", ">=": "min", "<": "below", ">": "above"}


class _Word(Rule):
    """Something the user asked for."""

    stratum = Stratum.PIN
    noticed = Noticed.NEVER
    decision: str
    origin: Origin

    def __init__(self, name: str, decision: str, text: str, origin: Origin) -> None:
        self.id = f"pin.{name}"  # the one family whose ids the user's words make
        self.scope = (decision,)
        self.name, self.decision, self.text, self.origin = name, decision, text, origin

    @property
    def statement(self) -> str:
        return f"You asked for {self.text}."


class Pin(_Word):
    """A decision has the value that the user gave it; ``vpp`` ``None`` means no interleaving."""

    def __init__(self, name: str, decision: str, value: Any, origin: Origin) -> None:
        super().__init__(name, decision, f"{name}={_shown(value)}", origin)
        self.value = value

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return bool(getattr(layout, self.decision) == self.value)

    def post(self, model: Builder, problem: Problem) -> None:
        wanted = 1 if self.value is None else int(self.value)
        model.allow(self.decision, lambda value: value == wanted)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"you asked for {self.text}, the layout has {_shown(getattr(layout, self.decision))}"


def _shown(value: Any) -> Any:
    """As an override says it: ``null`` for what is not set, ``true`` and ``false``."""
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else value


class Limit(_Word):
    """A decision stays on the side of a number that the user named; ``vpp`` counts as 1 without interleaving."""

    def __init__(self, name: str, decision: str, comparison: str, value: int, origin: Origin) -> None:
        super().__init__(name, decision, f"{name}{comparison}{value}", origin)
        self.id = f"limit.{name}-{_SIDES[comparison]}-{value}"  # beside a pin, and beside one another
        self.comparison, self.value = comparison, value

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._allows(getattr(layout, self.decision) or 1)

    def _allows(self, value: int) -> bool:
        return bool(_COMPARISONS[self.comparison](value, self.value))

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow(self.decision, self._allows)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"you asked for {self.text}, the layout has {getattr(layout, self.decision) or 1}"


class PinCount(_Word):
    """Full recompute goes as the user said: ``what`` is ``method`` (uniform or block) or ``num_layers``."""

    asks_count = True

    def __init__(self, what: str, value: str | int, origin: Origin) -> None:
        name = f"recompute_{what}"
        super().__init__(name, "recompute", f"{name}={value}", origin)
        self.what, self.value = what, value

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return bool(getattr(layout.recompute, self.what) == self.value)

    def post(self, model: Builder, problem: Problem) -> None:
        decided = [count for count in COUNTS if not isinstance(getattr(model.x, count), int)]
        if self.what == "num_layers" and decided:
            model.allow(decided[0], lambda count: count == self.value)
        else:
            model.allow_recompute(lambda option: bool(getattr(option, self.what) == self.value))

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"you asked for {self.text}, the layout recomputes {layout.recompute}"


class PinRecompute(_Word):
    """The recompute granularity is the one that the user named: none, selective or full."""

    def __init__(self, granularity: str, origin: Origin) -> None:
        super().__init__("recompute", "recompute", f"recompute={granularity}", origin)
        self.granularity = None if granularity == "none" else granularity

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.recompute.granularity == self.granularity

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow_recompute(lambda option: option.granularity == self.granularity)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"you asked for {self.text}, the layout recomputes {layout.recompute}"
