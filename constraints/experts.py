"""Routed and shared experts: how they split over ep, etp and tp."""

from __future__ import annotations

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, mcore
from models_catalog.schema import ModelSpec

__all__ = ["RULES", "has_expert_layers"]


def has_expert_layers(model: ModelSpec) -> bool:
    """True if Megatron builds at least one MoE layer: what is checked at build or in a step then matters."""
    pattern, frequency = model.hybrid_override_pattern, model.moe_layer_freq
    if pattern is not None:
        return model.is_moe and "E" in pattern
    return model.is_moe and (isinstance(frequency, int) or any(frequency))


class ExpertParallelNeedsExperts(Rule):
    """Expert parallelism needs a model with experts."""

    id = "experts.ep-needs-moe"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("ep",)
    reads = ("num_moe_experts",)
    example = "llama-3.1-8b with ep=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.ep == 1 or problem.model.is_moe

    def post(self, model: Builder, problem: Problem) -> None:
        if not problem.model.is_moe:
            model.allow("ep", lambda ep: ep == 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"ep={layout.ep}, but {problem.model.name} has no experts: set expert_model_parallel_size=1"


class ExpertsOverRanks(Rule):
    """Every expert-parallel rank owns the same number of whole experts: experts mod ep = 0."""

    id = "experts.experts-ep"
    noticed = Noticed.BUILD
    source = mcore("transformer/moe/moe_layer.py", "BaseMoELayer.__init__")
    scope = ("ep",)
    reads = ("num_moe_experts",)
    example = "256 experts with ep=48: 256 mod 48 = 16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not has_expert_layers(problem.model) or problem.model.experts % layout.ep == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if has_expert_layers(problem.model):
            model.allow("ep", lambda ep: problem.model.experts % ep == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        experts, ep = problem.model.experts, layout.ep
        return f"{experts} experts over ep={ep}: {experts} mod {ep} = {experts % ep}"


class ExpertWidthOverTensor(Rule):
    """A routed expert splits evenly over expert tensor ranks: moe_ffn_hidden_size mod etp = 0 (tp does not matter)."""

    id = "experts.moeffn-etp"
    noticed = Noticed.BUILD
    source = mcore("tensor_parallel/layers.py", "RowParallelLinear.__init__")
    scope = ("etp",)
    reads = ("moe_ffn_hidden_size",)
    example = "moe_ffn_hidden_size 770 with etp=4: 770 mod 4 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not has_expert_layers(problem.model) or problem.model.expert_ffn % layout.etp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        if has_expert_layers(problem.model):
            model.allow("etp", lambda etp: problem.model.expert_ffn % etp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        width, etp = problem.model.expert_ffn, layout.etp
        return f"moe_ffn_hidden_size {width} over etp={etp}: {width} mod {etp} = {width % etp}"


class SharedExpertOverTensor(Rule):
    """A shared expert splits evenly over dense tensor ranks, not over etp: its intermediate size mod tp = 0."""

    id = "experts.shared-tp"
    noticed = Noticed.BUILD
    source = mcore("transformer/moe/shared_experts.py", "SharedExpertMLP.__init__")
    scope = ("tp",)
    reads = ("moe_shared_expert_intermediate_size",)
    example = "moe_shared_expert_intermediate_size 2050 with tp=8: 2050 mod 8 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return _shared_width(problem.model) % layout.tp == 0

    def post(self, model: Builder, problem: Problem) -> None:
        width = _shared_width(problem.model)
        if width:
            model.allow("tp", lambda tp: width % tp == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        width, tp = _shared_width(problem.model), layout.tp
        return f"moe_shared_expert_intermediate_size {width} over tp={tp}: {width} mod {tp} = {width % tp}"


def _shared_width(model: ModelSpec) -> int:
    """Width of the shared expert, 0 where none is built."""
    return (model.moe_shared_expert_intermediate_size or 0) if has_expert_layers(model) else 0


class ExpertsNeedSequenceParallel(Rule):
    """A model with experts and tp > 1 trains only with sequence parallelism.

    The configuration passes with a warning; ``MoELayer.forward`` raises. Attention's tp counts, not etp.
    """

    id = "experts.moe-tp-needs-sp"
    noticed = Noticed.STEP
    source = mcore("transformer/moe/moe_layer.py", "MoELayer.forward")
    scope = ("tp", "sequence_parallel")
    reads = ("num_moe_experts",)
    example = "qwen3-30b-a3b with tp=2 and sequence_parallel=False"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.tp == 1 or layout.sequence_parallel or not has_expert_layers(problem.model)

    def post(self, model: Builder, problem: Problem) -> None:
        if has_expert_layers(problem.model):
            model.equal(model.x.sequence_parallel, 1, when=model.above_one("tp"))

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"{problem.model.experts} experts with tp={layout.tp} and sequence_parallel=False raise in the first "
            "training step; set sequence_parallel=true"
        )


class ExpertWidthNeedsExperts(SettingsRule):
    """moe_ffn_hidden_size is set only for a model with experts, or for the dense layers of a mixed one."""

    id = "experts.moe-ffn"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_ffn_hidden_size", "num_moe_experts", "moe_layer_freq")
    example = "moe_ffn_hidden_size=1536 without num_moe_experts"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        model = problem.model
        if model.num_moe_experts is not None or model.moe_ffn_hidden_size is None:
            return True
        frequency = model.moe_layer_freq
        return frequency > 1 if isinstance(frequency, int) else 0 in frequency

    def reason(self, problem: Problem, layout: Layout) -> str:
        width = problem.model.moe_ffn_hidden_size
        return f"moe_ffn_hidden_size={width} without num_moe_experts: set the one or drop the other"


class BiasNeedsWholeExperts(Rule):
    """Experts with biases are not split over tensor ranks: add_bias_linear with experts needs etp = 1."""

    id = "experts.bias-etp"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("etp",)
    reads = ("num_moe_experts", "add_bias_linear")
    example = "add_bias_linear=True with 128 experts and etp=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return layout.etp == 1 or not problem.model.add_bias_linear or not problem.model.is_moe

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.model.add_bias_linear and problem.model.is_moe:
            model.allow("etp", lambda etp: etp == 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        experts, etp = problem.model.experts, layout.etp
        return f"add_bias_linear=True with {experts} experts and etp={etp}: set expert_tensor_parallel_size=1"


class SharedExpertHasNoBias(SettingsRule):
    """A shared expert has no biases: add_bias_linear is False."""

    id = "experts.shared-bias"
    noticed = Noticed.BUILD
    source = mcore("transformer/moe/shared_experts.py", "SharedExpertMLP.__init__")
    reads = ("moe_shared_expert_intermediate_size", "add_bias_linear")
    example = "moe_shared_expert_intermediate_size=2048 with add_bias_linear=True"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not (_shared_width(problem.model) and problem.model.add_bias_linear)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"a shared expert of width {_shared_width(problem.model)} with add_bias_linear=True: set it to false"


class LayerFrequencyList(SettingsRule):
    """A list in moe_layer_freq says 0 or 1 for every layer: its length is num_layers."""

    id = "experts.moe-freq"
    noticed = Noticed.BUILD
    source = mcore("models/gpt/gpt_layer_specs.py", "get_gpt_decoder_layer_specs")
    reads = ("moe_layer_freq", "num_layers")
    example = "a list of 60 entries for 61 layers"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        model = problem.model
        if not model.is_moe or model.is_hybrid or isinstance(model.moe_layer_freq, int):
            return True
        return len(model.moe_layer_freq) == model.num_layers and set(model.moe_layer_freq) <= {0, 1}

    def reason(self, problem: Problem, layout: Layout) -> str:
        frequency = problem.model.moe_layer_freq
        entries = () if isinstance(frequency, int) else frequency
        if len(entries) != problem.model.num_layers:
            return f"moe_layer_freq has {len(entries)} entries, the model {problem.model.num_layers} layers"
        return f"moe_layer_freq holds {sorted(set(entries) - {0, 1})}: every entry must be 0 or 1"


class LatentWidth(SettingsRule):
    """A latent width of routed experts is positive.

    Megatron Bridge ignores it in a model without experts.
    """

    id = "experts.latent"
    noticed = Noticed.BUILD
    source = mcore("transformer/moe/moe_layer.py", "MoELayer.__init__")
    reads = ("moe_latent_size", "num_moe_experts")
    example = "moe_latent_size=0 with 128 experts"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        latent = problem.model.moe_latent_size
        return latent is None or latent > 0 or not has_expert_layers(problem.model)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"moe_latent_size={problem.model.moe_latent_size}: leave it unset, or make it positive"


RULES = (
    ExpertParallelNeedsExperts(),
    ExpertsOverRanks(),
    ExpertWidthOverTensor(),
    SharedExpertOverTensor(),
    ExpertsNeedSequenceParallel(),
    ExpertWidthNeedsExperts(),
    BiasNeedsWholeExperts(),
    SharedExpertHasNoBias(),
    LayerFrequencyList(),
    LatentWidth(),
)
