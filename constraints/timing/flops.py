"""Model FLOP of a token: what model TFLOP/s and MFU count. Recomputation and routing copies count nothing."""

from __future__ import annotations

from constraints.memory.counts import mtp_parameters, parameter_counts
from constraints.problem import Problem
from constraints.timing.work import attention_flop

__all__ = ["FLOP_CONVENTION", "model_flop_per_token", "peak_flops"]

FLOP_CONVENTION = (
    "6 FLOP per active parameter but the input embedding, and causal attention; MTP counted, recompute not"
)
"""As Megatron Bridge's tables from container 25.09 on; NeMo's older tables count full attention."""


def model_flop_per_token(p: Problem) -> int:
    """Forward and backward FLOP of one token.

    Llama-3-8B at 8192 tokens: 51.5 GFLOP, 70B 449, 405B 2524; DeepSeek-V3 at 4096 with MTP 260.
    """
    model = p.model
    _, active = parameter_counts(model)
    _, mtp = mtp_parameters(model)
    depths = model.mtp_layers // max(1, model.mtp_stored) if model.mtp_stored else 0
    table = model.vocab_size * model.hidden_size
    weights = active + mtp * depths + table * model.mtp_layers
    if not model.share_embeddings_and_output_weights:
        weights -= table  # the input embedding is looked up, not multiplied
    attention = sum(kind.mixer == "attention" for kind in model.layer_kinds)
    attention += sum(kind.mixer == "attention" for kind in model.mtp_kinds) * model.mtp_layers
    return 6 * weights + round(3 * attention * attention_flop(p))


def peak_flops(p: Problem) -> int:
    """Dense peak of the GPU at the precision of the GEMMs, in FLOP/s."""
    if p.precision == "nvfp4":
        return p.gpu.fp4_flops or p.gpu.fp8_flops or p.gpu.bf16_flops
    return (p.gpu.fp8_flops if p.precision.startswith("fp8") else None) or p.gpu.bf16_flops
