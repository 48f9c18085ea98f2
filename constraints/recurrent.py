"""Recurrent layers: how Mamba's and gated delta nets' heads, groups and states split over tensor and context ranks."""

from __future__ import annotations

from constraints.hybrid import main_pattern
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.recompute import GATED_DELTA_NET
from constraints.rule import Builder, Noticed, Rule, SettingsRule, mcore, older_mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES"]

MIXER = "ssm/mamba_mixer.py"


def _mamba_heads(model: ModelSpec) -> int:
    """Heads of a Mamba layer; unset, its inner width is twice the hidden size."""
    return model.mamba_num_heads or 2 * model.hidden_size // _mamba_channels(model)


def _mamba_channels(model: ModelSpec) -> int:
    return model.mamba_head_dim or 64


def _mamba_groups(model: ModelSpec) -> int:
    return model.mamba_num_groups or 8


class MambaHeads(Rule):
    """Mamba heads split evenly over tensor ranks: mamba_num_heads mod tp = 0.

    Left unset, the heads are 2 * hidden_size / mamba_head_dim, which must come out.
    """

    id = "hybrid.mamba-heads"
    noticed = Noticed.BUILD
    source = mcore(MIXER, "MambaMixer.__init__")
    scope = ("tp",)
    reads = ("hybrid_override_pattern", "mamba_num_heads")
    fix = "a tp that divides mamba_num_heads"
    example = "mamba_num_heads=112 with tp=32: 112 mod 32 = 16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        model = problem.model
        return "M" not in main_pattern(model) or (self._comes_out(model) and _mamba_heads(model) % layout.tp == 0)

    def _comes_out(self, model: ModelSpec) -> bool:
        return bool(model.mamba_num_heads) or 2 * model.hidden_size % _mamba_channels(model) == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if "M" in main_pattern(problem.model):
            if not self._comes_out(problem.model):
                model.forbid()
            heads = _mamba_heads(problem.model)
            model.allow("tp", lambda tp: heads % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        model, tp = problem.model, layout.tp
        if not self._comes_out(model):
            return f"2 * hidden_size {model.hidden_size} is no multiple of mamba_head_dim {_mamba_channels(model)}"
        heads = _mamba_heads(model)
        return f"{heads} Mamba heads over tp={tp}: {heads} mod {tp} = {heads % tp}"


class MambaGroups(Rule):
    """Mamba groups split evenly over tensor ranks, and heads over groups: groups mod tp = 0, heads mod groups = 0."""

    id = "hybrid.mamba-groups"
    noticed = Noticed.BUILD
    source = mcore(MIXER, "MambaMixer.__init__")
    scope = ("tp",)
    reads = ("hybrid_override_pattern", "mamba_num_heads", "mamba_num_groups")
    fix = "a tp that divides mamba_num_groups"
    example = "mamba_num_groups=8 with tp=16: 8 mod 16 = 8"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if "M" not in main_pattern(problem.model):
            return True
        heads, groups = _mamba_heads(problem.model), _mamba_groups(problem.model)
        return heads % groups == 0 and groups % layout.tp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if "M" in main_pattern(problem.model):
            model.allow("tp", lambda tp: self.holds(problem, Layout(tp=tp)))

    def reason(self, problem: Problem, layout: Layout) -> str:
        heads, groups, tp = _mamba_heads(problem.model), _mamba_groups(problem.model), layout.tp
        if groups % tp:
            return f"{groups} Mamba groups over tp={tp}: {groups} mod {tp} = {groups % tp}"
        return f"{heads} Mamba heads over {groups} groups: {heads} mod {groups} = {heads % groups}"


class MambaContext(Rule):
    """Context ranks share a tensor rank's Mamba heads evenly, and its groups and cp divide one another.

    (heads/tp) mod cp = 0; with fewer groups than cp ranks, groups are replicated.
    """

    id = "hybrid.mamba-cp"
    noticed = Noticed.BUILD
    source = mcore("ssm/mamba_context_parallel.py", "MambaContextParallel.__init__")
    scope = ("tp", "cp")
    reads = ("hybrid_override_pattern", "mamba_num_heads", "mamba_num_groups")
    fix = "a cp that divides the heads of a tensor rank; cp=1 always does"
    example = "mamba_num_heads=128 mamba_num_groups=8 with tp=4 cp=3: 32 mod 3 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if "M" not in main_pattern(problem.model):
            return True
        heads, groups = self._on_rank(problem.model, layout.tp)
        return heads % layout.cp == 0 and max(groups, layout.cp) % min(groups, layout.cp) == 0

    def _on_rank(self, model: ModelSpec, tp: int) -> tuple[int, int]:
        return _mamba_heads(model) // tp, max(_mamba_groups(model) // tp, 1)

    def post(self, model: Builder, problem: Problem) -> None:
        if "M" in main_pattern(problem.model):
            a, x = model.arithmetic, model.x
            groups = a.maximum(a.floor_div(_mamba_groups(problem.model), x.tp), 1)
            model.divides(x.cp, a.floor_div(_mamba_heads(problem.model), x.tp))
            model.divides(a.minimum(groups, x.cp), a.maximum(groups, x.cp))

    def reason(self, problem: Problem, layout: Layout) -> str:
        heads, groups = self._on_rank(problem.model, layout.tp)
        cp, tp = layout.cp, layout.tp
        if heads % cp:
            return f"{_mamba_heads(problem.model)} Mamba heads / tp={tp} over cp={cp}: {heads} mod {cp} = {heads % cp}"
        return f"{groups} Mamba groups on a rank (tp={tp}) and cp={cp}: neither divides the other"


class MambaProjectionInFp8(SettingsRule):
    """In fp8 the Mamba input projection is a multiple of 16 wide: 2 * inner + 2 * groups * state + heads."""

    id = "hybrid.mamba-fp8"
    noticed = Noticed.BUILD
    source = mcore(MIXER, "MambaMixer.__init__")
    reads = (
        "precision",
        "hybrid_override_pattern",
        "mamba_num_heads",
        "mamba_head_dim",
        "mamba_num_groups",
        "mamba_state_dim",
    )
    fix = "bf16: the width is a property of the model"
    example = "mamba_num_heads=100 with fp8_cs"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if "M" not in main_pattern(problem.model) or not problem.precision.startswith("fp8"):
            return True
        return self._width(problem.model) % 16 == 0

    def _width(self, model: ModelSpec) -> int:
        heads, state = _mamba_heads(model), model.mamba_state_dim or 128
        inner = heads * _mamba_channels(model) if model.mamba_num_heads else 2 * model.hidden_size
        return 2 * inner + 2 * _mamba_groups(model) * state + heads

    def reason(self, problem: Problem, layout: Layout) -> str:
        width = self._width(problem.model)
        return f"the Mamba input projection is {width} wide in {problem.precision}: {width} mod 16 = {width % 16}"


class DeltaNetContext(Rule):
    """Gated delta nets take no context parallelism: cp = 1."""

    id = "hybrid.gdn-cp"
    noticed = Noticed.CONFIG
    source = older_mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("cp",)
    reads = ("experimental_attention_variant",)
    until = "0.19"
    fix = "cp=1"
    example = "qwen3-next-80b-a3b with cp=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.cp == 1 or problem.model.experimental_attention_variant not in GATED_DELTA_NET

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.model.experimental_attention_variant in GATED_DELTA_NET:
            model.allow("cp", lambda cp: cp == 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"gated delta nets with cp={layout.cp}: set context_parallel_size=1"


class DeltaNetHeads(Rule):
    """Gated delta net heads split evenly over tp * cp, and value heads over key heads."""

    id = "hybrid.gdn"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("tp", "cp")
    reads = ("experimental_attention_variant", "linear_num_key_heads", "linear_num_value_heads")
    fix = "a tp * cp that divides the linear key and value heads"
    example = "16 key heads with tp=8 cp=4: 16 mod 32 = 16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem.model, layout.tp, layout.cp) is None

    def _fault(self, model: ModelSpec, tp: int, cp: int) -> str | None:
        if model.experimental_attention_variant not in GATED_DELTA_NET:
            return None
        keys, values = model.linear_num_key_heads, model.linear_num_value_heads
        if not keys or not values:
            return f"linear_num_key_heads and linear_num_value_heads must both be set: {keys or 0} and {values or 0}"
        if values % keys:
            return f"{values} value heads over {keys} key heads: {values} mod {keys} = {values % keys}"
        ranks = tp * cp  # value heads are a multiple of key heads: what divides these divides those
        if keys % ranks:
            return f"{keys} key heads over tp*cp = {tp}*{cp} = {ranks}: {keys} mod {ranks} = {keys % ranks}"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        spec = problem.model
        if self._fault(spec, 1, 1) is not None:
            model.forbid()
        elif spec.experimental_attention_variant in GATED_DELTA_NET:
            model.divides(model.arithmetic.mul(model.x.tp, model.x.cp), spec.linear_num_key_heads)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"gated delta net: {self._fault(problem.model, layout.tp, layout.cp)}"


RULES = (
    MambaHeads(),
    MambaGroups(),
    MambaContext(),
    MambaProjectionInFp8(),
    DeltaNetHeads(),
    DeltaNetContext(),
)
