"""Sequence length and sequence parallelism."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, Stratum, bridge, mcore

__all__ = ["RULES"]


class ShardNeedsTensor(Rule):
    """Sequence parallelism needs tensor parallelism: tp > 1.

    Megatron-Core raises; Megatron Bridge silently turns it off, and so does ``check``, with a warning.
    """

    id = "sequence.sp-needs-tp"
    noticed = Noticed.CONFIG
    source = mcore("model_parallel_config.py", "ModelParallelConfig.__post_init__")
    scope = ("sequence_parallel", "tp")
    fix = "sequence_parallel=false, or tp > 1"
    example = "sequence_parallel=True with tp=1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.tp > 1 or not layout.sequence_parallel

    def post(self, model: Builder, problem: Problem) -> None:
        model.at_most(model.x.sequence_parallel, model.x.tp - 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return "sequence_parallel=True with tp=1: there is nothing to split over"


class ShardDivides(Rule):
    """With sequence parallelism each context rank's tokens split evenly over tensor ranks: seq mod (tp * cp) = 0."""

    id = "sequence.seq-tp"
    noticed = Noticed.STEP
    source = mcore("tensor_parallel/mappings.py", "_split_along_first_dim")
    scope = ("sequence_parallel", "tp", "cp")
    reads = ("seq_length",)
    fix = "a sequence length that is a multiple of tp*cp, or a smaller tp or cp"
    example = "sequence length 8196 with tp=8: 8196 mod 8 = 4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.sequence_parallel or problem.seq_length % (layout.tp * layout.cp) == 0

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        model.divides(a.mul(x.tp, x.cp), problem.seq_length, when=model.is_true("sequence_parallel"))

    def reason(self, problem: Problem, layout: Layout) -> str:
        ranks, seq = layout.tp * layout.cp, problem.seq_length
        return (
            f"sequence length {seq} over tp*cp = {layout.tp}*{layout.cp} = {ranks}: {seq} mod {ranks} = {seq % ranks}"
        )


class ShardWherePossible(Rule):
    """A tensor-parallel layout uses sequence parallelism wherever the sequence divides; without it norms are replicated.

    A pin on ``sp`` is the user's own decision and switches this advice off.
    """

    id = "sequence.sp-where-possible"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("tensor_parallel/mappings.py", "gather_from_sequence_parallel_region")
    scope = ("sequence_parallel", "tp", "cp")
    reads = ("seq_length",)
    fix = "sequence_parallel=true"
    example = "tp=4 with sequence_parallel=False at sequence length 4096"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if layout.sequence_parallel or layout.tp == 1 or problem.seq_length % (layout.tp * layout.cp):
            return True
        return problem.pinned("sequence_parallel")

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.pinned("sequence_parallel"):
            return
        a, x = model.arithmetic, model.x
        remainder = model.remainder(problem.seq_length, a.mul(x.tp, x.cp))
        model.at_most(1, x.sequence_parallel + remainder, when=model.above_one("tp"))

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"tp={layout.tp} without sequence parallelism keeps every norm and residual {layout.tp} times: "
            "set sequence_parallel=True"
        )


class DatasetLength(SettingsRule):
    """The model's and the dataset's sequence lengths are the same."""

    id = "sequence.seq-dataset"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.validate")
    reads = ("seq_length", "dataset_seq_length")
    fix = "dataset.seq_length equal to model.seq_length"
    example = "model.seq_length=8192 dataset.seq_length=4096"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.settings.dataset_seq_length in (None, problem.seq_length)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"model.seq_length={problem.seq_length}, dataset.seq_length={layout.settings.dataset_seq_length}"


class LengthWithinPositions(SettingsRule):
    """The sequence is no longer than the model's position range."""

    id = "sequence.max-positions"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("models/common/embeddings/rotary_pos_embedding.py", "RotaryEmbedding.forward")
    reads = ("seq_length", "max_position_embeddings")
    enforced_by_solve = False
    fix = "a shorter sequence, or a model whose rotary scaling is made for this length"
    example = "a model made for 8192 positions at sequence length 32768"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return problem.model.max_position_embeddings is None or (
            problem.seq_length <= problem.model.max_position_embeddings
        )

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"sequence length {problem.seq_length} beyond {problem.model.max_position_embeddings} positions"


RULES = (ShardNeedsTensor(), ShardDivides(), ShardWherePossible(), DatasetLength(), LengthWithinPositions())
