"""How many layers full recompute by count is worth giving, on chunks of mean length."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, Stratum, mcore

__all__ = ["RULES"]


class CountInChunk(Rule):
    """Base of the rules about a count: ``count - allowed`` on every chunk is fewer layers than there are.

    ``counted`` is the property of a layout, and the solver's decision, that says the count.
    """

    stratum = Stratum.ADVICE
    kept_by_form = True
    noticed = Noticed.NEVER
    source = mcore("recompute.py", "checkpointed_forward")
    scope = ("pp", "vpp", "recompute")
    reads = ("num_layers",)
    counted: str
    allowed: int

    def holds(self, problem: Problem, layout: Layout) -> bool:
        count: int = getattr(layout, self.counted) - self.allowed
        return count * layout.pp * layout.chunks_per_rank < problem.model.num_layers

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        count = getattr(x, self.counted) - self.allowed
        if not isinstance(count, int) or count:
            model.at_most(a.mul(count, a.mul(x.pp, x.vpp)), problem.model.num_layers - 1)


class BlockLeavesSome(CountInChunk):
    """Block recompute leaves some layer alone: fewer layers than a chunk holds on the mean.

    With more, chunks are computed again whole, and uniform recompute says so.
    """

    id = "recompute.block-leaves-some"
    fix = "fewer recompute_num_layers, or recompute_method=uniform recompute_num_layers=1"
    example = "recompute_method=block recompute_num_layers=8 of 32 layers on pp=4"
    counted, allowed = "recompute_layers", 0

    def reason(self, problem: Problem, layout: Layout) -> str:
        chunks = layout.pp * layout.chunks_per_rank
        return (
            f"recompute_method=block recompute_num_layers={layout.recompute_layers} on {chunks} chunks is no less than the "
            f"{problem.model.num_layers} layers"
        )


class GroupInChunk(CountInChunk):
    """Uniform recompute goes in groups that a chunk of mean length holds.

    A group ends where its chunk ends: larger ones are the chunks themselves, and a smaller count says so.
    """

    id = "recompute.group-in-chunk"
    fix = "fewer recompute_num_layers"
    example = "recompute_method=uniform recompute_num_layers=9 of 32 layers on pp=4"
    counted, allowed = "recompute_group", 1

    def reason(self, problem: Problem, layout: Layout) -> str:
        chunks = layout.pp * layout.chunks_per_rank
        return (
            f"recompute_method=uniform recompute_num_layers={layout.recompute_group} is more than the "
            f"{problem.model.num_layers} layers have on each of {chunks} chunks"
        )


RULES = (BlockLeavesSome(), GroupInChunk())
