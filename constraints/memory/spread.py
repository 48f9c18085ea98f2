"""The fewest GPUs on which a model's state could lie at all: what one GPU would hold by itself, spread evenly over them."""

from __future__ import annotations

from bisect import bisect_left

from constraints.arithmetic import Integers
from constraints.layout import Layout
from constraints.memory.budget import capacity_bound, layout_stages
from constraints.memory.overhead import LOW_PERCENT, high_bytes
from constraints.memory.stage import static_components
from constraints.problem import Problem

__all__ = ["fewest_gpus"]

LARGEST_GPUS = 10_000_000
INTEGERS = Integers()


def fewest_gpus(problem: Problem) -> int:
    """No layout on fewer GPUs keeps the memory rule.

    Parameters, gradients, optimizer state and buffers lie on some GPU at least once, however they are split. Activations
    and communicators are left out, so more GPUs may be needed: at 18 bytes a parameter the state of llama-3.1-70b, 1,183
    GiB, would lie on 16 H100.
    """
    alone = Layout(
        tp=1, pp=1, micro_batch_size=1, num_microbatches=1, global_batch_size=1, gpus=1, settings=problem.settings
    )
    stages = layout_stages(problem, alone)
    if stages is None:  # a model whose layers are cut for pipelines of one length only
        return 1
    state = sum(static_components(INTEGERS, problem, alone, stages[0]).values())

    def fits(gpus: int) -> bool:
        share = state // gpus
        held = share * LOW_PERCENT if problem.allow_borderline else high_bytes(INTEGERS, problem, alone, share)
        return bool(held <= capacity_bound(problem))

    return 1 + bisect_left(range(1, LARGEST_GPUS), True, key=fits)
