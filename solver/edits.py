"""Changes of a request as somebody types them, and the problem that each makes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout, Settings
from constraints.pins import Limit, Pin, PinCount, PinRecompute
from constraints.problem import GIB, Origin, Problem
from constraints.rule import Rule
from constraints.spelling import spelling_of
from models_catalog.schema import GpuSpec
from solver.distance import is_far
from solver.memory_options import option_behind, option_words

__all__ = ["Changed", "Edit", "asked_words", "switch_words", "with_pins_as_in", "without_pins"]


@dataclass(frozen=True)
class Edit:
    """``text`` is what to type ("": nothing, the words are left out), ``instead`` the words of the request that it takes the
    place of ("" if none)."""

    text: str
    instead: str = ""
    origin: Origin | None = None

    def to_mapping(self) -> dict[str, Any]:
        return {
            "type": self.text or None,
            "instead_of": self.instead or None,
            "at": str(self.origin) if self.origin else None,
        }

    def __str__(self) -> str:
        if self.text:
            return self.text
        place = f" at {self.origin}" if self.origin is not None and self.origin.kind == "file" else ""
        return f"without {self.instead}{place}"


@dataclass(frozen=True)
class Changed:
    """A problem after some edits."""

    problem: Problem
    edits: tuple[Edit, ...] = ()

    def also(self, edit: Edit, **values: Any) -> Changed:
        """One edit more, which sets these values of the problem."""
        return Changed(replace(self.problem, **values), (*self.edits, edit))

    def gpus(self, count: int) -> Changed:
        was = self.problem.gpus
        return self.also(Edit(f"--gpus {count}", f"--gpus {was}", self.problem.origin("gpus")), gpus=count)

    def idle(self, count: int) -> Changed:
        return self.also(Edit("--allow-idle"), gpus=count)

    def batch(self, size: int) -> Changed:
        was = self.problem.global_batch_size
        edit = Edit(
            f"--global-batch-size {size}", f"--global-batch-size {was}", self.problem.origin("global_batch_size")
        )
        return self.also(edit, global_batch_size=size)

    def sequence(self, length: int) -> Changed:
        was, origin = self.problem.seq_length, self.problem.origin("seq_length")
        given = "" if origin.kind == "default" else f"--seq-length {was}"
        return self.also(Edit(f"--seq-length {length}", given, origin), seq_length=length)

    def precision(self, word: str) -> Changed:
        was, origin = self.problem.precision, self.problem.origin("precision")
        return self.also(Edit(f"--precision {word}", f"--precision {was}", origin), precision=word)

    def memory(self, tenths_of_gib: int) -> Changed:
        gib = tenths_of_gib / 10
        was = f"--memory-gib {self.problem.budget_bytes / GIB:g}"
        edit = Edit(f"--memory-gib {gib:g}", was, self.problem.origin("budget_bytes"))
        return self.also(edit, budget_bytes=int(gib * GIB))

    def gpu(self, gpu: GpuSpec) -> Changed:
        """Another machine; its node and domain too, where the request does not give its own."""
        problem = self.problem
        values: dict[str, Any] = {"gpu": gpu, "budget_bytes": int(gpu.usable_gib * GIB)}
        for name in ("gpus_per_node", "nvlink_domain"):
            if problem.origin(name).kind == "catalog":
                values[name] = getattr(gpu, name)
        return self.also(Edit(f"--gpu {gpu.name}", f"--gpu {problem.gpu.name}", problem.origin("gpu")), **values)

    def borderline(self) -> Changed:
        return self.also(Edit("--allow-borderline"), allow_borderline=True)

    def relax(self, rule_id: str) -> Changed:
        return self.also(Edit(f"--relax {rule_id}"), relaxed=self.problem.relaxed | {rule_id})

    def release(self, word: Rule) -> Changed:
        """A pin or limit left out."""
        kept = tuple(pin for pin in self.problem.pins if pin is not word)
        return self.also(Edit("", asked_words(word), _origin(word)), pins=kept)

    def switch_off(self, name: str) -> Changed:
        """A switch back at Megatron's default, and with it the others that the same memory option sets."""
        settings, origin = self.problem.settings, self.problem.origin(name)
        alike = [other for other in settings.changed() if self.problem.origins.get(other) == origin]
        names = alike if option_behind(self.problem, name) else [name]
        defaults = {each: getattr(Settings(), each) for each in names}
        return self.also(Edit("", switch_words(self.problem, name), origin), settings=replace(settings, **defaults))

    def switched(self, text: str, **switches: Any) -> Changed:
        return self.also(Edit(text), settings=replace(self.problem.settings, **switches))


def without_pins(changed: Changed, released: Iterable[Rule]) -> Changed:
    """The problem without these words; no edit yet, because :func:`with_pins_as_in` says what to type instead."""
    gone = {id(rule) for rule in released}
    kept = tuple(pin for pin in changed.problem.pins if id(pin) not in gone)
    return Changed(replace(changed.problem, pins=kept), changed.edits)


def with_pins_as_in(changed: Changed, released: Iterable[Rule], layout: Layout, *, only_near: bool = False) -> Changed:
    """The problem with each released word moved to what ``layout`` has, or with ``only_near`` left out where that is far."""
    for rule in released:
        moved, text = _moved(rule, layout)
        if moved is None or (only_near and is_far(rule, layout)):
            changed = changed.also(Edit("", asked_words(rule), _origin(rule)))
            continue
        pins = (*changed.problem.pins, moved)
        if text == asked_words(rule):
            changed = Changed(replace(changed.problem, pins=pins), changed.edits)
        else:
            changed = changed.also(Edit(text, asked_words(rule), _origin(rule)), pins=pins)
    return changed


def asked_words(rule: Rule) -> str:
    """A pin or limit as the command line says it."""
    text = str(getattr(rule, "text", ""))
    return f"--limit '{text}'" if isinstance(rule, Limit) else f"--pin {text}"


def switch_words(problem: Problem, name: str) -> str:
    """A switch that the request sets, as the command line says it: a memory option, or a pin."""
    option = option_behind(problem, name)
    if option is not None:
        return option_words(problem.settings, option)
    spelling = spelling_of(name)
    two = spelling is not None and spelling.kind == "version 2"
    return f"--pin {name}={'2' if two else _word(getattr(problem.settings, name))}"


def _moved(rule: Rule, layout: Layout) -> tuple[Rule | None, str]:
    origin = _origin(rule)
    if isinstance(rule, PinCount):
        value = getattr(layout.recompute, rule.what)
        return (PinCount(rule.what, value, origin), f"--pin {rule.name}={value}") if value is not None else (None, "")
    if isinstance(rule, PinRecompute):
        word = layout.recompute.granularity or "none"
        return PinRecompute(word, origin), f"--pin recompute={word}"
    if isinstance(rule, Pin):
        name, value = rule.name, getattr(layout, rule.decision)
        return Pin(name, rule.decision, value, origin), f"--pin {name}={_word(value)}"
    if isinstance(rule, Limit):
        name, value = rule.name, getattr(layout, rule.decision) or 1
        comparison = rule.comparison[0] + "="
        return Limit(name, rule.decision, comparison, value, origin), f"--limit '{name}{comparison}{value}'"
    return None, ""


def _origin(rule: Rule) -> Origin:
    origin: Origin = getattr(rule, "origin", Origin("request", "request"))
    return origin


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
