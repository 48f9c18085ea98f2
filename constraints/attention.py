"""Attention heads and projections over tensor ranks."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, mcore, transformer_engine

__all__ = ["RULES"]


class HeadsOverTensor(Rule):
    """Every tensor rank owns whole attention heads: heads mod tp = 0."""

    id = "attention.heads-tp"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("tp",)
    reads = ("num_attention_heads",)
    fix = "a tp that divides the heads; more parallelism by pp, cp or dp"
    example = "28 heads with tp=8: 28 mod 8 = 4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return problem.model.num_attention_heads % layout.tp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("tp", lambda tp: problem.model.num_attention_heads % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        heads = problem.model.num_attention_heads
        return f"{heads} attention heads over tp={layout.tp}: {heads} mod {layout.tp} = {heads % layout.tp}"


class GroupsOverTensor(Rule):
    """Key/value heads and tp divide one another: groups mod tp = 0, or tp mod groups = 0 (they are then replicated)."""

    id = "attention.groups-tp"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("tp",)
    reads = ("num_query_groups",)
    fix = "a tp that divides the query groups, or a multiple of them"
    example = "6 query groups with tp=4: neither divides the other"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return _divide(problem.model.query_groups, layout.tp)

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("tp", lambda tp: _divide(problem.model.query_groups, tp))

    def reason(self, problem: Problem, layout: Layout) -> str:
        groups = problem.model.query_groups
        return f"{groups} query groups and tp={layout.tp}: neither divides the other"


def _divide(groups: int, tp: int) -> bool:
    return groups % tp == 0 or tp % groups == 0


class HeadsOverGroups(Rule):
    """Query heads fall evenly on key/value heads: heads mod groups = 0.

    With fewer groups than tensor ranks Megatron hands Transformer Engine ``groups := tp``, but splits the replicated
    projection by the true count, so the law stays. Multi-latent attention has no groups, but hands on a count that is set.
    """

    id = "attention.heads-groups"
    noticed = Noticed.STEP
    source = transformer_engine(
        "attention/dot_product_attention/dot_product_attention.py", "DotProductAttention.__init__"
    )
    reads = ("num_attention_heads", "num_query_groups")
    fix = "num_query_groups that divides num_attention_heads: it is a property of the model"
    example = "32 heads with 5 query groups"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        model = problem.model
        return model.num_attention_heads % model.query_groups == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if not self.holds(problem, Layout()):
            model.forbid()

    def reason(self, problem: Problem, layout: Layout) -> str:
        heads, groups = problem.model.num_attention_heads, problem.model.query_groups
        return f"{heads} attention heads over {groups} query groups: {heads} mod {groups} = {heads % groups}"


class ProjectionOverTensor(Rule):
    """The fused query-key-value projection and the output projection split evenly over tensor ranks."""

    id = "attention.qkv-tp"
    noticed = Noticed.BUILD
    source = mcore("tensor_parallel/layers.py", "ColumnParallelLinear.__init__")
    scope = ("tp",)
    reads = ("num_attention_heads", "num_query_groups", "kv_channels")
    fix = "a tp that divides the projections, such as a divisor of the query groups"
    example = "9 heads of 7 channels in 3 groups with tp=2: 105 mod 2 = 1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return all(width % layout.tp == 0 for width in _projection_widths(problem))

    def post(self, model: Builder, problem: Problem) -> None:
        widths = _projection_widths(problem)
        model.allow("tp", lambda tp: all(width % tp == 0 for width in widths))

    def reason(self, problem: Problem, layout: Layout) -> str:
        width = next(w for w in _projection_widths(problem) if w % layout.tp)
        return (
            f"an attention projection {width} wide over tp={layout.tp}: {width} mod {layout.tp} = {width % layout.tp}"
        )


def _projection_widths(problem: Problem) -> tuple[int, ...]:
    model = problem.model
    if model.multi_latent_attention:
        heads = model.num_attention_heads
        nope, rope, value = model.qk_head_dim or 0, model.qk_pos_emb_head_dim or 0, model.v_head_dim or 0
        return (heads * (nope + rope), heads * (nope + value), heads * value)
    query, key = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
    return (query * (2 if model.attention_output_gate else 1) + 2 * key, query)


class LatentAttention(SettingsRule):
    """Multi-latent attention takes no interleaved rotary embedding, no output gate, and fused rotary only with yarn."""

    id = "attention.mla"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "MLATransformerConfig.__post_init__")
    reads = ("multi_latent_attention", "rotary_interleaved", "attention_output_gate", "apply_rope_fusion", "rope_type")
    fix = "rotary_interleaved=false, attention_output_gate=false, and apply_rope_fusion only with rope_type=yarn"
    example = "multi_latent_attention with attention_output_gate=True"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not problem.model.multi_latent_attention or not self._clashes(problem)

    def _clashes(self, problem: Problem) -> list[str]:
        model = problem.model
        clashes = [f"{name}=True" for name in ("rotary_interleaved", "attention_output_gate") if getattr(model, name)]
        if model.apply_rope_fusion and model.rope_type not in (None, "yarn"):
            clashes.append(f"apply_rope_fusion=True with rope_type={model.rope_type}")
        return clashes

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"multi_latent_attention cannot be combined with {', '.join(self._clashes(problem))}"


RULES = (
    HeadsOverTensor(),
    GroupsOverTensor(),
    HeadsOverGroups(),
    ProjectionOverTensor(),
    LatentAttention(),
)
