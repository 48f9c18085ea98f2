"""How tokens reach their experts, and what may run while they travel: dispatchers and overlap switches."""

from __future__ import annotations

from constraints.capability import compute_capability
from constraints.experts import has_expert_layers
from constraints.generations import before
from constraints.layout import Layout, Settings
from constraints.problem import Problem
from constraints.rule import Builder, Noticed, Rule, SettingsRule, bridge, mcore, older_mcore
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["DEFAULT_BACKEND", "RULES"]

DISPATCHERS = ("allgather", "alltoall", "flex")
BACKENDS = ("deepep", "hybridep", "ncclep")
DEFAULT_BACKEND = "deepep"
PAIRED = ("deepep", "ncclep")
"""Backends that refuse to run where there is nobody to send to: etp * ep must be above 1 (hybridep too before 0.19)."""
CAPACITY_BALANCING = ("aux_loss", "seq_aux_loss", "global_aux_loss", "none")


class Dispatcher(Rule):
    """The token dispatcher exists, is offered for this GPU and these switches, and deepep and ncclep need etp * ep > 1.

    ``flex`` without a word about its backend is deepep, Megatron-Core's default.
    """

    id = "dispatch.dispatcher"
    noticed = Noticed.CONFIG
    source = bridge("training/flex_dispatcher_backend.py", "validate_flex_dispatcher_backend")
    scope = ("ep", "etp")
    reads = (
        "moe_token_dispatcher_type",
        "moe_flex_dispatcher_backend",
        "moe_pad_expert_input_to_capacity",
        "variable_seq_lengths",
    )
    fix = "moe_token_dispatcher_type=alltoall, which any GPU and any degrees take"
    example = "moe_token_dispatcher_type=flex moe_flex_dispatcher_backend=deepep on GB200"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem, layout.settings, layout.etp * layout.ep) is None

    def post(self, model: Builder, problem: Problem) -> None:
        if self._fault(problem, problem.settings, 2) is not None:
            model.forbid()
        elif self._fault(problem, problem.settings, 1) is not None:
            model.at_most(2, model.arithmetic.mul(model.x.etp, model.x.ep))

    def _fault(self, problem: Problem, settings: Settings, ranks: int) -> str | None:
        kind, backend = settings.moe_token_dispatcher_type, settings.moe_flex_dispatcher_backend or DEFAULT_BACKEND
        if kind == "allgather" and settings.variable_seq_lengths:
            return "moe_token_dispatcher_type=allgather with variable_seq_lengths=True: use alltoall"
        if backend == "ncclep" and kind != "flex":
            return f"moe_flex_dispatcher_backend=ncclep with moe_token_dispatcher_type={kind}: it needs flex"
        if kind == "flex" and backend in PAIRED and settings.moe_pad_expert_input_to_capacity:
            return f"the {backend} backend does not pad to capacity: set moe_pad_expert_input_to_capacity=false"
        if kind == "flex" and not _runs_on(backend, problem.gpu):
            return f"the {backend} backend does not run on {problem.gpu.name}: use hybridep, or alltoall"
        if not has_expert_layers(problem.model):
            return None  # nothing is dispatched, so nobody looks further
        if kind not in DISPATCHERS:
            return f"moe_token_dispatcher_type={kind} is none of {', '.join(DISPATCHERS)}"
        if kind == "flex" and backend not in BACKENDS:
            return f"moe_flex_dispatcher_backend={backend} is none of {', '.join(BACKENDS)}"
        paired = BACKENDS if before(problem.megatron, "0.19") else PAIRED
        if kind == "flex" and backend in paired and ranks < 2:
            return f"the {backend} backend needs etp*ep > 1, here it is {ranks}: use alltoall"
        return None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem, layout.settings, layout.etp * layout.ep) or ""


def _runs_on(backend: str | None, gpu: GpuSpec) -> bool:
    """Megatron Bridge's list of GPUs per backend; an architecture that this file cannot read is not judged."""
    capability = compute_capability(gpu.architecture)
    if capability is None:
        return True
    major = capability[0]
    if backend == "deepep":
        return major in (8, 9) or gpu.name.lower().startswith(("b200", "b300"))
    return backend != "hybridep" or major in (8, 9, 10)


