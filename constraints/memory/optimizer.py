"""Bytes that a parameter costs while training: itself, its gradient, its share of the optimizer.

Adam with Megatron's distributed optimizer, in bytes per local element, ``Z`` being the ranks that share the element's
optimizer state (``dp * cp`` for dense parameters, ``edp`` for routed experts):

    bf16                     2 + 4 + 12/Z     fp32 gradients (Bridge ``bf16_mixed``), fp32 master and two fp32 moments
    grad_reduce_in_fp32=F    2 + 2 + 12/Z     and 4/Z more during the step: the fp32 copy of the owned gradients
    precision-aware          2 + g + (4 + a + b)/Z     moments of a and b bytes; see :func:`_master_bytes`
    no distributed optimizer 2 + g + 12
    Muon                     2 + g + 8/Z for matrices (master, momentum); everything else by Adam
    fp8, fp4 compute         low-precision copies of GEMM weights beside the bf16 ones, kept between micro-batches
    Megatron FSDP            everything over Z, and two units gathered

Source: NVIDIA/Megatron-LM@d98e8a6 ``megatron/core/optimizer/{distrib_optimizer,optimizer_config}.py``,
``megatron/core/distributed/param_and_grad_buffer.py``, ``distributed/fsdp``.
"""

from __future__ import annotations

from math import ceil

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.problem import Problem
from constraints.rule import Degrees

__all__ = [
    "adapter_bytes",
    "dense_shards",
    "expert_shards",
    "gradient_bytes",
    "shards_parameters",
    "step_bytes",
    "training_bytes",
    "trains_all",
]

MOMENT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}
PARTS = 32
"""Costs are counted in 32nds of a byte: MX scales are one byte for 32 elements."""


def trains_all(p: Problem) -> bool:
    """False for LoRA, whose base weights are frozen: they have no gradient and no optimizer state."""
    return p.task != "lora"


def gradient_bytes(p: Problem) -> int:
    """Bytes of one element of the gradient buffer."""
    return 4 if p.settings.grad_reduce_in_fp32 or p.precision == "fp32" else 2


def shards_parameters(p: Problem) -> bool:
    """True if Megatron FSDP shards parameters and gradients too (ZeRO-3)."""
    fsdp = p.settings.use_megatron_fsdp or p.settings.use_megatron_fsdp_v2
    return fsdp and p.settings.data_parallel_sharding_strategy in (None, "optim_grads_params")


def _shards_gradients(p: Problem) -> bool:
    return shards_parameters(p) or (
        p.settings.use_megatron_fsdp and p.settings.data_parallel_sharding_strategy == "optim_grads"
    )


