"""Why there is no layout, in two to six steps with the numbers in them: each from a rule, its source and its origins.

A conflict is minimal, so each of its rules has a witness that keeps all the others. What the rule says of that witness is
its step: without the rule this layout would do, and these are the numbers that forbid it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import CAPACITY, memory_report
from constraints.problem import GIB, Origin, Problem
from constraints.refutation.space import divisors, values_of_decisions
from constraints.rule import Rule, Stratum
from solver.explain import Minimal
from solver.feasibility import Nearest, least_memory

__all__ = ["Step", "steps_of", "told_by_witness"]

MOST_LISTED = 6
MESHES = {"mesh.world-dense": ("tp", "pp", "cp", "dp"), "mesh.world-expert": ("etp", "ep", "edp", "pp")}
BATCH = "batch.gbs"
CHOSEN = Origin("derived", "the nearest that the other rules leave")
SHORT = {"micro_batch_size": "mbs", "num_microbatches": "m", "sequence_parallel": "sp", "global_batch_size": "gbs"}


@dataclass(frozen=True)
class Step:
    """One sentence, the rules that it rests on, and its values with their origins."""

    text: str
    rules: tuple[Rule, ...]
    values: Mapping[str, Any]
    origins: Mapping[str, Origin]

    def to_mapping(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "rules": [rule.id for rule in self.rules],
            "sources": [str(rule.source) for rule in self.rules if rule.source],
            "facts": {
                name: {"value": _plain(value), "origin": str(self.origins[name])} for name, value in self.values.items()
            },
        }


def steps_of(problem: Problem, conflict: Minimal) -> tuple[Step, ...]:
    """The steps of one conflict: what was asked, what follows for the degrees, and where that ends."""
    pins = [rule for rule in conflict.rules if rule.stratum is Stratum.PIN]
    rest = _asked_of_nobody(conflict)
    closing = _closing(rest)
    steps = []
    if pins:
        steps.append(_asked(pins))
    steps += [_step(problem, rule, conflict) for rule in rest if rule is not closing]
    if closing is not None:
        steps.append(_last(problem, closing, conflict))
    return tuple(steps)


def told_by_witness(conflict: Minimal) -> list[str]:
    """The rules whose step tells of the layout that keeps all others: not the user's words, nor how GPUs are dealt out."""
    rest = _asked_of_nobody(conflict)
    closing = _closing(rest)
    return [rule.id for rule in rest if rule is closing or rule.id not in MESHES]


def _asked_of_nobody(conflict: Minimal) -> list[Rule]:
    """The rules that are no words of the user's."""
    return [rule for rule in conflict.rules if rule.stratum is not Stratum.PIN]


def _closing(rules: list[Rule]) -> Rule | None:
    """The rule that the others run into: memory, else the most particular one; a world law only if nothing else is there."""
    for rule in rules:
        if rule.id == CAPACITY:
            return rule
    counts = any("num_microbatches" in rule.scope for rule in rules if rule.id != BATCH)
    particular = [rule for rule in rules if rule.id not in MESHES and not (counts and rule.id == BATCH)]
    ordered = particular or rules
    return ordered[-1] if ordered else None


def _asked(pins: list[Rule]) -> Step:
    words = [str(getattr(pin, "text", pin.id)) for pin in pins]
    values = {pin.id: str(getattr(pin, "text", "")) for pin in pins}
    origins = {pin.id: getattr(pin, "origin", CHOSEN) for pin in pins}
    return Step(f"you asked for {listed(words)}", tuple(pins), values, origins)


def _step(problem: Problem, rule: Rule, conflict: Minimal) -> Step:
    witness = conflict.witnesses[rule.id]
    if rule.id in MESHES:
        return _mesh_step(problem, rule)
    if rule.id == BATCH and problem.global_batch_size is not None and rule is not _closing(_asked_of_nobody(conflict)):
        return _batch_step(problem, rule, conflict)
    fact = rule.why(problem, witness)
    assert fact is not None, f"{rule.id} holds on the witness that was to break it"
    return Step(
        fact.text + _siblings(problem, rule, witness, conflict),
        (rule,),
        fact.values,
        _origins(problem, rule, conflict),
    )


def _mesh_step(problem: Problem, rule: Rule) -> Step:
    gpus, degrees = problem.gpus, MESHES[rule.id]
    product = "*".join(degrees)
    of = divisors(gpus)
    if gpus == 1:
        text = f"{product} = 1: there is one GPU"
    elif len(of) == 2:
        text = f"{product} = {gpus}, a prime: one of them is {gpus} and the others are 1"
    else:
        factors = factorised(gpus)
        shown = f" = {factors}" if factors != str(gpus) else ""
        text = f"{product} = {gpus}{shown}: each of them divides {gpus}"
    return Step(text, (rule,), {"gpus": gpus}, {"gpus": problem.origin("gpus")})


def _batch_step(problem: Problem, rule: Rule, conflict: Minimal) -> Step:
    """How many micro-batches the batch makes, where another rule is about their number."""
    batch, dp = problem.global_batch_size, conflict.witnesses[rule.id].dp
    fixed = [pin for pin in conflict.rules if pin.scope == ("dp",) and pin.stratum is Stratum.PIN]
    at = f": at dp={dp} at most {batch // dp}" if fixed and batch is not None else ""
    text = f"global batch {batch} = micro-batch * dp * micro-batches{at}"
    return Step(text, (rule,), {"global_batch_size": batch}, {"global_batch_size": problem.origin("global_batch_size")})


