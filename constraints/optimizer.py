"""The distributed optimizer, FSDP and gradient switches.

Rules that only the Megatron-LM command line has (``megatron/training/arguments.py``) are no framework rules here: the
verdict is Megatron Bridge's. ``overlap-pg`` is advice, ``fsdp2-pp`` and ``conn1`` are left out. ``do-sync`` is Bridge's
own repair of a contradiction and forbids nothing. Environment variables and checkpoint formats are no part of a layout.
"""

from __future__ import annotations

from constraints.layout import Layout, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Citation, Noticed, Rule, SettingsRule, Stratum, bridge, mcore

__all__ = ["RULES"]


class OptimizerInstances(Rule):
    """Distributed-optimizer instances share both meshes evenly: (dp * cp) mod n = 0 and edp mod n = 0."""

    id = "optimizer.do-instances"
    noticed = Noticed.GROUPS
    source = mcore("parallel_state.py", "initialize_model_parallel")
    scope = ("dp", "cp", "edp")
    reads = ("num_distributed_optimizer_instances",)
    fix = "a number of instances that divides dp*cp and edp; 1 always does"
    example = "num_distributed_optimizer_instances=2 with ep=8 on 8 GPUs: edp = 1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        instances = max(1, layout.settings.num_distributed_optimizer_instances)
        return layout.dp * layout.cp % instances == 0 and layout.edp % instances == 0

    def post(self, model: Builder, problem: Problem) -> None:
        instances = problem.settings.num_distributed_optimizer_instances
        if instances > 1:
            model.divides(instances, model.arithmetic.mul(model.x.dp, model.x.cp))
            model.allow("edp", lambda edp: edp % instances == 0)

    def reason(self, problem: Problem, layout: Layout) -> str:
        instances, dense = layout.settings.num_distributed_optimizer_instances, layout.dp * layout.cp
        text = f"num_distributed_optimizer_instances={instances} over"
        if dense % instances:
            return f"{text} dp*cp = {layout.dp}*{layout.cp} = {dense}: {dense} mod {instances} = {dense % instances}"
        return (
            f"{text} expert data parallelism edp={layout.edp}: {layout.edp} mod {instances} = {layout.edp % instances}"
        )


