"""Virtual pipeline stages: when they may be used, and which micro-batch counts their schedule takes."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, mcore

__all__ = ["RULES", "schedule_takes"]


def schedule_takes(pp: int, group: int, microbatches: int) -> bool:
    """True if the interleaved schedule of ``pp`` ranks runs so many micro-batches, ``group`` at a time."""
    return pp <= group <= microbatches and (microbatches % group == 0 or microbatches % group >= pp)


class InterleavingNeedsPipeline(Rule):
    """Virtual pipeline stages need pp > 1."""

    id = "pipeline.vpp-needs-pp"
    noticed = Noticed.GROUPS
    source = mcore("parallel_state.py", "initialize_model_parallel")
    scope = ("pp", "vpp")
    example = "vpp=2 with pp=1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.vpp is None or layout.pp > 1

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow_shapes(lambda shape: shape.vpp is None or shape.pp > 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"vpp={layout.vpp} with pp=1: set virtual_pipeline_model_parallel_size=null"


class InterleavedMicroBatches(Rule):
    """Interleaved, G micro-batches at a time (default G = pp): pp <= G <= M, and M mod G is 0 or at least pp.

    It holds for vpp=1 too: Megatron picks the interleaved schedule whenever vpp is set.
    """

    id = "pipeline.vpp-microbatches"
    noticed = Noticed.STEP
    source = mcore("pipeline_parallel/schedules.py", "forward_backward_pipelining_with_interleaving")
    scope = ("pp", "vpp", "num_microbatches")
    reads = ("microbatch_group_size_per_vp_stage",)
    example = "pp=4 vpp=2 with 6 micro-batches: 6 mod 4 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not layout.interleaved:
            return True
        return schedule_takes(layout.pp, layout.microbatch_group, layout.num_microbatches)

    def post(self, model: Builder, problem: Problem) -> None:
        x, when = model.x, model.interleaved
        given = problem.settings.microbatch_group_size_per_vp_stage
        if given is None:
            model.divides(x.pp, x.num_microbatches, when=when)
            model.at_most(x.pp, x.num_microbatches, when=when)
            return
        model.at_most(x.pp, given, when=when)
        model.at_most(given, x.num_microbatches, when=when)
        # remainder 0 or at least pp: pp * (remainder > 0) <= remainder
        remainder = model.remainder(x.num_microbatches, given)
        some = model.arithmetic.minimum(remainder, 1)
        model.at_most(model.arithmetic.mul(x.pp, some), remainder, when=when)

    def reason(self, problem: Problem, layout: Layout) -> str:
        pp, group, count = layout.pp, layout.microbatch_group, layout.num_microbatches
        if group > count:
            return (
                f"interleaving wants at least {group} micro-batches, there are {count}: raise the global batch, "
                "or lower dp, pp or the micro-batch size"
            )
        if group < pp:
            return f"microbatch_group_size_per_vp_stage={group} is less than pp={pp}"
        return (
            f"{count} micro-batches in groups of {group}: {count} mod {group} = {count % group}, "
            f"which must be 0 or at least pp={pp}"
        )


RULES = (InterleavingNeedsPipeline(), InterleavedMicroBatches())
