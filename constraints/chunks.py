"""What ``solve`` asks of a split beside what Megatron asks: chunks that balance, and the ends of the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from constraints.layout import Layout, PipelineSplit
from constraints.partition.kinds import runs_of
from constraints.pipeline.assignment import Assignment, assignment_of
from constraints.problem import Problem
from constraints.rule import Noticed, Stratum, mcore
from constraints.stages import SplitRule
from models_catalog.schema import ModelSpec

__all__ = ["RULES", "EvenChunks"]


def _unlike(lengths: Sequence[int], rank: int, pp: int) -> int:
    """By how many layers chunks of these lengths are not alike, those apart that may differ: the first of rank 0 by one, the
    last of the last rank by being shorter.

    >>> _unlike([2, 1, 1], 0, 4), _unlike([1, 1, 2], 1, 4), _unlike([2, 2, 0], 3, 4), _unlike([1, 2, 1], 2, 4)
    (0, 1, 0, 2)
    """
    first, *others = lengths
    if not others:
        return 0
    if rank == 0:
        return 2 * (len(set(others)) > 1 or abs(first - others[0]) > 1)
    *before, last = lengths
    if len(set(before)) > 1:
        return 2
    return max(0, last - first) if rank == pp - 1 else abs(last - first) + (last < first)


class EvenChunks(SplitRule):
    """The chunks of a pipeline rank are alike, the very first, the very last and one other apart.

    They hold as many layers as each other. The very first may hold one more or less, the very last any number less, and the
    last chunk of one rank between the ends one more, if it has none of the layers that a model begins with and that differ
    from the others. Megatron takes any split. But the interleaved schedule runs a chunk of one rank beside other chunks of
    the next: with one layer more in every second chunk each rank waits for the others, mostly 5 to 25 % of the step. The
    search has no form for that; ``check`` plays the schedule through.
    """

    id = "pipeline.even-chunks"
    stratum = Stratum.ADVICE
    kept_by_form = True
    noticed = Noticed.NEVER
    source = mcore("pipeline_parallel/schedules.py", "forward_backward_pipelining_with_interleaving")
    fix = "a pipeline_model_parallel_layout whose chunks are alike inside a rank, or another vpp"
    example = "Et*2|t*2|t*6|t*6L on pp=2: the first rank has chunks of 2 and 6 layers"

    def accepts(self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit) -> bool:
        return next(self._uneven(model, pp, vpp, split), None) is None

    def _uneven(
        self, model: ModelSpec, pp: int, vpp: int | None, split: PipelineSplit
    ) -> Iterator[tuple[int, list[int]]]:
        """Ranks whose chunks differ more than they may, with their lengths."""
        assignment = assignment_of(model, pp, vpp or 1, split)
        if assignment is None or pp == 1:
            return
        runs, spare = runs_of(model), 1
        for rank in range(pp):
            chunks = assignment.of_rank(rank)
            lengths = [chunk.layers for chunk in chunks]
            by = _unlike(lengths, rank, pp)
            early = runs is not None and any(chunk.layers and chunk.start < runs.prefix for chunk in chunks)
            if by > spare or (by and (rank == pp - 1 or early)):
                yield rank, lengths
            spare -= by

    def reason(self, problem: Problem, layout: Layout) -> str:
        rank, lengths = next(self._uneven(problem.model, layout.pp, layout.vpp, layout.split))
        several = ", ".join(map(str, lengths))
        return f"pipeline rank {rank} has chunks of {several} layers: ranks wait for each other's longer ones"


class MtpWithLoss(SplitRule):
    """The MTP layers are in the chunk that computes the loss: elsewhere they need an embedding and a head of their own."""

    id = "pipeline.mtp-with-loss"
    stratum = Stratum.ADVICE
    kept_by_form = True
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