class OverlappedGather(Rule):
    """An overlapped parameter gather goes with the distributed optimizer or FSDP, and overlapped gradient reduction.

    Overlapping it with the optimizer step goes with virtual pipeline stages. The Megatron-LM command line insists on
    both; Megatron Bridge does not look.
    """

    id = "optimizer.overlap-pg"
    stratum = Stratum.ADVICE
    noticed = Noticed.NEVER
    source = Citation("NVIDIA/Megatron-LM", "d98e8a6", "megatron/training/arguments.py", "validate_args")
    scope = ("vpp",)
    reads = (
        "overlap_param_gather",
        "overlap_grad_reduce",
        "use_distributed_optimizer",
        "overlap_param_gather_with_optimizer_step",
    )
    enforced_by_solve = False
    fix = "use_distributed_optimizer=true and overlap_grad_reduce=true beside it"
    example = "overlap_param_gather=True with overlap_grad_reduce=False"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        stepwise = layout.settings.overlap_param_gather_with_optimizer_step
        return self._fault(layout.settings) is None and not (stepwise and layout.vpp is None)

    def _fault(self, settings: Settings) -> str | None:
        if not settings.overlap_param_gather:
            return None
        fsdp = settings.use_megatron_fsdp or settings.use_megatron_fsdp_v2
        if not settings.use_distributed_optimizer and not fsdp:
            return "overlap_param_gather=True with use_distributed_optimizer=False"
        if settings.overlap_grad_reduce is False:
            return "overlap_param_gather=True with overlap_grad_reduce=False: set overlap_grad_reduce=true"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        if self._fault(problem.settings) is not None:
            model.forbid()
        if problem.settings.overlap_param_gather_with_optimizer_step:
            model.allow_shapes(lambda shape: shape.vpp is not None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(layout.settings) or (
            f"overlap_param_gather_with_optimizer_step=True with pp={layout.pp} vpp=null"
        )


class MegatronFsdp(SettingsRule):
    """Megatron FSDP excludes torch FSDP2 and the rank order tp-cp-ep-pp-dp.

    It takes tp, pp, cp and ep as they are.
    """

    id = "optimizer.mfsdp-v1"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer._validate_and_apply_megatron_fsdp_v1_configs")
    reads = ("use_megatron_fsdp", "use_torch_fsdp2", "use_tp_pp_dp_mapping")
    fix = "one of the two FSDPs, and the default rank order"
    example = "use_megatron_fsdp=True with use_tp_pp_dp_mapping=True"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        settings = layout.settings
        if not settings.use_megatron_fsdp:
            return True
        return not settings.use_torch_fsdp2 and (not settings.use_tp_pp_dp_mapping or settings.use_megatron_fsdp_v2)

    def reason(self, problem: Problem, layout: Layout) -> str:
        other = "use_torch_fsdp2" if layout.settings.use_torch_fsdp2 else "use_tp_pp_dp_mapping"
        return f"use_megatron_fsdp=True with {other}=True: set {other}=false"


class MegatronFsdp2(Rule):
    """Version 2 of Megatron FSDP is data-parallel only: tp = pp = cp = ep = 1, no vpp, a dense model in bf16."""

    id = "optimizer.mfsdp-v2"
    noticed = Noticed.CONFIG
    source = bridge("training/config.py", "ConfigContainer._validate_and_apply_megatron_fsdp_v2_configs")
    scope = ("tp", "pp", "cp", "ep", "vpp")
    reads = ("use_megatron_fsdp_v2", "num_moe_experts", "precision", "num_distributed_optimizer_instances")
    since = "0.20"
    fix = "tp=1 pp=1 cp=1 ep=1 without vpp, or version 1"
    example = "megatron_fsdp_version=2 with tp=2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not layout.settings.use_megatron_fsdp_v2:
            return True
        alone = layout.tp == layout.pp == layout.cp == layout.ep == 1 and layout.vpp is None
        return alone and self._fault(problem, layout.settings) is None

    def _fault(self, problem: Problem, settings: Settings) -> str | None:
        clashes = (
            (f"{problem.model.experts} experts", problem.model.num_moe_experts is not None),
            (problem.precision, problem.uses_fp8),
            (
                f"num_distributed_optimizer_instances={settings.num_distributed_optimizer_instances}",
                settings.num_distributed_optimizer_instances != 1,
            ),
            (f"cuda_graph_impl={settings.cuda_graph_impl}", settings.cuda_graph_impl != "none"),
            ("use_tp_pp_dp_mapping=True", settings.use_tp_pp_dp_mapping),
            ("use_torch_fsdp2=True", settings.use_torch_fsdp2),
            ("calculate_per_token_loss=True", settings.calculate_per_token_loss),
            ("use_precision_aware_optimizer=True", settings.use_precision_aware_optimizer),
            ("optimizer_cpu_offload=True", settings.optimizer_cpu_offload),
        )
        return next((text for text, clash in clashes if clash), None)

    def post(self, model: Builder, problem: Problem) -> None:
        if not problem.settings.use_megatron_fsdp_v2:
            return
        if self._fault(problem, problem.settings) is not None:
            model.forbid()
        for degree in ("tp", "pp", "cp", "ep"):
            model.allow(degree, lambda value: value == 1)
        model.allow_shapes(lambda shape: shape.vpp is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        degrees = [f"{name}={value}" for name in self.scope if (value := getattr(layout, name)) not in (None, 1)]
        if layout.vpp == 1:
            degrees.append("vpp=1")
        clash = self._fault(problem, layout.settings)
        return f"Megatron FSDP version 2 with {', '.join(degrees + ([clash] if clash else []))}"


class DeferredEmbeddingGradient(Rule):
    """Deferring the embedding's weight gradient needs pp > 1, fused gradient accumulation, and a limit of 0 or more."""

    id = "optimizer.embed-wgrad"
    noticed = Noticed.CONFIG
    source = mcore("model_parallel_config.py", "ModelParallelConfig.__post_init__")
    scope = ("pp",)
    reads = ("defer_embedding_wgrad_compute", "gradient_accumulation_fusion", "wgrad_deferral_limit")
    fix = "defer_embedding_wgrad_compute=false, or pp > 1 with fused accumulation"
    example = "defer_embedding_wgrad_compute=True with pp=1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.settings.defer_embedding_wgrad_compute or (
            layout.pp > 1 and self._fault(layout.settings) is None
        )

    def _fault(self, settings: Settings) -> str | None:
        if not settings.gradient_accumulation_fusion:
            return "gradient_accumulation_fusion=False: set it to true"
        if settings.wgrad_deferral_limit < 0:
            return f"wgrad_deferral_limit={settings.wgrad_deferral_limit}: set it to 0 or more"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        if problem.settings.defer_embedding_wgrad_compute:
            if self._fault(problem.settings) is not None:
                model.forbid()
            model.allow("pp", lambda pp: pp > 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        fault = self._fault(layout.settings) or f"pp={layout.pp}: there is no pipeline to defer into"
        return f"defer_embedding_wgrad_compute=True with {fault}"


class WeightShards(Rule):
    """Weights in n shards are cut over whole tensor groups, n mod tp = 0; n > tp wants one optimizer instance.

    The n/tp ranks that gather weights from one another come out of data parallelism: dp mod (n/tp) = 0 as well.
    1 means "not set".
    """

    id = "optimizer.gtp"
    noticed = Noticed.CONFIG
    source = mcore("model_parallel_config.py", "resolve_tensor_parallel_weight_shards")
    scope = ("tp", "dp")
    reads = ("tensor_parallel_num_weight_shards", "num_distributed_optimizer_instances")
    fix = "a number of weight shards that is a multiple of tp, or 1"
    since = "0.19"
    example = "tensor_parallel_num_weight_shards=6 with tp=4: 6 mod 4 = 2"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        shards = layout.settings.tensor_parallel_num_weight_shards
        if shards <= 1:
            return True
        if shards % layout.tp or layout.dp * layout.tp % shards:
            return False
        return shards == layout.tp or layout.settings.num_distributed_optimizer_instances == 1

    def post(self, model: Builder, problem: Problem) -> None:
        shards = problem.settings.tensor_parallel_num_weight_shards
        if shards <= 1:
            return
        model.allow("tp", lambda tp: shards % tp == 0)
        model.divides(shards, model.arithmetic.mul(model.x.dp, model.x.tp))
        if problem.settings.num_distributed_optimizer_instances != 1:
            model.allow("tp", lambda tp: tp == shards)

    def reason(self, problem: Problem, layout: Layout) -> str:
        shards, tp, dp = layout.settings.tensor_parallel_num_weight_shards, layout.tp, layout.dp
        text = f"tensor_parallel_num_weight_shards={shards} with tp={tp}"
        if shards % tp:
            return f"{text}: {shards} mod {tp} = {shards % tp}"
        if dp * tp % shards:
            return (
                f"{text} takes groups of {shards // tp} out of dp={dp}: {dp} mod {shards // tp} = {dp % (shards // tp)}"
            )
        instances = layout.settings.num_distributed_optimizer_instances
        return f"{text} and num_distributed_optimizer_instances={instances}: set it to 1"


class LayersInBf16(Rule):
    """First and last layers kept in bf16 under fp8 are no more than a stage has: each count <= floor(layers / pp).

    Delayed scaling does not offer it.
    """

    id = "optimizer.bf16-ends"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("pp",)
    reads = (
        "first_last_layers_bf16",
        "num_layers_at_start_in_bf16",
        "num_layers_at_end_in_bf16",
        "num_layers",
        "precision",
    )
    fix = "fewer layers in bf16 at the ends, or a smaller pp"
    example = "first_last_layers_bf16=True num_layers_at_start_in_bf16=5 with 32 layers on pp=8"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem, layout.settings, layout.pp) is None

    def _fault(self, problem: Problem, settings: Settings, pp: int) -> str | None:
        if not settings.first_last_layers_bf16 or not problem.precision.startswith("fp8"):
            return None
        if problem.precision in ("fp8_ds", "fp8_delayed"):
            return f"first_last_layers_bf16=True with delayed scaling ({problem.precision})"
        layers, most = problem.model.num_layers, problem.model.num_layers // pp
        for name in ("num_layers_at_start_in_bf16", "num_layers_at_end_in_bf16"):
            count = getattr(settings, name)
            if not 0 <= count <= most:
                return f"{name}={count}, a stage has floor({layers} / pp={pp}) = {most} layers"
        return None

    def post(self, model: Builder, problem: Problem) -> None:
        model.allow("pp", lambda pp: self._fault(problem, problem.settings, pp) is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem, layout.settings, layout.pp) or ""


RULES = (
    OptimizerInstances(),
    OverlappedGather(),
    MegatronFsdp(),
    MegatronFsdp2(),
    DeferredEmbeddingGradient(),
    WeightShards(),
    LayersInBf16(),
)