class ExpertCapacity(SettingsRule):
    """A capacity factor goes with auxiliary-loss balancing or none; padding to capacity needs a factor."""

    id = "dispatch.capacity"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = (
        "moe_expert_capacity_factor",
        "moe_pad_expert_input_to_capacity",
        "moe_router_load_balancing_type",
    )
    fix = "moe_expert_capacity_factor with moe_router_load_balancing_type=aux_loss, or no factor"
    example = "moe_pad_expert_input_to_capacity=True without moe_expert_capacity_factor"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return self._fault(problem.model, layout.settings) is None

    def _fault(self, model: ModelSpec, settings: Settings) -> str | None:
        factor, balancing = settings.moe_expert_capacity_factor, model.moe_router_load_balancing_type
        others = sorted({balancing} if isinstance(balancing, str) else set(balancing))
        others = [name for name in others if name not in CAPACITY_BALANCING]
        if factor is not None and others:
            return f"moe_expert_capacity_factor={factor} does not go with {', '.join(others)} load balancing"
        if settings.moe_pad_expert_input_to_capacity and (factor is None or factor < 0):
            what = (
                "without moe_expert_capacity_factor" if factor is None else f"with moe_expert_capacity_factor={factor}"
            )
            return f"moe_pad_expert_input_to_capacity=True {what}: set it, say to 1.0"
        return None

    def reason(self, problem: Problem, layout: Layout) -> str:
        return self._fault(problem.model, layout.settings) or ""


class SharedExpertOverlap(Rule):
    """A shared expert overlaps with dispatch only under alltoall or flex, and is then not recomputed."""

    id = "dispatch.shared-overlap"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("recompute",)
    reads = ("moe_shared_expert_overlap", "moe_shared_expert_intermediate_size", "moe_token_dispatcher_type")
    fix = "moe_shared_expert_overlap=false, or alltoall without recompute of shared_experts"
    example = "moe_shared_expert_overlap=True with recompute_modules=[shared_experts]"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        if not self._overlaps(problem.model, layout.settings):
            return True
        dispatched = layout.settings.moe_token_dispatcher_type in ("alltoall", "flex")
        return dispatched and not layout.recompute.drops("shared_experts")

    def _overlaps(self, model: ModelSpec, settings: Settings) -> bool:
        return settings.moe_shared_expert_overlap and model.moe_shared_expert_intermediate_size is not None

    def post(self, model: Builder, problem: Problem) -> None:
        if not self._overlaps(problem.model, problem.settings):
            return
        if problem.settings.moe_token_dispatcher_type not in ("alltoall", "flex"):
            model.forbid()
        model.allow_recompute(lambda option: not option.drops("shared_experts"))

    def reason(self, problem: Problem, layout: Layout) -> str:
        if layout.recompute.drops("shared_experts"):
            return "moe_shared_expert_overlap=True while shared_experts is recomputed: take it out of recompute_modules"
        kind = layout.settings.moe_token_dispatcher_type
        return f"moe_shared_expert_overlap=True with moe_token_dispatcher_type={kind}: use alltoall or flex"


