"""What ``solve`` asks of a split beside what Megatron asks: chunks that balance, and the ends of the model together."""

from __future__ import annotations

from collections.abc import Iterator

from constraints.layout import Layout, PipelineSplit
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.problem import Problem
from constraints.rule import Noticed, Stratum, mcore
from constraints.stages import SplitRule
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]


class EvenChunks(SplitRule):
    """The chunks of a pipeline rank hold as many layers as each other or one more; the last of all may hold fewer.

    Megatron takes any split. How long a step takes is known for ranks whose chunks are alike
    (:mod:`constraints.timing.pipeline`): the interleaved schedule runs a chunk of one rank beside another chunk of the next.
    """

    id = "pipeline.even-chunks"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("pipeline_parallel/schedules.py", "forward_backward_pipelining_with_interleaving")
    fix = "a pipeline_model_parallel_layout whose chunks differ by one layer at most inside a rank"
    example = "Et*2|t*2|t*6|t*6L on pp=2: the first rank has chunks of 2 and 6 layers"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return next(self._uneven(model, pp, vpp, split), None) is None

    def _uneven(
        self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit
    ) -> Iterator[tuple[int, list[int]]]:
        """Ranks whose chunks differ by more than a layer, with their lengths."""
        assignment = assignment_of(model, pp, vpp or 1, split)
        if assignment is None:
            return
        for rank in range(pp):
            lengths = [chunk.layers for chunk in assignment.of_rank(rank)]
            compared = lengths[:-1] if rank == pp - 1 and len(lengths) > 1 else lengths
            if max(compared) - min(compared) > 1 or max(lengths) > min(compared) + 1:
                yield rank, lengths

    def reason(self, problem: Problem, layout: Layout) -> str:
        rank, lengths = next(self._uneven(problem.model, layout.pp, layout.vpp, layout.split))
        return f"pipeline rank {rank} has chunks of {', '.join(map(str, lengths))} layers"


class MtpWithLoss(SplitRule):
    """The MTP layers are in the chunk that computes the loss: elsewhere they need an embedding and a head of their own."""

    id = "pipeline.mtp-with-loss"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = mcore("transformer/multi_token_prediction.py", "MultiTokenPredictionBlock")
    reads = ("num_layers", "mtp_num_layers")
    fix = "a layout that ends in mL"
    example = "Et*4|t*4m|L on pp=3"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        assignment = assignment_of(model, pp, vpp or 1, split)
        return assignment is None or self._away(assignment) is None

    def _away(self, assignment: Assignment) -> int | None:
        """The rank, other than the loss's chunk, that holds MTP layers."""
        away = (i for i, chunk in enumerate(assignment.chunks) if chunk.mtp and not chunk.loss)
        return next((i % assignment.pp for i in away), None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        assignment = assignment_of(problem.model, layout.pp, layout.chunks_per_rank, layout.split)
        assert assignment is not None  # holds() is true otherwise
        return f"pipeline rank {self._away(assignment)} holds MTP layers, the loss is on rank {layout.pp - 1}"


RULES = (EvenChunks(), MtpWithLoss())
