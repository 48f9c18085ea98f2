"""A step's time as text: the rate with its uncertainty, and where the step goes."""

from __future__ import annotations

from collections.abc import Iterable

from cli.text.page import Page
from solver.answer import Answer
from solver.neighbours import Neighbour

__all__ = ["neighbour_entries", "seconds", "time_entries"]

LEAST_SHARE = 0.005
"""Parts of a step smaller than this are left out."""


def seconds(ns: float) -> str:
    """Nanoseconds as a short text in s or ms."""
    return f"{ns / 1e9:.2f} s" if ns >= 10**9 else f"{ns / 1e6:.1f} ms"


def time_entries(page: Page, answer: Answer, *, brief: bool) -> None:
    """Two entries: the step and its rates, and its parts."""
    timing = answer.timing
    step = timing.step
    page.entry(
        "step",
        f"{seconds(step.step_ns)} (within {timing.error:.0%}, as nine in ten measured runs of its kind), "
        f"{timing.tokens_per_second_per_gpu:,.0f} tokens/s a GPU, {timing.model_flops_per_gpu / 1e12:,.0f} model TFLOP/s, "
        f"MFU {timing.mfu:.1%}",
    )
    if brief:
        return
    parts = [("compute", step.compute_ns), ("bubble", step.bubble_ns)]
    parts += [(f"exposed {group}", time) for group, time in step.exposed_ns.items()]
    parts += [("host", step.host_ns), ("optimizer", step.optimizer_ns), ("fixed", step.fixed_ns)]
    shown = [f"{name} {time / step.step_ns:.0%}" for name, time in parts if time >= LEAST_SHARE * step.step_ns]
    waits = "; schedule played through: waits for longer chunks are in the bubble" if step.played else ""
    page.entry("", ", ".join(shown) + f"{waits}; software of NeMo {timing.stack} and later")


def neighbour_entries(page: Page, neighbours: Iterable[Neighbour]) -> None:
    """What each neighbour would cost, cheapest first; those that cannot be are left out."""
    possible = sorted((n for n in neighbours if n.slower is not None), key=lambda n: n.slower or 0.0)
    for i, neighbour in enumerate(possible):
        name = "mbs" if neighbour.decision == "micro_batch_size" else neighbour.decision
        page.entry(
            "nearby" if i == 0 else "",
            f"{name}={neighbour.value} instead of {neighbour.instead_of}: {neighbour.slower:+.1%} ({neighbour.why})",
        )
