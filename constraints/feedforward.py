"""Dense feed-forward width and vocabulary over tensor ranks. Only MTP splits the hidden size."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]


class FeedForwardOverTensor(Rule):
    """A dense feed-forward layer splits evenly over tensor ranks: ffn_hidden_size mod tp = 0 (if any layer is dense)."""

    id = "feedforward.ffn-tp"
    noticed = Noticed.BUILD
    source = mcore("tensor_parallel/layers.py", "RowParallelLinear.__init__")
    scope = ("tp",)
    reads = ("ffn_hidden_size",)
    fix = "a tp that divides ffn_hidden_size"
    example = "ffn_hidden_size 14337 with tp=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not problem.model.has_dense_feedforward or problem.model.ffn % layout.tp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.model.has_dense_feedforward:
            model.allow("tp", lambda tp: problem.model.ffn % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        ffn = problem.model.ffn
        return f"ffn_hidden_size {ffn} over tp={layout.tp}: {ffn} mod {layout.tp} = {ffn % layout.tp}"


class VocabularyOverTensor(Rule):
    """An unpadded vocabulary splits evenly over tensor ranks; a padded one (the default) always does."""

    id = "feedforward.vocab-pad"
    noticed = Noticed.BUILD
    source = mcore("tensor_parallel/utils.py", "VocabUtility.vocab_range_from_global_vocab_size")
    scope = ("tp",)
    reads = ("vocab_size", "should_pad_vocab")
    fix = "model.should_pad_vocab=true, or a tp that divides the vocabulary"
    example = "should_pad_vocab=False, 50257 rows, tp=8"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return problem.model.should_pad_vocab or problem.model.vocab_size % layout.tp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if not problem.model.should_pad_vocab:
            model.allow("tp", lambda tp: problem.model.vocab_size % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        rows = problem.model.vocab_size
        return (
            f"vocab_size {rows} over tp={layout.tp} without padding: {rows} mod {layout.tp} = {rows % layout.tp}; "
            "set should_pad_vocab=True"
        )


class PredictionOverTensor(Rule):
    """The projection in front of an MTP layer splits evenly over tensor ranks: hidden_size mod tp = 0 (if MTP is on).

    It is the one place where the hidden size is cut: an output of that width, gathered again.
    """

    id = "feedforward.mtp-tp"
    noticed = Noticed.BUILD
    source = mcore("transformer/multi_token_prediction.py", "MultiTokenPredictionLayer.__init__")
    scope = ("tp",)
    reads = ("hidden_size", "mtp_num_layers", "hybrid_override_pattern")
    fix = "a tp that divides hidden_size, or no multi-token prediction"
    example = "hidden_size 2880 with mtp_num_layers=1 and tp=7: 2880 mod 7 = 3"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not self._predicts(problem.model) or problem.model.hidden_size % layout.tp == 0

    def _predicts(self, model: ModelSpec) -> bool:
        """A hybrid model builds MTP layers only from a part of its pattern."""
        return model.mtp_layers > 0 and (not model.is_hybrid or "/" in (model.hybrid_override_pattern or ""))

    def post(self, model: Builder, problem: Problem) -> None:
        if self._predicts(problem.model):
            model.allow("tp", lambda tp: problem.model.hidden_size % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        hidden, tp = problem.model.hidden_size, layout.tp
        return f"hidden_size {hidden} over tp={tp} in front of an MTP layer: {hidden} mod {tp} = {hidden % tp}"


RULES = (FeedForwardOverTensor(), VocabularyOverTensor(), PredictionOverTensor())
