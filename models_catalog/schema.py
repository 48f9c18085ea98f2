"""What a catalog entry says: a model's architecture, a GPU and the machine around it.

Field names are Megatron-Core's own (``TransformerConfig``, ``MLATransformerConfig``, ``GPTModelProvider``), so an entry
can be pasted into a provider and back. The classes are plain frozen dataclasses: cheap to import, cheap to make.
Everything that comes from outside is validated by :mod:`models_catalog.validation` before one is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["GpuSpec", "LayerKind", "ModelSpec"]


class LayerKind(NamedTuple):
    """What one entry of ``num_layers`` holds: a token mixer and a feed-forward part, either of which may be absent.

    A GPT layer is ``LayerKind("attention", "dense")`` or ``("attention", "moe")``; in a hybrid model ``M`` is
    ``("mamba", "none")``, ``*`` ``("attention", "none")``, ``-`` ``("none", "dense")``, ``E`` ``("none", "moe")``
    and ``G``/``D`` (gated delta net) ``("gdn", "none")``.
    """

    mixer: str
    feedforward: str


HYBRID_SYMBOLS = {
    "M": LayerKind("mamba", "none"),
    "G": LayerKind("gdn", "none"),
    "*": LayerKind("attention", "none"),
    "D": LayerKind("attention", "none"),
    "+": LayerKind("attention", "none"),
    "-": LayerKind("none", "dense"),
    "E": LayerKind("none", "moe"),
}
"""Megatron's hybrid alphabet (``megatron/core/ssm/mamba_hybrid_layer_allocation.py::Symbols``)."""


