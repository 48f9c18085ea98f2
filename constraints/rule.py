"""The rule: written once, it constrains the solver, judges a layout and explains itself.

A new rule is one subclass of :class:`Rule`: an ``id``, a one-sentence law as its docstring, and three faces, ``holds``
(the specification), ``post`` (the same for the solver) and ``reason`` (the numbers, when it is broken). One property
test (``tests/test_rules.py``) holds for every rule: ``post`` admits exactly the layouts for which ``holds`` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from constraints.arithmetic import Arithmetic, Quantity
from constraints.generations import before
from constraints.layout import Layout, Recompute
from constraints.problem import Origin, Problem

__all__ = [
    "Builder",
    "Citation",
    "Fact",
    "Noticed",
    "Rule",
    "Stratum",
    "bridge",
    "mcore",
    "older_mcore",
    "transformer_engine",
]


class Stratum(StrEnum):
    """Who says so, and so what may be relaxed: laws and framework rules never, resources move to a number, pins may go."""

    LAW = "law"
    FRAMEWORK = "framework"
    RESOURCE = "resource"
    ADVICE = "advice"
    PIN = "pin"


class Noticed(StrEnum):
    """The moment at which a launched job would meet the rule."""

    CONFIG = "when the configuration is validated"
    GROUPS = "when process groups are initialised"
    BUILD = "when the model is built"
    STEP = "in the first training step"
    NEVER = "never: nothing checks it"


@dataclass(frozen=True)
class Citation:
    """A place in somebody's source: repository, commit, file, function or class."""

    repository: str
    commit: str
    path: str
    function: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.commit} {self.path}::{self.function}"


def mcore(path: str, function: str) -> Citation:
    """A place in Megatron-Core as of 22 August 2026 (0.20.0); ``path`` is relative to ``megatron/core/``."""
    return Citation("NVIDIA/Megatron-LM", "d98e8a6", f"megatron/core/{path}", function)


def older_mcore(path: str, function: str) -> Citation:
    """A place in Megatron-Core 0.16.1, for rules that hold no more; ``path`` is relative to ``megatron/core/``."""
    return Citation("NVIDIA/Megatron-LM", "0.16.1", f"megatron/core/{path}", function)


def bridge(path: str, function: str) -> Citation:
    """A place in Megatron Bridge as of 22 August 2026 (0.7.0); ``path`` is relative to ``src/megatron/bridge/``."""
    return Citation("NVIDIA-NeMo/Megatron-Bridge", "067f987", f"src/megatron/bridge/{path}", function)


def transformer_engine(path: str, function: str) -> Citation:
    """A place in Transformer Engine 2.20.2; ``path`` is relative to ``transformer_engine/pytorch/``."""
    return Citation("NVIDIA/TransformerEngine", "2.20.2", f"transformer_engine/pytorch/{path}", function)


@dataclass(frozen=True)
class Fact:
    """Why a rule is broken: a sentence with the numbers in it, the numbers themselves, and where each came from."""

    text: str
    values: Mapping[str, Any]
    origins: Mapping[str, Origin] = field(default_factory=dict)


class Degrees(Protocol):
    """The decisions as a formula reads them: a :class:`~constraints.layout.Layout`, or the solver's variables."""

    @property
    def tp(self) -> Quantity: ...
    @property
    def pp(self) -> Quantity: ...
    @property
    def cp(self) -> Quantity: ...
    @property
    def ep(self) -> Quantity: ...
    @property
    def etp(self) -> Quantity: ...
    @property
    def dp(self) -> Quantity: ...
    @property
    def edp(self) -> Quantity: ...
    @property
    def sequence_parallel(self) -> Quantity: ...
    @property
    def sequence_shards(self) -> Quantity: ...
    @property
    def micro_batch_size(self) -> Quantity: ...
    @property
    def num_microbatches(self) -> Quantity: ...
    @property
    def global_batch_size(self) -> Quantity: ...
    @property
    def stage_gpus(self) -> Quantity: ...
    @property
    def recompute(self) -> Any: ...
    @property
    def recompute_layers(self) -> Quantity: ...
    @property
    def recompute_group(self) -> Quantity: ...


