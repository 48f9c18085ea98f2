"""Context parallelism: how the sequence is cut over cp ranks, and what cannot be cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from constraints.generations import before
from constraints.layout import Layout, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, bridge, mcore

__all__ = ["LOSS_BY_TOKEN", "RULES", "ContextRule", "loss_as_left_out", "loss_as_said"]

FINE_TUNING = ("sft", "lora")

LOSS_BY_TOKEN: dict[str, Any] = {"calculate_per_token_loss": True, "average_in_collective": False}
"""What fine-tuning with cp > 1 needs of the loss. It follows from cp where nobody says otherwise: since generation 0.19
Bridge's runner sets both (NVIDIA-NeMo/Megatron-Bridge@067f987
``scripts/training/recipe_runner.py::sync_finetuning_cp_invariants``), and what ``solve`` answers says both."""


class ContextRule(Rule):
    """Base of the rules that forbid some values of cp and read nothing else of the layout but switches."""

    scope = ("cp",)

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        raise NotImplementedError

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self.fault(problem, layout.settings, layout.cp) is None

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("cp", lambda cp: self.fault(problem, problem.settings, cp) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self.fault(problem, layout.settings, layout.cp) or ""


class SequenceInChunks(ContextRule):
    """With cp > 1 the sequence is cut into 2*cp equal chunks, two a rank: seq mod (2*cp) = 0."""

    id = "context.seq-2cp"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.validate")
    reads = ("seq_length",)
    fix = "pad the sequence to a multiple of 2*cp, or a smaller cp"
    example = "sequence length 8200 with cp=8: 8200 mod 16 = 8"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        length = problem.seq_length
        if cp == 1 or length % (2 * cp) == 0:
            return None
        return f"sequence length {length} over 2*cp = 2*{cp} = {2 * cp}: {length} mod {2 * cp} = {length % (2 * cp)}"


class FineTuningLoss(ContextRule):
    """Fine-tuning with cp > 1 averages the loss by token: calculate_per_token_loss, and not average_in_collective.

    A rank may hold only masked tokens, and its own average would be 0/0. Switches that are not set follow from cp
    (:data:`LOSS_BY_TOKEN`).
    """

    id = "context.cp-sft"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.validate")
    reads = ("task", "calculate_per_token_loss", "average_in_collective")
    fix = "calculate_per_token_loss=true and average_in_collective=false"
    example = "--task sft with cp=2 and calculate_per_token_loss=False"

    def fault(self, problem: Problem, settings: Settings, cp: int) -> str | None:
        if not _loss_follows(problem, cp):
            return None
        for name, wanted in LOSS_BY_TOKEN.items():
            said = getattr(settings, name)
            if said not in (None, wanted):
                now, then = str(said).lower(), str(wanted).lower()
                return f"task {problem.task} with cp={cp} and {name}={now}: set {name}={then}"
        return None


def _loss_follows(problem: Problem, cp: int) -> bool:
    return cp > 1 and problem.task in FINE_TUNING


def loss_as_said(problem: Problem, layout: Layout) -> Settings:
    """The switches of ``layout`` as they are written down: those of the loss that follow from cp are said."""
    left_out = [name for name in LOSS_BY_TOKEN if getattr(layout.settings, name) is None]
    if not _loss_follows(problem, layout.cp) or not left_out:
        return layout.settings
    return replace(layout.settings, **{name: LOSS_BY_TOKEN[name] for name in left_out})


def loss_as_left_out(problem: Problem, settings: Settings) -> Settings:
    """``settings`` of a layout that somebody wrote, as Bridge takes what it leaves out of the loss: before generation 0.19
    nothing set it beside cp, and Bridge's own default is no loss by token."""
    follows = problem.task not in FINE_TUNING or not before(problem.megatron, "0.19")
    if follows or settings.calculate_per_token_loss is not None:
        return settings
    return replace(settings, calculate_per_token_loss=False)


class HybridContext(Rule):
    """Hybrid context parallelism pairs ranks: dp * cp is even."""

    id = "context.hybrid-cp"
    noticed = Noticed.GROUPS
    source = mcore("parallel_state.py", "initialize_model_parallel")
    scope = ("dp", "cp")
    reads = ("hybrid_context_parallel",)
    fix = "an even dp * cp, or hybrid_context_parallel=false"
    example = "hybrid_context_parallel=True with dp=3 cp=1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.settings.hybrid_context_parallel or layout.dp * layout.cp % 2 == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.settings.hybrid_context_parallel:
            model.divides(2, model.arithmetic.mul(model.x.dp, model.x.cp))

    def reason(self, problem: Problem, layout: Layout) -> str:
        ranks = layout.dp * layout.cp
        return f"hybrid_context_parallel=True with dp*cp = {layout.dp}*{layout.cp} = {ranks}, which is odd"


class PackedMicroBatch(Rule):
    """Sequences packed beforehand are one a micro-batch; packing inside the micro-batch needs at least two to pack.

    ``packed_sequences`` is ``offline`` or ``in-batch``.
    """

    id = "context.pack-mbs"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.validate")
    scope = ("micro_batch_size",)
    reads = ("packed_sequences",)
    fix = "micro_batch_size=1 for sequences packed beforehand, 2 or more for packing in the batch"
    example = "packed_sequences=offline with micro_batch_size=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._allows(layout.settings, layout.micro_batch_size)

    def _allows(self, settings: Settings, size: int) -> bool:
        packing = (settings.packed_sequences or "").replace("_", "-")
        return size > 1 if packing == "in-batch" else size == 1 or packing != "offline"

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("micro_batch_size", lambda size: self._allows(problem.settings, size))

    def reason(self, problem: Problem, layout: Layout) -> str:
        packing, size = layout.settings.packed_sequences, layout.micro_batch_size
        return f"{packing} packing with micro_batch_size={size}: set it to {1 if size > 1 else 2}"


RULES = (
    SequenceInChunks(),
    FineTuningLoss(),
    HybridContext(),
    PackedMicroBatch(),
)
