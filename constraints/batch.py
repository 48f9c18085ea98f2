"""The global batch: whole micro-batches on every data-parallel rank."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, Stratum, bridge

__all__ = ["RULES"]


class GlobalBatch(Rule):
    """The global batch is a positive whole number of micro-batches on every data-parallel rank: B mod (mbs * dp) = 0."""

    id = "batch.gbs"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.validate")
    scope = ("global_batch_size", "micro_batch_size", "dp", "num_microbatches")
    fix = "a batch that is a multiple of micro-batch * dp, or a dp that divides it"
    example = "global batch 512 on dp=12: 512 mod 12 = 8"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        product = layout.micro_batch_size * layout.dp * layout.num_microbatches
        return layout.num_microbatches >= 1 and layout.global_batch_size == product

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        product = a.mul(a.mul(x.dp, x.micro_batch_size), x.num_microbatches)
        model.equal(product, x.global_batch_size)

    def reason(self, problem: Problem, layout: Layout) -> str:
        unit, batch = layout.micro_batch_size * layout.dp, layout.global_batch_size
        if batch % unit == 0:
            return (
                f"global batch {batch} over micro-batch {layout.micro_batch_size} * dp {layout.dp} = {unit} makes "
                f"{batch // unit} micro-batches, not {layout.num_microbatches}"
            )
        return (
            f"global batch {batch} over micro-batch {layout.micro_batch_size} * dp {layout.dp} = {unit}: "
            f"{batch} mod {unit} = {batch % unit}" + (f", and {batch} < {unit}" if batch < unit else "")
        )


class RequestedBatch(Rule):
    """A global batch that the request gives is kept: it belongs to convergence."""

    id = "batch.requested"
    stratum = Stratum.RESOURCE
    noticed = Noticed.NEVER
    scope = ("global_batch_size",)
    fix = "the same batch in the request and in the layout"
    example = "--global-batch-size 1024 with train.global_batch_size=512 in the layout"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return problem.global_batch_size in (None, layout.global_batch_size)

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.global_batch_size is not None:
            model.equal(model.x.global_batch_size, problem.global_batch_size)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"the request says {problem.global_batch_size}, the layout {layout.global_batch_size}"


class WithinTolerance(Rule):
    """A batch that may move stays within its tolerance of the one that the request gives.

    Chosen is the multiple of dp * micro-batch (interleaved: of the micro-batch group too) nearest to the one given: if that
    is too far, every other is.
    """

    id = "batch.tolerance"
    stratum = Stratum.RESOURCE
    noticed = Noticed.NEVER
    scope = ("global_batch_size",)
    reads = ("target_batch", "batch_tolerance")
    fix = "a larger --batch-tolerance, or dp and mbs whose product comes nearer to a divisor of the batch"
    example = "--global-batch-size 1000 --batch-tolerance 2% with a batch of 1024: 2.4% more"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if problem.batch_bounds is None:
            return True
        least, most = problem.batch_bounds
        return least <= layout.global_batch_size <= most

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.batch_bounds is not None:
            least, most = problem.batch_bounds
            model.at_most(least, model.x.global_batch_size)
            model.at_most(model.x.global_batch_size, most)

    def reason(self, problem: Problem, layout: Layout) -> str:
        assert problem.batch_bounds is not None and problem.target_batch is not None, (
            "a batch without tolerance is free"
        )
        (least, most), batch = problem.batch_bounds, layout.global_batch_size
        away = abs(batch - problem.target_batch) / problem.target_batch
        return (
            f"a batch within {problem.tolerance_percent} of {problem.target_batch} is from {least} to {most} sequences, this "
            f"is {batch}: {away:.1%} {'more' if batch > most else 'less'}"
        )


class NearTarget(Rule):
    """A batch that the tool chooses stays near its target: dp * micro-batch (* pp, interleaved) is at most twice it.

    Larger units would raise the batch instead of filling it; dp alone may exceed the target where GPUs are many.
    """

    id = "batch.near-target"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    scope = ("dp", "micro_batch_size", "pp", "vpp")
    reads = ("seq_length", "global_batch_size", "target_batch", "microbatch_group_size_per_vp_stage")
    fix = "give --global-batch-size, or lower mbs or vpp"
    example = "vpp=2 pp=8 dp=192 mbs=4 at 4096 tokens: the least batch is 6144 sequences, six times the target"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if self._asked(problem):
            return True
        return self._unit(layout) <= max(2 * problem.target_sequences, layout.dp)

    def _asked(self, problem: Problem) -> bool:
        """True if the request says what the batch is to be, or to be near to."""
        return problem.global_batch_size is not None or problem.target_batch is not None

    def _unit(self, layout: Layout) -> int:
        return layout.dp * layout.micro_batch_size * (layout.microbatch_group if layout.interleaved else 1)

    def post(self, model: Builder, problem: Problem) -> None:
        if not self._asked(problem):
            model.at_most(model.x.batch_unit, model.arithmetic.maximum(2 * problem.target_sequences, model.x.dp))

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"no global batch is given and the least one here is {self._unit(layout)} sequences, "
            f"the target is {problem.target_sequences}: give --global-batch-size, or lower mbs or vpp"
        )


RULES = (GlobalBatch(), RequestedBatch(), WithinTolerance(), NearTarget())