class ExchangeOverlap(Rule):
    """Overlapping the expert exchange needs ep > 1, vpp wherever pp > 1, and no recompute of whole layers or experts.

    It also excludes the shared-expert overlap, more than one MTP layer, and CUDA graphs of moe or mlp.
    """

    id = "dispatch.a2a-overlap"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("pp", "vpp", "ep", "recompute")
    reads = (
        "overlap_moe_expert_parallel_comm",
        "moe_token_dispatcher_type",
        "moe_shared_expert_overlap",
        "mtp_num_layers",
    )
    fix = "overlap_moe_expert_parallel_comm=false, or ep > 1 with vpp set and light recompute"
    example = "overlap_moe_expert_parallel_comm=True with pp=2 and vpp=null"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.settings.overlap_moe_expert_parallel_comm or not self._faults(problem, layout)

    def _faults(self, problem: Problem, layout: Layout) -> list[str]:
        recompute, constant = layout.recompute, self._constant_faults(problem.model, layout.settings)
        return constant + [
            text
            for text, broken in (
                (f"ep={layout.ep} must be above 1", layout.ep == 1),
                (f"pp={layout.pp} needs virtual_pipeline_model_parallel_size", layout.pp > 1 and layout.vpp is None),
                ("recompute_granularity must not be full", recompute.is_full),
                (f"recompute_method={recompute.method} must be unset", recompute.method is not None),
                (f"recompute_num_layers={recompute.num_layers} must be unset", recompute.num_layers is not None),
                ("moe must not be in recompute_modules", "moe" in recompute.modules),
            )
            if broken
        ]

    def _constant_faults(self, model: ModelSpec, settings: Settings) -> list[str]:
        kind, graphed = settings.moe_token_dispatcher_type, {"moe", "mlp"} & set(settings.cuda_graph_modules)
        return [
            text
            for text, broken in (
                (f"the dispatcher {kind} must be alltoall or flex", kind not in ("alltoall", "flex")),
                ("moe_shared_expert_overlap must be false", settings.moe_shared_expert_overlap),
                (f"mtp_num_layers={model.mtp_layers} must be at most 1", model.mtp_layers > 1),
                (
                    f"cuda_graph_modules must not hold {', '.join(sorted(graphed))}",
                    settings.cuda_graph_impl == "transformer_engine" and bool(graphed),
                ),
            )
            if broken
        ]

    def post(self, model: Builder, problem: Problem) -> None:
        if not problem.settings.overlap_moe_expert_parallel_comm:
            return
        if self._constant_faults(problem.model, problem.settings):
            model.forbid()
        model.allow("ep", lambda ep: ep > 1)
        model.allow_shapes(lambda shape: shape.pp == 1 or shape.vpp is not None)
        model.allow_recompute(
            lambda option: (
                not option.is_full
                and option.method is None
                and option.num_layers is None
                and "moe" not in option.modules
            )
        )

    def reason(self, problem: Problem, layout: Layout) -> str:
        return f"overlap_moe_expert_parallel_comm=True: {'; '.join(self._faults(problem, layout))}"


class ExchangeOverlapWithPrediction(Rule):
    """Overlapping the expert exchange needs pp > 1 where the model has an MTP layer."""

    id = "dispatch.a2a-overlap-mtp"
    noticed = Noticed.CONFIG
    source = older_mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    scope = ("pp",)
    reads = ("overlap_moe_expert_parallel_comm", "mtp_num_layers")
    until = "0.19"
    fix = "overlap_moe_expert_parallel_comm=false, or pp > 1"
    example = "overlap_moe_expert_parallel_comm=True with mtp_num_layers=1 and pp=1"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not self._concerns(problem, layout.settings) or layout.pp > 1

    def _concerns(self, problem: Problem, settings: Settings) -> bool:
        return settings.overlap_moe_expert_parallel_comm and problem.model.mtp_num_layers is not None

    def post(self, model: Builder, problem: Problem) -> None:
        if self._concerns(problem, problem.settings):
            model.allow("pp", lambda pp: pp > 1)

    def reason(self, problem: Problem, layout: Layout) -> str:
        layers = problem.model.mtp_num_layers
        return f"overlap_moe_expert_parallel_comm=True with mtp_num_layers={layers} and pp=1: it needs a pipeline"


class SharedExpertOverlapAlltoall(SettingsRule):
    """A shared expert overlaps with dispatch only under alltoall: flex came later."""

    id = "dispatch.shared-overlap-flex"
    noticed = Noticed.CONFIG
    source = older_mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_shared_expert_overlap", "moe_shared_expert_intermediate_size", "moe_token_dispatcher_type")
    until = "0.19"
    fix = "moe_token_dispatcher_type=alltoall, or moe_shared_expert_overlap=false"
    example = "moe_shared_expert_overlap=True with moe_token_dispatcher_type=flex"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        overlaps = layout.settings.moe_shared_expert_overlap
        shared = problem.model.moe_shared_expert_intermediate_size is not None
        return not (overlaps and shared and layout.settings.moe_token_dispatcher_type == "flex")

    def reason(self, problem: Problem, layout: Layout) -> str:
        return "moe_shared_expert_overlap=True with moe_token_dispatcher_type=flex: use alltoall"


