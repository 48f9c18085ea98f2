"""What a rule posts, evaluated on one layout: a second builder beside the solver's, of plain integers and truth values.

It lets any layout be put to ``post``, those too that ``solve`` never makes, such as a split that does not come out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from constraints.arithmetic import Integers
from constraints.layout import Layout, Recompute
from constraints.memory.budget import layout_stages
from constraints.problem import Problem
from constraints.rule import Rule

__all__ = ["PlainBuilder", "admits"]

DEGREES = ("tp", "pp", "cp", "ep", "etp", "dp", "edp", "micro_batch_size", "num_microbatches", "global_batch_size")


def admits(rule: Rule, problem: Problem, layout: Layout) -> bool:
    """True if what ``rule`` posts for ``problem`` is true of ``layout``."""
    builder = PlainBuilder(problem, layout)
    rule.post(builder, problem)
    return builder.admitted


class PlainBuilder:
    """``constraints.rule.Builder`` for a layout that is already there; ``admitted`` says whether all was true of it."""

    def __init__(self, problem: Problem, layout: Layout) -> None:
        assert layout.settings == problem.settings, "the solver takes the settings as given"
        self.problem, self.layout = problem, layout
        self.arithmetic = Integers()
        self.admitted = True
        self.x: Any = SimpleNamespace(
            **{name: getattr(layout, name) for name in DEGREES},
            vpp=layout.vpp or 1,
            sequence_parallel=int(layout.sequence_parallel),
            sequence_shards=layout.sequence_shards,
            stage_gpus=layout.stage_gpus,
            recompute=layout.recompute,
            recompute_layers=layout.recompute_layers,
            recompute_group=layout.recompute_group,
            batch_unit=layout.dp * layout.micro_batch_size * (layout.microbatch_group if layout.interleaved else 1),
        )

    def _require(self, truth: bool, when: Any = None) -> None:
        if when is None or when:
            self.admitted = self.admitted and bool(truth)

    def forbid(self) -> None:
        self._require(False)

    def allow(self, decision: str, predicate: Callable[[int], bool]) -> None:
        self._require(predicate(getattr(self.x, decision)))

    def allow_shapes(self, predicate: Callable[[Any], bool]) -> None:
        self._require(predicate(self.layout))

    def allow_recompute(self, predicate: Callable[[Recompute], bool]) -> None:
        self._require(predicate(self.layout.recompute))

    def equal(self, a: int, b: int, when: Any = None) -> None:
        self._require(a == b, when)

    def at_most(self, a: int, b: int, when: Any = None) -> None:
        self._require(a <= b, when)

    def divides(self, divisor: int, dividend: int, when: Any = None) -> None:
        self._require(dividend % divisor == 0, when)

    def remainder(self, dividend: int, divisor: int) -> int:
        return dividend % divisor

    def above_one(self, decision: str) -> bool:
        return bool(getattr(self.x, decision) > 1)

    def is_true(self, decision: str) -> bool:
        return bool(getattr(self.x, decision))

    @property
    def interleaved(self) -> bool:
        return self.layout.interleaved

    def at_most_held(self, formulas: Callable[[Any], Iterable[int]], bound: int) -> None:
        for stage in layout_stages(self.problem, self.layout) or ():
            self._require(all(quantity <= bound for quantity in formulas(stage)))