@dataclass(frozen=True)
class ModelSpec:
    """One architecture, in Megatron-Core's field names. Sizes are counts of elements, never bytes.

    ``None`` means "not set": Megatron's own default then applies (see the properties below, each of which says which).
    """

    name: str
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    vocab_size: int
    ffn_hidden_size: int | None = None
    num_query_groups: int | None = None
    kv_channels: int | None = None
    make_vocab_size_divisible_by: int = 128
    should_pad_vocab: bool = True
    max_position_embeddings: int | None = None
    share_embeddings_and_output_weights: bool = False
    gated_linear_unit: bool = False
    normalization: str = "RMSNorm"
    add_bias_linear: bool = False
    add_qkv_bias: bool = False
    qk_layernorm: bool = False
    attention_output_gate: bool = False
    softmax_type: str = "vanilla"
    window_size: int | None = None
    window_attn_skip_freq: int | tuple[int, ...] | None = None
    rotary_interleaved: bool = False
    rope_type: str | None = None
    apply_rope_fusion: bool = False
    # multi-latent attention
    multi_latent_attention: bool = False
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    qk_head_dim: int | None = None
    qk_pos_emb_head_dim: int | None = None
    v_head_dim: int | None = None
    # mixture of experts
    num_moe_experts: int | None = None
    moe_router_topk: int = 2
    moe_ffn_hidden_size: int | None = None
    moe_shared_expert_intermediate_size: int | None = None
    moe_shared_expert_gate: bool = False
    moe_layer_freq: int | tuple[int, ...] = 1
    moe_latent_size: int | None = None
    moe_router_num_groups: int | None = None
    moe_router_group_topk: int | None = None
    moe_router_topk_limited_devices: int | None = None
    moe_router_score_function: str = "softmax"
    moe_router_pre_softmax: bool = False
    moe_router_enable_expert_bias: bool = False
    moe_router_load_balancing_type: str | tuple[str, ...] = "aux_loss"
    moe_grouped_gemm: bool = True
    # multi-token prediction
    mtp_num_layers: int | None = None
    # linear attention and state-space layers
    experimental_attention_variant: str | None = None
    linear_attention_freq: int | tuple[int, ...] | None = None
    linear_num_key_heads: int | None = None
    linear_num_value_heads: int | None = None
    linear_key_head_dim: int | None = None
    linear_value_head_dim: int | None = None
    linear_conv_kernel_dim: int | None = None
    hybrid_override_pattern: str | None = None
    mamba_num_heads: int | None = None
    mamba_head_dim: int | None = None
    mamba_state_dim: int | None = None
    mamba_num_groups: int | None = None
    enable_mhc_connections: bool = False
    # what the catalog adds
    hf_id: str | None = None
    family: str | None = None
    aliases: tuple[str, ...] = ()
    total_parameters: int | None = None
    active_parameters: int | None = None
    sources: tuple[str, ...] = ()
    note: str | None = None

    @property
    def query_groups(self) -> int:
        """Key/value heads; Megatron's default is one per query head (``TransformerConfig.__post_init__``)."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def head_dim(self) -> int:
        """``kv_channels``, or ``floor(hidden_size / heads)``: Megatron floors silently (``TransformerConfig.__post_init__``)."""
        return self.kv_channels or self.hidden_size // self.num_attention_heads

    @property
    def ffn(self) -> int:
        """Feed-forward width of a dense layer; Megatron's default is ``4 * hidden_size``."""
        return self.ffn_hidden_size or 4 * self.hidden_size

    @property
    def expert_ffn(self) -> int:
        """Feed-forward width of one routed expert; ``ffn_hidden_size`` where unset."""
        return self.moe_ffn_hidden_size or self.ffn

    @property
    def is_moe(self) -> bool:
        return bool(self.num_moe_experts)

    @property
    def is_hybrid(self) -> bool:
        return self.hybrid_override_pattern is not None

    @property
    def experts(self) -> int:
        """Number of routed experts, 0 for a dense model."""
        return self.num_moe_experts or 0

    @property
    def mtp_layers(self) -> int:
        return self.mtp_num_layers or 0

    @property
    def norm_vectors(self) -> int:
        """Vectors of ``hidden_size`` in one normalisation: LayerNorm has a weight and a bias, RMSNorm a weight."""
        return 2 if self.normalization == "LayerNorm" else 1

    @property
    def gate(self) -> int:
        """First-projection outputs per feed-forward unit: 2 when gated (SwiGLU), else 1."""
        return 2 if self.gated_linear_unit else 1

    @cached_property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each decoder layer, first to last; ``len`` is ``num_layers``.

        ``moe_layer_freq`` N means that every N-th layer, beginning with the first, is MoE; a list says it layer by layer
        (``megatron/core/models/gpt/gpt_layer_specs.py::get_gpt_decoder_layer_specs``).
        """
        if self.hybrid_override_pattern is not None:
            main = self.hybrid_override_pattern.split("/")[0].replace("|", "")
            return tuple(HYBRID_SYMBOLS[symbol] for symbol in main)
        return tuple(
            LayerKind(self._mixer(i), "moe" if self._is_moe_layer(i) else "dense") for i in range(self.num_layers)
        )

    def _is_moe_layer(self, index: int) -> bool:
        if not self.is_moe:
            return False
        if isinstance(self.moe_layer_freq, int):
            return index % self.moe_layer_freq == 0
        return index < len(self.moe_layer_freq) and bool(self.moe_layer_freq[index])

    def _mixer(self, index: int) -> str:
        if self.experimental_attention_variant != "gated_delta_net" or self.linear_attention_freq is None:
            return "attention"
        if isinstance(self.linear_attention_freq, int):
            return "attention" if (index + 1) % self.linear_attention_freq == 0 else "gdn"
        return "gdn" if index < len(self.linear_attention_freq) and self.linear_attention_freq[index] else "attention"

    @property
    def has_dense_feedforward(self) -> bool:
        return any(kind.feedforward == "dense" for kind in self.layer_kinds)


@dataclass(frozen=True)
class GpuSpec:
    """One GPU and the machine it usually sits in. Rates are per GPU, one direction, in bytes per second; peaks are dense.

    ``usable_gib`` is what a process can see (``torch.cuda.mem_get_info()[1]``), ``label_gib`` what the box says.
    ``nvlink_*`` is the scale-up link whatever its maker calls it: NVLink, or Infinity Fabric (xGMI) on AMD. Where there is
    none, ``nvlink_domain`` is 1 and the rate is PCIe's. ``collective_efficiency`` maps a group size to the share of
    ``nvlink_bytes_per_second`` that a ring collective inside one domain reaches at large messages; a size between two
    entries takes the smaller entry's share. ``None`` is "not there" (``fp8_flops`` of an A100) or not known.
    """

    name: str
    label_gib: float
    usable_gib: float
    gpus_per_node: int
    nvlink_domain: int
    nvlink_bytes_per_second: int
    network_bytes_per_second: int
    hbm_bytes_per_second: int
    bf16_flops: int
    fp8_flops: int | None
    collective_latency_ns: int
    network_latency_ns: int
    collective_efficiency: tuple[tuple[int, float], ...]
    network_efficiency: float
    architecture: str
    fp4_flops: int | None = None
    pcie_bytes_per_second: int | None = None
    aliases: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    note: str | None = None
