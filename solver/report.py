"""What ``solve`` came to, as one object; ``to_mapping`` is its JSON, the command line's text is made from it too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from constraints.problem import Problem
from solver.answer import Answer, gib
from solver.neighbours import Neighbour, neighbours
from solver.proof import COUNTS, Proof, proof_by_search
from solver.refutation import Refutation
from solver.schema import SCHEMA
from solver.verdict import plain

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """What a request came to.

    ``status`` is optimal, feasible (time ran out), infeasible or unknown; ``refutation`` says why there is no layout
    (infeasible only); ``asked`` the problem as asked, with every GPU. ``wall_seconds`` is ``None`` where the answer is to
    be the same whenever it is asked for.
    """

    status: str
    asked: Problem
    answers: tuple[Answer, ...]
    objective_value: float | int | None
    objective_unit: str
    refutation: Refutation | None
    solver_version: str
    wall_seconds: float | None
    certified: Proof | None = None
    """Where no layout is better than the first, and a certificate of that was checked: what it proves by."""
    counts_weighed: bool = True
    """False if some layouts with recompute by count that may be better were not tried."""
    gpus_weighed: tuple[int, ...] = ()
    """Where GPUs may stay idle: the counts of which the answer's is the best, the largest that has a layout first."""

    @property
    def proof(self) -> Proof | None:
        """How the status is known: of the first layout that none is better, or that there is none; ``None`` if it is not."""
        if self.refutation is not None:
            return self.refutation.proof
        if self.certified is None and self.status == "optimal":
            layouts = (answer.layout for answer in self.answers)
            return proof_by_search(layouts, aside="" if self.counts_weighed else COUNTS)
        return self.certified

    @cached_property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """What one degree more or less would cost, for the best layout; only where step time was asked for."""
        if not self.answers or self.asked.objective != "step-time":
            return ()
        return neighbours(replace(self.asked, gpus=self.answers[0].layout.gpus), self.answers[0].layout)

    def to_mapping(self) -> dict[str, Any]:
        """The JSON of ``solve``, schema ``meshwright/1``."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "request": self._request(),
            "objective": {
                "name": self.asked.objective,
                "value": self.objective_value,
                "unit": self.objective_unit,
            },
            "layouts": [answer.to_mapping(rank) for rank, answer in enumerate(self.answers, start=1)],
            "neighbours": [neighbour.to_mapping() for neighbour in self.neighbours],
            "explanation": self.refutation.to_mapping() if self.refutation else None,
            "solver": {
                "name": "cp-sat",
                "version": self.solver_version,
                "wall_seconds": None if self.wall_seconds is None else round(self.wall_seconds, 3),
                "proof": self.proof.level if self.proof else None,
                "proof_steps": (self.proof.steps or None) if self.proof else None,
                "proof_leaves_aside": [self.proof.aside] if self.proof and self.proof.aside else [],
                "gpus_weighed": list(self.gpus_weighed),
            },
        }

    def _request(self) -> dict[str, Any]:
        """Every value of the problem with its origin."""
        problem = self.asked
        values = {
            "model": problem.model.name,
            "gpu": problem.gpu.name,
            "gpus": problem.gpus,
            "gpus_per_node": problem.gpus_per_node,
            "nvlink_domain": problem.nvlink_domain,
            "memory_gib": gib(problem.budget_bytes),
            "seq_length": problem.seq_length,
            "global_batch_size": problem.global_batch_size,
            "precision": problem.precision,
            "task": problem.task,
            "objective": problem.objective,
            "stack": problem.stack,
            "megatron": problem.megatron,
            "mtp_num_layers": problem.model.mtp_num_layers,
        }
        out = {name: {"value": plain(value), "origin": str(problem.origin(name))} for name, value in values.items()}
        for pin in problem.pins:
            out[pin.id] = {"value": pin.statement, "origin": str(getattr(pin, "origin", "request"))}
        return out
