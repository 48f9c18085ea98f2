"""The router: how many experts a token is sent to, in which groups, and by which scores."""

from __future__ import annotations

from constraints.experts import has_expert_layers
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, mcore, older_mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]


class RouterPicksExistingExperts(SettingsRule):
    """A token is sent to no more experts than there are: moe_router_topk <= num_moe_experts."""

    id = "experts.topk"
    noticed = Noticed.STEP
    source = mcore("transformer/moe/moe_utils.py", "topk_routing_with_score_function")
    reads = ("moe_router_topk", "num_moe_experts")
    fix = "a moe_router_topk of at most num_moe_experts"
    example = "moe_router_topk=8 with 4 experts"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not has_expert_layers(problem.model) or problem.model.moe_router_topk <= problem.model.experts

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"moe_router_topk={problem.model.moe_router_topk} of {problem.model.experts} experts"


class SingleExpertSoftmax(SettingsRule):
    """With moe_router_topk = 1 a softmax router needs moe_router_pre_softmax: a softmax of one score has no gradient.

    Megatron does not ask whether the model has experts at all: a dense model that sets moe_router_topk = 1 raises too.
    """

    id = "experts.topk-presoftmax"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_router_topk", "moe_router_score_function", "moe_router_pre_softmax")
    fix = "moe_router_pre_softmax=true"
    example = "moe_router_topk=1 with moe_router_score_function=softmax"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        model = problem.model
        return (
            model.moe_router_topk != 1
            or model.moe_router_score_function != "softmax"
            or model.moe_router_pre_softmax
            or model.moe_router_load_balancing_type == "sinkhorn"
        )

    def reason(self, problem: Problem, layout: Layout) -> str:
        topk = problem.model.moe_router_topk
        return f"moe_router_topk={topk} with softmax scores taken after the choice: set moe_router_pre_softmax=true"


class GroupRouting(SettingsRule):
    """Group-limited routing has groups of equal size, and picks no more groups than there are.

    Groups need be neither nodes nor ranks: ep has no part in it.
    """

    id = "experts.group-routing"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("num_moe_experts", "moe_router_num_groups", "moe_router_group_topk")
    fix = "moe_router_num_groups that divides the experts, and a group_topk of at most as many"
    example = "128 experts with moe_router_num_groups=7: 128 mod 7 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem.model) is None

    def _fault(self, model: ModelSpec) -> str | None:
        picked, groups, experts = model.moe_router_group_topk, model.moe_router_num_groups, model.experts
        if not picked:
            return None
        if model.moe_router_topk_limited_devices:
            return (
                f"moe_router_group_topk={picked} and the deprecated moe_router_topk_limited_devices="
                f"{model.moe_router_topk_limited_devices} are both set"
            )
        if not groups:
            return f"moe_router_group_topk={picked} without moe_router_num_groups"
        if not experts:
            return f"moe_router_group_topk={picked} for a model without experts"
        if experts % groups:
            return f"{experts} experts in moe_router_num_groups={groups}: {experts} mod {groups} = {experts % groups}"
        return f"moe_router_group_topk={picked} of {groups} groups" if picked > groups else None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem.model) or ""


class GroupRoutingAtRuntime(Rule):
    """A chosen group holds enough experts to score it: floor(topk / group_topk) <= experts / groups.

    With the deprecated moe_router_topk_limited_devices Megatron sets groups := ep, so there ep counts.
    """

    id = "experts.group-routing-runtime"
    noticed = Noticed.STEP
    source = mcore("transformer/moe/moe_utils.py", "group_limited_topk")
    scope = ("ep",)
    reads = ("num_moe_experts", "moe_router_topk", "moe_router_num_groups", "moe_router_group_topk")
    fix = "fewer groups, a larger moe_router_group_topk, or a smaller moe_router_topk"
    example = "16 experts in 8 groups with topk=4, group_topk=1: 4 of the 2 experts of a group"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        picked, groups = _groups(problem.model, layout.ep)
        if not has_expert_layers(problem.model) or not picked or not groups:
            return True
        if picked > groups:  # of those that a person names, group-routing speaks
            return bool(problem.model.moe_router_group_topk)
        return problem.model.moe_router_topk // picked <= problem.model.experts // groups

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("ep", lambda ep: self.holds(problem, Layout(ep=ep)))

    def reason(self, problem: Problem, layout: Layout) -> str:
        picked, groups = _groups(problem.model, layout.ep)
        experts, topk = problem.model.experts, problem.model.moe_router_topk
        if picked > groups:
            return (
                f"tokens go to {picked} of {groups} groups (moe_router_topk_limited_devices, groups = ep={layout.ep})"
            )
        return (
            f"{experts} experts in {groups} groups are {experts // groups} a group, but routing scores a group by its "
            f"best floor({topk} / {picked}) = {topk // picked}"
        )


def _groups(model: ModelSpec, ep: int) -> tuple[int, int]:
    """Groups that a token is sent to, and groups that there are; zeros where routing is not limited."""
    if model.moe_router_group_topk:
        return model.moe_router_group_topk, model.moe_router_num_groups or 0
    if model.moe_router_topk_limited_devices:
        return model.moe_router_topk_limited_devices, ep
    return 0, 0


class ExpertBiasScores(SettingsRule):
    """An expert bias (aux-loss-free balancing) needs sigmoid or sqrtsoftplus scores."""

    id = "experts.expert-bias"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_router_enable_expert_bias", "moe_router_score_function")
    fix = "moe_router_score_function=sigmoid, or no expert bias"
    since = "0.19"
    example = "moe_router_enable_expert_bias=True with softmax scores"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        scores = problem.model.moe_router_score_function
        return not problem.model.moe_router_enable_expert_bias or scores in ("sigmoid", "sqrtsoftplus")

    def reason(self, problem: Problem, layout: Layout) -> str:
        scores = problem.model.moe_router_score_function
        return f"moe_router_enable_expert_bias=True with moe_router_score_function={scores}: set it to sigmoid"


class ExpertBiasSigmoid(SettingsRule):
    """An expert bias (aux-loss-free balancing) needs sigmoid scores: sqrtsoftplus came later."""

    id = "experts.expert-bias-sigmoid"
    noticed = Noticed.CONFIG
    source = older_mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_router_enable_expert_bias", "moe_router_score_function")
    until = "0.19"
    fix = "moe_router_score_function=sigmoid, or no expert bias"
    example = "moe_router_enable_expert_bias=True with sqrtsoftplus scores"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not problem.model.moe_router_enable_expert_bias or problem.model.moe_router_score_function == "sigmoid"

    def reason(self, problem: Problem, layout: Layout) -> str:
        scores = problem.model.moe_router_score_function
        return f"moe_router_enable_expert_bias=True with moe_router_score_function={scores}: set it to sigmoid"


RULES = (
    RouterPicksExistingExperts(),
    SingleExpertSoftmax(),
    GroupRouting(),
    GroupRoutingAtRuntime(),
    ExpertBiasScores(),
    ExpertBiasSigmoid(),
)
