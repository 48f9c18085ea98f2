"""What may be recomputed, offloaded to the host or captured in CUDA graphs, and what excludes what."""

from __future__ import annotations

from constraints import recompute_counts
from constraints.layout import Layout, Recompute, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, Stratum, bridge, mcore
from models_catalog.schema import ModelSpec

__all__ = ["GATED_DELTA_NET", "METHODS", "RULES"]

METHODS = ("uniform", "block")
USUAL_MODULES = ("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts")
MODULES = frozenset({*USUAL_MODULES, "gdn_norm_out", "gdp_in_proj", "gdp_qkv", "mhc"})
GATED_DELTA_NET = ("gated_delta_net", "gdn", "gdn2")
"""Spellings of ``experimental_attention_variant`` for gated delta net layers."""


class RecomputeRule(Rule):
    """Base of the rules about what is recomputed: the first fault that problem, switches and option have together."""

    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("recompute",)

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        raise NotImplementedError

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self.fault(problem, layout.settings, layout.recompute) is None

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow_recompute(lambda option: self.fault(problem, problem.settings, option) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self.fault(problem, layout.settings, layout.recompute) or ""


class FullRecompute(RecomputeRule):
    """Full recompute says how and how much: recompute_method uniform or block, and recompute_num_layers.

    More layers than a stage has are accepted, and clipped.
    """

    id = "recompute.rc-full"
    fix = "recompute_method=uniform recompute_num_layers=1"
    example = "recompute_granularity=full without recompute_method"

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        if recompute.granularity not in (None, "full", "selective"):
            return f"recompute_granularity={recompute.granularity} is neither full nor selective"
        if recompute.is_full and recompute.method not in METHODS:
            what = (
                "without recompute_method" if recompute.method is None else f"with recompute_method={recompute.method}"
            )
            return f"recompute_granularity=full {what}: set it to uniform or block"
        if recompute.is_full and recompute.num_layers is None:
            return "recompute_granularity=full without recompute_num_layers: set it, say to 1"
        if recompute.is_uniform and recompute.num_layers is not None and recompute.num_layers < 1:
            return f"recompute_method=uniform in groups of {recompute.num_layers} layers has no end: set 1 or more"
        return None


class MtpRecompute(RecomputeRule):
    """Full uniform recompute of a model with MTP layers goes layer by layer: recompute_num_layers=1.

    Block recompute leaves MTP layers alone, with a warning.
    """

    id = "recompute.rc-mtp"
    noticed = Noticed.STEP
    source = mcore("transformer/multi_token_prediction.py", "MultiTokenPredictionLayer._checkpointed_forward")
    reads = ("mtp_num_layers",)
    fix = "recompute_num_layers=1, or recompute_method=block"
    example = "recompute_method=uniform recompute_num_layers=2 of deepseek-v3"

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        if not problem.model.mtp_layers or recompute.group == 1:
            return None
        return (
            f"recompute_method=uniform recompute_num_layers={recompute.group} with "
            f"mtp_num_layers={problem.model.mtp_num_layers}: MTP layers are recomputed one by one only"
        )


class SelectiveRecompute(RecomputeRule):
    """Selective recompute names known modules and leaves recompute_num_layers unset."""

    id = "recompute.rc-sel"
    fix = "recompute_modules by Megatron's names, without recompute_num_layers"
    example = "recompute_granularity=selective recompute_modules=[attn]"

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        if recompute.granularity != "selective":
            return None
        if recompute.num_layers is not None:
            return f"selective recompute with recompute_num_layers={recompute.num_layers}: set it to null"
        if recompute.method is not None and recompute.method not in METHODS:
            return f"recompute_method={recompute.method} is neither uniform nor block"
        unknown = sorted(set(recompute.modules) - MODULES)
        if unknown:
            return f"recompute_modules holds {', '.join(unknown)}; known are {', '.join(sorted(MODULES))}"
        return None


class ModulesExist(RecomputeRule):
    """A module is recomputed only where the model and the precision have it.

    moe_act needs grouped GEMM, mla_up_proj multi-latent attention, gdn_norm_out a gated delta net; mhc needs
    hyper-connections and excludes mlp; delayed fp8 scaling excludes moe_act and layernorm.
    """

    id = "recompute.rc-mod"
    reads = ("precision", "moe_grouped_gemm", "multi_latent_attention", "experimental_attention_variant")
    fix = "leave out the modules that the model or the precision does not have"
    example = "mla_up_proj in recompute_modules of llama-3.1-8b"

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        model = problem.model
        delayed = problem.precision in ("fp8_ds", "fp8_delayed")
        needs = (
            ("moe_act", model.is_moe and model.moe_grouped_gemm, "experts with moe_grouped_gemm=true"),
            ("mla_up_proj", model.multi_latent_attention, "multi-latent attention"),
            ("gdn_norm_out", model.experimental_attention_variant in GATED_DELTA_NET, "a gated delta net"),
            ("mhc", model.enable_mhc_connections, "enable_mhc_connections=true"),
            ("mhc", not recompute.drops("mlp"), "mlp to be left out"),
            ("moe_act", not delayed, "another fp8 recipe than delayed scaling"),
            ("layernorm", not delayed, "another fp8 recipe than delayed scaling"),
        )
        for module, present, what in needs:
            if recompute.drops(module) and not present:
                return f"{module} in recompute_modules of {model.name} ({problem.precision}) needs {what}"
        return None


class DistributedActivations(Rule):
    """Saved activations are not distributed over tensor ranks while sequence parallelism has split them already."""

    id = "recompute.rc-dist"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("recompute", "sequence_parallel")
    reads = ("distribute_saved_activations",)
    fix = "distribute_saved_activations=false"
    example = "distribute_saved_activations=True with sequence_parallel=True and full recompute"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        recomputes = layout.recompute.granularity is not None
        return not (layout.settings.distribute_saved_activations and recomputes and layout.sequence_parallel)

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.settings.distribute_saved_activations:
            recomputes = model.arithmetic.choose(model.x.recompute, lambda option: int(option.granularity is not None))
            model.at_most(recomputes + model.x.sequence_parallel, 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return (
            f"distribute_saved_activations=True with tp={layout.tp}, sequence_parallel=True and "
            f"{layout.recompute.granularity} recompute: set distribute_saved_activations=false"
        )


class HostOffload(Rule):
    """Offloading layers to the host needs pp = 1, fewer layers than the model has, and no recompute.

    Fine-grained offloading of activations excludes it, and excludes recompute of hyper-connections.
    """

    id = "recompute.offload"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("pp", "recompute")
    reads = ("cpu_offloading", "cpu_offloading_num_layers", "num_layers", "fine_grained_activation_offloading")
    fix = "pp=1 and no recompute, or offload the optimizer instead"
    example = "cpu_offloading=True cpu_offloading_num_layers=2 with pp=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem.model, layout.settings, layout.pp, layout.recompute) is None

    def _fault(self, model: ModelSpec, settings: Settings, pp: int, recompute: Recompute) -> str | None:
        count, layers = settings.cpu_offloading_num_layers, model.num_layers
        if settings.fine_grained_activation_offloading and settings.cpu_offloading:
            return "fine_grained_activation_offloading=True and cpu_offloading=True: choose one"
        if settings.fine_grained_activation_offloading and recompute.drops("mhc"):
            return "fine_grained_activation_offloading=True with mhc in recompute_modules: choose one"
        if not settings.cpu_offloading:
            return None
        if not 0 <= count < layers:
            return f"cpu_offloading_num_layers={count} must be from 0 to {layers - 1}: the model has {layers} layers"
        if pp > 1:
            return f"cpu_offloading=True with pp={pp}: set pipeline_model_parallel_size=1"
        if recompute.granularity is not None:
            return f"cpu_offloading=True with {recompute.granularity} recompute: set recompute_granularity=null"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        spec, settings = problem.model, problem.settings
        if self._fault(spec, settings, 1, Recompute()) is not None:
            model.forbid()
        model.allow("pp", lambda pp: self._fault(spec, settings, pp, Recompute()) is None)
        model.allow_recompute(lambda option: self._fault(spec, settings, 1, option) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem.model, layout.settings, layout.pp, layout.recompute) or ""


class HyperConnections(Rule):
    """Hyper-connections (enable_mhc_connections) need pp = 1, and take neither MTP layers nor full recompute."""

    id = "recompute.mhc"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("pp", "recompute")
    reads = ("enable_mhc_connections", "mtp_num_layers")
    since = "0.20"
    fix = "pp=1, no MTP layers, and selective recompute"
    example = "enable_mhc_connections=True with pp=4"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not problem.model.enable_mhc_connections or not self._faults(problem, layout.pp, layout.recompute)

    def _faults(self, problem: Problem, pp: int, recompute: Recompute) -> list[str]:
        faults = (
            (f"pp={pp}", pp > 1),
            (f"mtp_num_layers={problem.model.mtp_num_layers}", problem.model.mtp_num_layers is not None),
            ("full recompute", recompute.is_full),
        )
        return [text for text, broken in faults if broken]

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.model.enable_mhc_connections:
            if problem.model.mtp_num_layers is not None:
                model.forbid()
            model.allow("pp", lambda pp: pp == 1)
            model.allow_recompute(lambda option: not option.is_full)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"enable_mhc_connections=True with {', '.join(self._faults(problem, layout.pp, layout.recompute))}"


class CudaGraphs(RecomputeRule):
    """CUDA graphs capture modules that exist and do not synchronise, and nothing that full recompute or offload wraps.

    Megatron Bridge takes ``transformer_engine`` for modules and ``full_iteration`` for whole steps; ``local`` only in
    the old spelling of the latter, ``cuda_graph_modules=[full_iteration]``.
    """

    id = "recompute.cg"
    source = bridge("utils/cuda_graph.py", "validate_cuda_graph_configuration")
    reads = ("cuda_graph_impl", "cuda_graph_modules", "use_te_rng_tracker", "check_for_nan_in_loss", "cpu_offloading")
    fix = "selective recompute, or cuda_graph_impl=none"
    example = "cuda_graph_impl=transformer_engine with full recompute"

    def fault(self, problem: Problem, settings: Settings, recompute: Recompute) -> str | None:
        implementation, modules = _graphs(settings)
        if implementation == "none":
            return None
        if implementation not in ("transformer_engine", "full_iteration"):
            return f"cuda_graph_impl={implementation} is not supported here: use transformer_engine or full_iteration"
        if settings.use_te_rng_tracker is False and not problem.model.is_hybrid:
            return f"cuda_graph_impl={implementation} with use_te_rng_tracker=False: set it to true"
        if implementation == "full_iteration":
            return _whole_step_fault(settings, modules)
        return _modules_fault(problem.model, settings, modules) or _beside_fault(settings, recompute, modules)


GRAPH_MODULES = frozenset({"attn", "mlp", "moe", "moe_router", "moe_preprocess", "mamba"})


def _graphs(settings: Settings) -> tuple[str, frozenset[str]]:
    """Implementation and modules, in today's spelling."""
    modules = frozenset(settings.cuda_graph_modules) - {"full"}
    if settings.cuda_graph_impl in ("local", "full_iteration") and "full_iteration" in modules:
        return "full_iteration", modules - {"full_iteration"}
    return settings.cuda_graph_impl, modules


def _whole_step_fault(settings: Settings, modules: frozenset[str]) -> str | None:
    if modules:
        return f"full-iteration CUDA graphs with cuda_graph_modules={sorted(modules)}: leave them empty"
    if settings.check_for_nan_in_loss:
        return "full-iteration CUDA graphs with check_for_nan_in_loss=True: set it to false"
    return None


def _modules_fault(model: ModelSpec, settings: Settings, modules: frozenset[str]) -> str | None:
    if unknown := sorted(modules - GRAPH_MODULES):
        return f"cuda_graph_modules holds {', '.join(unknown)}; known are {', '.join(sorted(GRAPH_MODULES))}"
    if {"moe", "moe_router"} <= modules:
        return "cuda_graph_modules holds both moe and moe_router: choose one"
    if "moe_preprocess" in modules and "moe_router" not in modules:
        return "cuda_graph_modules holds moe_preprocess without moe_router: add it"
    if model.experts <= 1:
        moe = sorted(modules & {"moe", "moe_router"})
        return f"cuda_graph_modules holds {', '.join(moe)}, and {model.name} has no experts" if moe else None
    frequency = model.moe_layer_freq
    if "mlp" in modules and (frequency == 1 if isinstance(frequency, int) else 0 not in frequency):
        return f"cuda_graph_modules holds mlp, and {model.name} has no dense layer"
    capacity = settings.moe_expert_capacity_factor
    if capacity is not None and capacity < 0:
        capacity = None  # as Megatron reads it
    if capacity is not None and settings.moe_pad_expert_input_to_capacity:
        return None
    if "moe" in modules:
        return "cuda_graph_modules holds moe without drop-and-pad: set a capacity factor and pad to it"
    if "moe_preprocess" in modules and settings.moe_token_dispatcher_type == "alltoall" and capacity is not None:
        return f"cuda_graph_modules holds moe_preprocess: alltoall with capacity factor {capacity} synchronises in it"
    return None


def _beside_fault(settings: Settings, recompute: Recompute, modules: frozenset[str]) -> str | None:
    if settings.cpu_offloading:
        return "CUDA graphs with cpu_offloading=True: choose one"
    if recompute.is_full:
        return (
            "full recompute with CUDA graphs of modules: use cuda_graph_impl=full_iteration, or recompute selectively"
        )
    if recompute.drops("moe") and "moe_router" in modules:
        return "moe is recomputed around the captured moe_router: take one out of its list"
    if settings.fine_grained_activation_offloading and "moe" in modules:
        return "fine_grained_activation_offloading=True with moe in cuda_graph_modules: choose one"
    return None


class GraphSwitches(SettingsRule):
    """CUDA graphs go with use_te_rng_tracker=true, and those of whole steps with check_for_nan_in_loss=false too.

    Megatron's defaults are the opposite, but overrides are laid over a recipe, and NVIDIA's own recipes set both:
    what a layout leaves unsaid is a warning, what it says wrongly breaks ``recompute.cg``.
    """

    id = "recompute.cg-switches"
    stratum = Stratum.ADVICE
    noticed = Noticed.BUILD
    source = bridge("models/gpt_provider.py", "GPTModelProvider.provide")
    reads = ("cuda_graph_impl", "use_te_rng_tracker", "check_for_nan_in_loss")
    fix = "rng.te_rng_tracker=true, and rerun_state_machine.check_for_nan_in_loss=false for whole steps"
    example = "cuda_graph_impl=transformer_engine and no word about use_te_rng_tracker"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not self._unsaid(problem, layout.settings)

    def _unsaid(self, problem: Problem, settings: Settings) -> list[str]:
        implementation, _ = _graphs(settings)
        if implementation == "none":
            return []
        tracker = settings.use_te_rng_tracker is None and not problem.model.is_hybrid
        check = settings.check_for_nan_in_loss is None and implementation == "full_iteration"
        return ["use_te_rng_tracker=true"] * tracker + ["check_for_nan_in_loss=false"] * check

    def reason(self, problem: Problem, layout: Layout) -> str:
        unsaid = " and ".join(self._unsaid(problem, layout.settings))
        return f"cuda_graph_impl={layout.settings.cuda_graph_impl} needs {unsaid}: the layout does not say so"


RULES = (
    FullRecompute(),
    MtpRecompute(),
    *recompute_counts.RULES,
    SelectiveRecompute(),
    ModulesExist(),
    DistributedActivations(),
    HostOffload(),
    HyperConnections(),
    CudaGraphs(),
    GraphSwitches(),
)
