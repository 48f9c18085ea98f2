"""A whole layout from some of its degrees: what follows from them, as Megatron reckons it or as ``solve`` chooses it."""

from __future__ import annotations

from dataclasses import replace

from constraints.batch_choice import chosen_microbatches
from constraints.layout import Layout, PipelineSplit
from constraints.partition.fitting import some_partition
from constraints.partition.search import best_partition
from constraints.pipeline.placement import place
from constraints.problem import Problem

__all__ = ["best_split", "completed", "placed", "placed_somewhere", "some_split"]


def completed(problem: Problem, x: Layout, batch: int | None) -> Layout | str:
    """``x`` with dp, edp and the micro-batches that its other degrees leave, or why there are none.

    ``batch`` is the global batch to keep; ``None``: the one nearest to the target. Nothing is asked of any rule.
    """
    ranks, expert_ranks = x.tp * x.cp * x.pp, x.etp * x.ep * x.pp
    if x.gpus % ranks or x.gpus % expert_ranks:
        return "the degrees do not divide the GPUs"
    dp = x.gpus // ranks
    unit = dp * x.micro_batch_size
    if batch is None:
        multiple = x.microbatch_group if x.interleaved else 1
        count = chosen_microbatches(problem.target_sequences, dp, x.micro_batch_size, multiple)
    else:
        count, rest = divmod(batch, unit)
        if rest or not count:
            return "the batch does not come out"
    return replace(
        x, dp=dp, edp=x.gpus // expert_ranks, num_microbatches=count, global_batch_size=batch or count * unit
    )


def placed(
    problem: Problem,
    x: Layout,
    objective: str | None = None,
    *,
    fitting: bool = True,
    most_held: int | None = None,
) -> Layout | None:
    """``x`` with its layers placed as ``objective`` (the problem's unless given) likes best; ``None`` if they do not fit.

    Without ``fitting`` memory is not asked about; ``most_held`` bounds it beside (100 times bytes, estimated high).
    """
    found = best_partition(problem, x, objective, fitting=fitting, most_held=most_held)
    return None if found is None else replace(x, split=found.split)


def placed_somewhere(problem: Problem, x: Layout, *, fitting: bool = True) -> Layout | None:
    """``x`` with its layers where they fit, as good as it comes; ``None`` if they fit nowhere. Far less work than the best
    place, where only that there is one matters."""
    found = some_partition(problem, x, fitting=fitting)
    return None if found is None else replace(x, split=found.split)


def best_split(problem: Problem, x: Layout, objective: str | None = None) -> PipelineSplit | None:
    """Where ``solve`` would put the layers on these stages, or would if they fitted; ``None`` if there are not layers
    enough, or no form says it."""
    if x.pp * x.chunks_per_rank > problem.model.num_layers:
        return None
    found = placed(problem, x, objective) or placed(problem, x, objective, fitting=False)
    return None if found is None else found.split


def some_split(problem: Problem, x: Layout) -> PipelineSplit | None:
    """Some split of the layers over these stages, for rules that ask no more than whether there is one."""
    if x.pp * x.chunks_per_rank > problem.model.num_layers:
        return None
    found = place(problem.model, x.pp, x.chunks_per_rank)
    return found[1] if found is not None else None
