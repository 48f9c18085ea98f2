"""LoRA: the low-rank matrices that are trained beside frozen weights, as element counts of one layer.

Megatron Bridge's default adapts the projections of attention and of every feed-forward part with rank 32
(NVIDIA-NeMo/Megatron-Bridge@067f987 ``src/megatron/bridge/peft/lora.py::LoRA``): ``rank * (inputs + outputs)`` elements a
projection, the wider side split over tensor ranks.
"""

from __future__ import annotations

from constraints.arithmetic import Arithmetic, Quantity, once
from constraints.problem import Problem
from constraints.rule import Degrees
from models_catalog.schema import LayerKind, ModelSpec

__all__ = ["dense_adapters", "expert_adapters"]

RANK = 32


@once
def dense_adapters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements beside attention, dense and shared feed-forward of one layer on one rank."""
    return a.ceil_div(RANK * _dense_widths(p.model, kind), x.tp)


@once
def expert_adapters(a: Arithmetic, p: Problem, x: Degrees, kind: LayerKind) -> Quantity:
    """Elements beside the routed experts of one layer on one rank: one pair of matrices an expert and projection."""
    model = p.model
    if kind.feedforward != "moe":
        return 0
    widths = _feedforward_widths(model.moe_latent_size or model.hidden_size, model.gate, model.expert_ffn)
    return a.ceil_div(RANK * model.experts * widths, a.mul(x.ep, x.etp))


def _dense_widths(model: ModelSpec, kind: LayerKind) -> int:
    """Inputs plus outputs of the adapted projections."""
    h, widths = model.hidden_size, 0
    if kind.mixer == "attention" and model.multi_latent_attention:
        heads, value = model.num_attention_heads, model.v_head_dim or 0
        widths += heads * ((model.qk_head_dim or 0) + (model.qk_pos_emb_head_dim or 0)) + 2 * h + heads * value
    elif kind.mixer == "attention":
        q, k = model.num_attention_heads * model.head_dim, model.query_groups * model.head_dim
        widths += (h + q + 2 * k) + (q + h)
    if kind.feedforward == "dense":
        widths += _feedforward_widths(h, model.gate, model.ffn)
    if kind.feedforward == "moe" and model.moe_shared_expert_intermediate_size:
        widths += _feedforward_widths(h, model.gate, model.moe_shared_expert_intermediate_size)
    return widths


def _feedforward_widths(h: int, gate: int, f: int) -> int:
    return (h + gate * f) + (f + h)