class DelayedWeightGradient(SettingsRule):
    """Delaying weight gradients belongs to the overlap of the expert exchange."""

    id = "dispatch.delay-wgrad"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("delay_wgrad_compute", "overlap_moe_expert_parallel_comm")
    fix = "overlap_moe_expert_parallel_comm=true beside it, or delay_wgrad_compute=false"
    example = "delay_wgrad_compute=True without overlap_moe_expert_parallel_comm"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        return not layout.settings.delay_wgrad_compute or layout.settings.overlap_moe_expert_parallel_comm

    def reason(self, problem: Problem, layout: Layout) -> str:
        return "delay_wgrad_compute=True needs overlap_moe_expert_parallel_comm=true"


class QuantizationPadding(SettingsRule):
    """Padding the routing map for quantization needs fp8 or fp4, and another dispatcher than allgather."""

    id = "dispatch.quant-pad"
    noticed = Noticed.CONFIG
    source = mcore("transformer/transformer_config.py", "TransformerConfig.__post_init__")
    reads = ("moe_router_padding_for_quantization", "precision", "moe_token_dispatcher_type")
    fix = "moe_router_padding_for_quantization=false outside fp8 and fp4"
    example = "moe_router_padding_for_quantization=True in bf16"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        settings = layout.settings
        return not settings.moe_router_padding_for_quantization or (
            problem.uses_fp8 and settings.moe_token_dispatcher_type not in ("allgather", "alltoall_seq")
        )

    def reason(self, problem: Problem, layout: Layout) -> str:
        kind = layout.settings.moe_token_dispatcher_type
        return (
            f"moe_router_padding_for_quantization=True in {problem.precision} with moe_token_dispatcher_type={kind}: "
            "it needs fp8 or fp4, and alltoall or flex"
        )


class PipelineSends(Rule):
    """Interleaved stages send either overlapped or batched, not both; overlapped warm-up and flush are the former.

    Left unset, sends are batched and not overlapped; Bridge's CommOverlapConfig sets both consistently.
    """

    id = "pipeline.p2p-flags"
    noticed = Noticed.STEP
    source = mcore("pipeline_parallel/schedules.py", "forward_backward_pipelining_with_interleaving")
    scope = ("pp", "vpp")
    reads = ("overlap_p2p_comm", "batch_p2p_comm", "overlap_p2p_comm_warmup_flush")
    fix = "overlap_p2p_comm=true with batch_p2p_comm=false"
    example = "overlap_p2p_comm=True with pp=4 vpp=2 and batch_p2p_comm left at True"

    def holds(self, problem: Problem, layout: Layout) -> bool:
        overlapped, batched = _sends(layout.settings)
        if layout.settings.overlap_p2p_comm_warmup_flush and (batched or not overlapped):
            return False
        return not (overlapped and batched and layout.interleaved)

    def post(self, model: Builder, problem: Problem) -> None:
        overlapped, batched = _sends(problem.settings)
        if problem.settings.overlap_p2p_comm_warmup_flush and (batched or not overlapped):
            model.forbid()
        elif overlapped and batched:
            model.allow_shapes(lambda shape: shape.pp == 1 or shape.vpp is None)

    def reason(self, problem: Problem, layout: Layout) -> str:
        overlapped, batched = _sends(layout.settings)
        what = f"overlap_p2p_comm={overlapped} and batch_p2p_comm={batched}"
        if layout.settings.overlap_p2p_comm_warmup_flush:
            return f"overlap_p2p_comm_warmup_flush=True with {what}: set overlap_p2p_comm=true batch_p2p_comm=false"
        return f"{what} with pp={layout.pp} vpp={layout.vpp}: set batch_p2p_comm=false"


def _sends(settings: Settings) -> tuple[bool, bool]:
    """``overlap_p2p_comm`` and ``batch_p2p_comm`` with Megatron-Core's defaults filled in."""
    return bool(settings.overlap_p2p_comm), settings.batch_p2p_comm is not False


RULES = (
    Dispatcher(),
    ExpertCapacity(),
    SharedExpertOverlap(),
    SharedExpertOverlapAlltoall(),
    ExchangeOverlapWithPrediction(),
    ExchangeOverlap(),
    DelayedWeightGradient(),
    QuantizationPadding(),
    PipelineSends(),
)