@once
def dense_shards(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Ranks over which the optimizer state of a dense parameter is split."""
    return a.mul(x.dp, x.cp) if p.settings.use_distributed_optimizer else 1


@once
def expert_shards(a: Arithmetic, p: Problem, x: Degrees) -> Quantity:
    """Ranks over which the optimizer state of a routed expert is split."""
    return x.edp if p.settings.use_distributed_optimizer else 1


def training_bytes(
    a: Arithmetic, p: Problem, weights: Quantity, others: Quantity, shards: Quantity
) -> dict[str, Quantity]:
    """Bytes by component for local elements: ``weights`` of GEMMs that run in low precision, and ``others``."""
    elements = weights + others
    stored = _scaled(a, weights, PARTS * _plain_bytes(p) + _copies(p)) + others * (4 if p.precision == "fp32" else 2)
    out = {"parameters": a.ceil_div(stored, shards) if shards_parameters(p) else stored, "gradients": 0, "optimizer": 0}
    if trains_all(p):
        gradients = elements * gradient_bytes(p)
        out["gradients"] = a.ceil_div(gradients, shards) if _shards_gradients(p) else gradients
        state = _scaled(a, weights, _matrix_parts(p)) + _scaled(a, others, _state_parts(p))
        out["optimizer"] = a.ceil_div(state, shards)
    return out


def adapter_bytes(a: Arithmetic, p: Problem, elements: Quantity, shards: Quantity) -> dict[str, Quantity]:
    """Bytes by component of trained low-rank matrices: bf16, their gradients, Adam's state over ``shards``."""
    return {
        "parameters": elements * 2,
        "gradients": elements * gradient_bytes(p),
        "optimizer": a.ceil_div(elements * 12, shards),
    }


def step_bytes(a: Arithmetic, p: Problem, elements: Quantity, shards: Quantity) -> Quantity:
    """Bytes that live only during the optimizer step: fp32 copies of the owned gradients or moments."""
    each = copied_bytes(p)
    return a.ceil_div(elements * each, shards) if each else 0


def copied_bytes(p: Problem) -> int:
    """Bytes per owned element that the optimizer's step copies."""
    settings, each = p.settings, 0
    if not trains_all(p) or p.precision == "fp32":
        return 0
    if gradient_bytes(p) == 2 and not _takes_bf16_gradients(p):
        each += 4
    moments = (settings.exp_avg_dtype, settings.exp_avg_sq_dtype)
    if settings.use_precision_aware_optimizer and moments != ("fp32", "fp32"):
        # Transformer Engine's FusedAdam steps on fp32 copies of what is neither all fp32 nor all bf16
        each += {("bf16", "bf16"): 0}.get(moments, 8 if not {"fp32", "bf16"} >= set(moments) else 4)
    return each


def _plain_bytes(p: Problem) -> int:
    """Bytes of one stored GEMM weight, low-precision copies aside."""
    if p.precision == "fp32":
        return 4
    return 0 if p.settings.fp8_param_gather and p.precision.startswith("fp8") else 2


def _copies(p: Problem) -> int:
    """32nds of a byte per GEMM weight for the copies that low-precision GEMMs read, row-wise and (where kept) column-wise."""
    blackwell = p.gpu.architecture == "blackwell"
    if p.precision == "fp8_mx":
        # Gathered parameters pass through the gradient buffer: Bridge insists on reuse_grad_buf_for_mxfp8_param_ag.
        return 2 * PARTS + 2
    if p.precision == "nvfp4":
        return PARTS + 4
    if p.precision.startswith("fp8"):
        transposed = p.precision == "fp8_sc" or not blackwell
        return 2 * PARTS if transposed else PARTS
    return 0


def _takes_bf16_gradients(p: Problem) -> bool:
    """True if the optimizer steps on bf16 gradients as they are, and keeps half of the master as remainders.

    Megatron asks that the fp8 recipe be unset or delayed; Bridge's is ``tensorwise`` even in bf16 (``MixedPrecisionConfig``).
    """
    settings = p.settings
    if not settings.use_precision_aware_optimizer:
        return False
    return settings.main_params_dtype != "fp32" or p.precision == "fp8_ds" or settings.optimizer_cpu_offload


def _master_bytes(p: Problem) -> int:
    """Bytes of the master copy: none for fp32 parameters; two where the bf16 parameter is the other half of it."""
    if p.precision == "fp32":
        return 0
    return 2 if _takes_bf16_gradients(p) else 4


def _state_parts(p: Problem) -> int:
    """32nds of a byte per element that the optimizer keeps on the GPU: the master copy, and the moments not offloaded.

    Offloading moves the moments only: Qwen3-30B-A3B (TP2 PP2 EP4, 16 H100) frees 3.54 GiB for each quarter, 8 of the 12
    bytes of an element (Megatron Bridge 067f987, memory tuning skill).
    """
    settings = p.settings
    moments = 8
    if settings.use_precision_aware_optimizer:
        moments = MOMENT_BYTES[settings.exp_avg_dtype] + MOMENT_BYTES[settings.exp_avg_sq_dtype]
    kept = 1.0
    if settings.optimizer_cpu_offload:
        kept -= min(1.0, max(0.0, settings.optimizer_offload_fraction))
    return PARTS * _master_bytes(p) + ceil(PARTS * moments * kept)


def _matrix_parts(p: Problem) -> int:
    """The same for an element of a GEMM weight: Muon keeps one fp32 momentum instead of two moments."""
    return PARTS * (_master_bytes(p) + 4) if "muon" in p.settings.optimizer else _state_parts(p)


def _scaled(a: Arithmetic, elements: Quantity, parts: int) -> Quantity:
    return elements * (parts // PARTS) if parts % PARTS == 0 else a.ceil_div(elements * parts, PARTS)
