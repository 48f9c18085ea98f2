"""What is said of a proof, in words."""

from __future__ import annotations

from solver.proof import Proof

__all__ = ["best_words", "steps_of"]


def steps_of(proof: Proof) -> str:
    """How many steps it has, and how many of them are about the layers."""
    steps = f"{proof.steps} steps" if proof.steps > 1 else "one step"
    if not proof.over_partitions:
        return steps
    if proof.over_partitions == proof.steps:
        return f"{steps}, over every partition of the layers"
    return f"{steps}, {proof.over_partitions} of them over every partition of the layers"


def best_words(proof: Proof) -> str:
    """How it is known that no layout is better."""
    aside = f", {proof.aside} aside" if proof.aside else ""
    if proof.steps:
        shown = f"shown in {steps_of(proof)}, and checked without the solver"
        return f"{proof.level}: no layout is better{aside}, {shown}"
    if proof.level == "partition":
        layers = "the programme over partitions no better place for the layers"
        return f"partition: CP-SAT leaves no better degrees, {layers}{aside}"
    return f"solver: CP-SAT leaves no better layout{aside}"
