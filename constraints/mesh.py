"""The two meshes: dense ``tp x cp x dp`` and expert ``etp x ep x edp`` cut the same GPUs of each pipeline stage."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, Stratum, bridge, mcore

__all__ = ["RULES"]


class WorldDense(Rule):
    """The dense mesh uses every GPU once: tp * pp * cp * dp = GPUs."""

    id = "mesh.world-dense"
    stratum = Stratum.LAW
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer.get_data_parallel_size")
    scope = ("tp", "pp", "cp", "dp")
    reads = ("gpus",)
    fix = "degrees that multiply to a divisor of the GPU count; dp is what remains"
    example = "tp=8 pp=4 on 100 GPUs: 100 mod 32 = 4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.tp * layout.pp * layout.cp * layout.dp == problem.gpus

    def post(self, model: Builder, problem: Problem) -> None:
        for degree in self.scope:  # implied by the product; said first, it empties most of each domain
            model.allow(degree, lambda value: problem.gpus % value == 0)
        model.equal(model.arithmetic.mul(model.x.stage_gpus, model.x.pp), problem.gpus)

    def reason(self, problem: Problem, layout: Layout) -> str:
        group, gpus = layout.tp * layout.pp * layout.cp, problem.gpus
        text = f"tp*pp*cp = {layout.tp}*{layout.pp}*{layout.cp} = {group}"
        if gpus % group:
            return text + _remainder(gpus, group)
        return f"{text} leaves dp = {gpus // group} on {gpus} GPUs, not {layout.dp}"


class WorldExpert(Rule):
    """The expert mesh uses every GPU once: etp * ep * edp * pp = GPUs; cp is not in it.

    It overlays the dense mesh on the same ranks, so the smallest world is ``pp * max(tp*cp, ep*etp)``, never the
    product of all five.
    """

    id = "mesh.world-expert"
    stratum = Stratum.LAW
    noticed = Noticed.GROUPS
    source = mcore("parallel_state.py", "initialize_model_parallel")
    scope = ("pp", "ep", "etp", "edp", "tp", "cp")
    reads = ("gpus",)
    fix = "a smaller ep or etp, a smaller pp, or more GPUs: pp*etp*ep must divide the GPU count"
    example = "deepseek-v3 with tp=2 pp=16 ep=64 on 256 GPUs: a stage has 16 GPUs, its experts want 64"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.etp * layout.ep * layout.edp * layout.pp == problem.gpus

    def post(self, model: Builder, problem: Problem) -> None:
        a, x = model.arithmetic, model.x
        for degree in ("ep", "etp", "edp", "pp"):
            model.allow(degree, lambda value: problem.gpus % value == 0)
        model.equal(a.mul(a.mul(a.mul(x.etp, x.ep), x.edp), x.pp), problem.gpus)

    def reason(self, problem: Problem, layout: Layout) -> str:
        group, gpus = layout.etp * layout.ep * layout.pp, problem.gpus
        least = layout.pp * max(layout.tp * layout.cp, layout.ep * layout.etp)
        text = f"the expert mesh etp*ep*pp = {layout.etp}*{layout.ep}*{layout.pp} = {group}"
        tail = f"; the smallest world is pp*max(tp*cp, ep*etp) = {least}"
        if gpus % group:
            return text + _remainder(gpus, group) + tail
        return f"{text} leaves edp = {gpus // group} on {gpus} GPUs, not {layout.edp}{tail}"


def _remainder(gpus: int, group: int) -> str:
    if group > gpus:
        return f" is more than the {gpus} GPU{'s' * (gpus > 1)} there {'are' if gpus > 1 else 'is'}"
    return f" does not divide {gpus} GPUs: {gpus} mod {group} = {gpus % group}"


class PipelineOrder(Rule):
    """With the rank order tp-cp-ep-pp-dp and pp > 1, both meshes have the same data-parallel size: dp = edp."""

    id = "mesh.pp-order"
    noticed = Noticed.GROUPS
    source = mcore("parallel_state.py", "initialize_model_parallel")
    scope = ("pp", "tp", "cp", "etp", "ep")
    reads = ("use_tp_pp_dp_mapping",)
    fix = "leave dist.use_tp_pp_dp_mapping at false, or choose etp*ep = tp*cp"
    example = "dist.use_tp_pp_dp_mapping=True with pp=2 ep=4 on 16 GPUs: tp*cp = 1, etp*ep = 4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not layout.settings.use_tp_pp_dp_mapping or layout.pp == 1:
            return True
        return layout.tp * layout.cp == layout.etp * layout.ep

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.settings.use_tp_pp_dp_mapping:
            a, x = model.arithmetic, model.x
            model.equal(a.mul(x.tp, x.cp), a.mul(x.etp, x.ep), when=model.above_one("pp"))

    def reason(self, problem: Problem, layout: Layout) -> str:
        dense, expert = layout.tp * layout.cp, layout.etp * layout.ep
        return (
            f"use_tp_pp_dp_mapping with pp={layout.pp} wants tp*cp = etp*ep, but {layout.tp}*{layout.cp} = {dense} "
            f"and {layout.etp}*{layout.ep} = {expert}: keep the default rank order"
        )


RULES = (WorldDense(), WorldExpert(), PipelineOrder())