class Builder(Protocol):
    """What a rule may say to the solver. Decisions are named as in :class:`~constraints.layout.Layout`; ``vpp`` is 1 for
    "not interleaved". ``when`` is a condition made by :meth:`above_one`, :meth:`is_true` or :attr:`interleaved`."""

    @property
    def arithmetic(self) -> Arithmetic:
        """The arithmetic in which formulas are evaluated for this model."""

    @property
    def x(self) -> Any:
        """The decisions, named as in a layout."""

    def forbid(self) -> None:
        """No layout at all."""

    def allow(self, decision: str, predicate: Callable[[int], bool]) -> None:
        """``decision`` takes only values for which ``predicate`` is true."""

    def allow_shapes(self, predicate: Callable[[Any], bool]) -> None:
        """Only pipeline shapes (``shape.pp``, ``shape.vpp``, ``shape.assignment``) for which ``predicate`` is true."""

    def allow_recompute(self, predicate: Callable[[Recompute], bool]) -> None:
        """Only the recompute options for which ``predicate`` is true."""

    def equal(self, a: Quantity, b: Quantity, when: Any = None) -> None:
        """``a == b``."""

    def at_most(self, a: Quantity, b: Quantity, when: Any = None) -> None:
        """``a <= b``."""

    def divides(self, divisor: Quantity, dividend: Quantity, when: Any = None) -> None:
        """``dividend`` is a multiple of ``divisor``."""

    def above_one(self, decision: str) -> Any:
        """The condition "``decision`` is greater than 1"."""

    def is_true(self, decision: str) -> Any:
        """The condition "the 0/1 ``decision`` is 1"."""

    @property
    def interleaved(self) -> Any:
        """The condition "``vpp`` is set and ``pp`` is above 1"."""

    def remainder(self, dividend: Quantity, divisor: Quantity) -> Quantity:
        """``dividend mod divisor``."""

    def at_most_held(self, formulas: Callable[[Any], Iterable[Quantity]], bound: int) -> None:
        """``formulas(stage)``, which grow with what it holds, are at most ``bound`` on each stage of the chosen shape."""


class Rule:
    """Base of every rule. Subclasses set the class attributes and write ``holds``, ``post`` and ``reason``."""

    id: str
    """Family and name, as in ``attention.heads-tp``; unique and stable."""
    stratum: ClassVar[Stratum] = Stratum.FRAMEWORK
    noticed: ClassVar[Noticed] = Noticed.CONFIG
    source: ClassVar[Citation | None] = None
    scope: tuple[str, ...] = ()
    """The decisions it reads."""
    reads: ClassVar[tuple[str, ...]] = ()
    """The problem's values it reads (model fields, ``gpus``, ``seq_length`` ...)."""
    enforced_by_solve: ClassVar[bool] = True
    """False for advice that ``check`` mentions and ``solve`` does not insist on."""
    kept_by_form: ClassVar[bool] = False
    """True for advice that the search has no way to break: relaxed, it would find the same."""
    asks_count: ClassVar[bool] = False
    """True for the user's words about how full recompute goes: no count of layers stands for another there."""
    example: ClassVar[str] = ""
    """A layout that breaks it, in a few words."""
    fix: ClassVar[str] = ""
    """What is usually changed then, in the words to type where there are any."""
    since: ClassVar[str | None] = None
    """First generation (``constraints.generations``) it holds for; ``None`` if as old as meshwright looks back."""
    until: ClassVar[str | None] = None
    """First generation it holds for no more; ``None`` if it holds for the newest."""

    @property
    def statement(self) -> str:
        """The law in one sentence: the first line of the docstring."""
        return (self.__doc__ or "").strip().splitlines()[0]

    @property
    def relaxable(self) -> bool:
        """True for advice that ``solve`` insists on unless it is told not to."""
        return self.stratum is Stratum.ADVICE and self.enforced_by_solve and not self.kept_by_form

    def in_force(self, generation: str) -> bool:
        """True if the rule holds for that generation of Megatron."""
        old = self.since is not None and before(generation, self.since)
        return not old and (self.until is None or before(generation, self.until))

    def holds(self, problem: Problem, layout: Layout) -> bool:
        """The specification, in plain Python."""
        raise NotImplementedError

    def post(self, model: Builder, problem: Problem) -> None:
        """The encoding: admits exactly the layouts for which :meth:`holds` is true."""
        raise NotImplementedError

    def reason(self, problem: Problem, layout: Layout) -> str:
        """One sentence with the numbers in it; called only when the rule is broken."""
        raise NotImplementedError

    def why(self, problem: Problem, layout: Layout) -> Fact | None:
        """The numbers with their origins if the rule is broken, else ``None``."""
        if self.holds(problem, layout):
            return None
        values: dict[str, Any] = {name: getattr(layout, name) for name in self.scope}
        values |= {name: _read(problem, name) for name in self.reads}
        return Fact(self.reason(problem, layout), values, {name: problem.origin(name) for name in values})


class SettingsRule(Rule):
    """A rule that reads only the model, the request and :class:`~constraints.layout.Settings`: no decision can mend it."""

    def post(self, model: Builder, problem: Problem) -> None:
        if not self.holds(problem, Layout(gpus=problem.gpus, settings=problem.settings)):
            model.forbid()


def _read(problem: Problem, name: str) -> Any:
    if name == "gpu":
        return problem.gpu.name
    if hasattr(problem, name):
        return getattr(problem, name)
    if hasattr(problem.settings, name):
        return getattr(problem.settings, name)
    return getattr(problem.model, name)