def _last(problem: Problem, rule: Rule, conflict: Minimal) -> Step:
    if rule.id == CAPACITY:
        pins = tuple(pin for pin in problem.pins if pin.id in conflict.ids)
        return _memory_step(problem, rule, least_memory(replace(problem, pins=pins)), conflict)
    if rule.id in MESHES:
        fact = rule.why(problem, conflict.witnesses[rule.id])
        assert fact is not None, f"{rule.id} holds on the witness that was to break it"
        return Step(fact.text, (rule,), fact.values, _origins(problem, rule, conflict))
    return _step(problem, rule, conflict)


def _memory_step(problem: Problem, rule: Rule, nearest: Nearest | None, conflict: Minimal) -> Step:
    """``nearest`` is the layout nearest to fitting under the pins of the conflict, if any keeps the other rules."""
    layout = nearest.layout if nearest is not None else conflict.witnesses[rule.id]
    report = memory_report(problem, layout)
    assert report is not None, "a layout that breaks the memory rule places its layers"
    parts = report.fullest.components
    stored = sum(parts.get(name, 0) for name in ("parameters", "gradients", "optimizer"))
    words = degree_words(problem, layout)
    which = "one of those left"
    if nearest is not None:
        which = (
            "the layout nearest to fitting"
            if nearest.proved
            else "of the layouts looked at, the one nearest to fitting"
        )
    text = (
        f"{which} ({words}) needs up to {gib(report.high_bytes)} GiB on its fullest stage, {gib(stored)} of it parameters, "
        f"gradients and optimizer state; {gib(report.budget_bytes)} are usable"
    )
    values = {"high_gib": round(report.high_bytes / GIB, 1), "budget_gib": round(report.budget_bytes / GIB, 1)}
    origins = {"high_gib": CHOSEN, "budget_gib": problem.origin("budget_bytes")}
    return Step(text, (rule,), values, origins)


def _siblings(problem: Problem, rule: Rule, witness: Layout, conflict: Minimal) -> str:
    """The other values of the one decision that the rule reads that it refuses as well: "likewise tp = 3, 6"."""
    if len(rule.scope) != 1 or rule.scope[0] in ("recompute", "vpp", "sequence_parallel"):
        return ""
    (decision,) = rule.scope
    if any(decision in other.scope for other in conflict.rules if other.stratum is Stratum.PIN):
        return ""
    shown = getattr(witness, decision)
    of_world = any(decision in MESHES.get(other, ()) for other in conflict.ids)
    values = values_of_decisions(problem, wide=False).get(decision, []) if of_world else []
    refused = [v for v in values if v != shown and not rule.holds(problem, _with(witness, decision, v))]
    return f"; likewise {SHORT.get(decision, decision)} = {few(refused)}" if refused else ""


def _with(layout: Layout, decision: str, value: int) -> Layout:
    changes: dict[str, Any] = {decision: value}
    return replace(layout, **changes)


def _origins(problem: Problem, rule: Rule, conflict: Minimal) -> dict[str, Origin]:
    """Values come from where the problem says; a decision from the pin that fixed it, else it was chosen as an example."""
    asked = {pin.scope[0]: getattr(pin, "origin", CHOSEN) for pin in conflict.rules if pin.stratum is Stratum.PIN}
    given = {"global_batch_size": problem.origin("global_batch_size")} if problem.global_batch_size else {}
    decisions = {name: asked.get(name) or given.get(name) or CHOSEN for name in rule.scope}
    return {**{name: problem.origin(name) for name in rule.reads}, **decisions}


def degree_words(problem: Problem, layout: Layout) -> str:
    """The degrees of a layout in the words that ``check`` reads; only those that say something."""
    words = [f"{name}={getattr(layout, name)}" for name in ("tp", "pp")]
    words += [f"vpp={layout.vpp}"] if layout.vpp else []
    words += [f"cp={layout.cp}"] if layout.cp > 1 else []
    words += [f"ep={layout.ep}", f"etp={layout.etp}"] if problem.model.is_moe else []
    words += [f"dp={layout.dp}", f"mbs={layout.micro_batch_size}", f"gbs={layout.global_batch_size}"]
    words += [f"recompute={layout.recompute.granularity}"] if layout.recompute.granularity else []
    if layout.recompute.by_chunk:
        words.append(f"recompute_method={layout.recompute.method} recompute_num_layers={layout.recompute.num_layers}")
    return " ".join(words)


def listed(words: Iterable[str]) -> str:
    """``a, b and c``."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def few(values: Iterable[int]) -> str:
    """Up to six values, then how many more there are.

    >>> few(range(1, 10))
    '1, 2, 3, 4, 5 and 4 more'
    """
    shown = [str(value) for value in values]
    if len(shown) <= MOST_LISTED:
        return ", ".join(shown)
    return f"{', '.join(shown[: MOST_LISTED - 1])} and {len(shown) - MOST_LISTED + 1} more"


def factorised(number: int) -> str:
    """Prime factors as a person writes them.

    >>> factorised(1000), factorised(127), factorised(96)
    ('2^3 * 5^3', '127', '2^5 * 3')
    """
    factors, rest, prime = [], number, 2
    while rest > 1:
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        if power:
            factors.append(f"{prime}^{power}" if power > 1 else str(prime))
        prime = prime + 1 if prime * prime <= rest else max(rest, 2)
    return " * ".join(factors) or "1"


def gib(size: int) -> str:
    return f"{size / GIB:.1f}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool | None) else str(value)
