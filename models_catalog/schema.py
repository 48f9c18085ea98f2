"""What a catalog entry says: a model's architecture, a GPU and the machine around it.

Field names are Megatron-Core's own (``TransformerConfig``, ``MLATransformerConfig``, ``GPTModelProvider``), so an entry
can be pasted into a provider and back. The classes are plain frozen dataclasses: cheap to import, cheap to make.
Everything that comes from outside is validated by :mod:`models_catalog.validation` before one is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["AttentionShape", "GpuSpec", "LayerKind", "ModelSpec"]


class LayerKind(NamedTuple):
    """What one entry of ``num_layers`` holds: a token mixer and a feed-forward part, either of which may be absent.

    A GPT layer is ``LayerKind("attention", "dense")`` or ``("attention", "moe")``; in a hybrid model ``M`` is
    ``("mamba", "none")``, ``*`` ``("attention", "none")``, ``-`` ``("none", "dense")``, ``E`` ``("none", "moe")``
    and ``G`` ``("gdn", "none")``.
    """

    mixer: str
    feedforward: str


class AttentionShape(NamedTuple):
    """Query heads, key/value heads and the width of each: what sets the size of an attention layer without latents."""

    heads: int
    groups: int
    head_dim: int

    @property
    def query_width(self) -> int:
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Width of the keys, and of the values."""
        return self.groups * self.head_dim


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


GATED_DELTA_NET = ("gated_delta_net", "gdn", "gdn2")
"""Spellings of ``experimental_attention_variant`` for gated delta net layers (``TransformerConfig.__post_init__``)."""


@dataclass(frozen=True)
class ModelSpec:
    """One architecture, in Megatron-Core's field names. Sizes are counts of elements, never bytes.

    ``None`` means "not set": Megatron's own default then applies (see the properties below, each of which says which).
    Where Megatron has no field of its own, because a model's layers are written by hand there, the catalog has one:

    * ``norms_per_layer``: norms of ``hidden_size`` in a layer with attention and feed-forward. 2 is usual; 1 where both read
      one normed input (Falcon-7B, Phi-2, Cohere), 4 where their outputs are normed as well (Gemma 2, Grok-1).
    * ``qk_layernorm_all_heads``: queries and keys are normed over all heads together, not head by head.
    * ``window_num_attention_heads``, ``window_num_query_groups``, ``window_kv_channels``: the attention of the layers with a
      sliding window, where it differs from that of the others.
    * ``mtp_dense``: an MTP layer has a dense feed-forward part though the last decoder layer has experts.
    * ``window_size``: tokens that a windowed layer sees, itself included; Megatron writes ``(window_size - 1, 0)``.

    ``csa_compress_ratios``, ``o_groups``, ``o_lora_rank``, ``enable_hyper_connections`` and ``num_residual_streams`` are what
    Megatron Bridge sets for DeepSeek-V4 (``models/deepseek/deepseek_v4_bridge.py``), on a branch of Megatron-Core.
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
    position_embedding_type: str = "rope"
    share_embeddings_and_output_weights: bool = False
    gated_linear_unit: bool = False
    normalization: str = "RMSNorm"
    norms_per_layer: int = 2
    add_bias_linear: bool = False
    add_qkv_bias: bool = False
    qk_layernorm: bool = False
    qk_layernorm_all_heads: bool = False
    attention_output_gate: bool = False
    softmax_type: str = "vanilla"
    window_size: int | None = None
    window_attn_skip_freq: int | tuple[int, ...] | None = None
    window_num_attention_heads: int | None = None
    window_num_query_groups: int | None = None
    window_kv_channels: int | None = None
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
    # sparse attention: an indexer picks the keys (DSA), or keys are compressed first (CSA)
    dsa_indexer_n_heads: int | None = None
    dsa_indexer_head_dim: int | None = None
    dsa_indexer_topk: int | None = None
    dsa_indexer_topk_freq: int = 1
    dsa_indexer_skip_topk_offset: int = 0
    csa_compress_ratios: tuple[int, ...] | None = None
    o_groups: int | None = None
    o_lora_rank: int | None = None
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
    mtp_use_repeated_layer: bool = False
    mtp_dense: bool = False
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
    enable_hyper_connections: bool = False
    num_residual_streams: int = 4
    # what the catalog adds
    hf_id: str | None = None
    family: str | None = None
    aliases: tuple[str, ...] = ()
    total_parameters: int | None = None
    active_parameters: int | None = None
    parameters_exact: bool = False
    parameters_include_mtp: bool = False
    sources: tuple[str, ...] = ()
    note: str | None = None

    @property
    def query_groups(self) -> int:
        """Key/value heads; Megatron's default is one per query head (``TransformerConfig.__post_init__``)."""
        return self.num_query_groups or self.num_attention_heads

    @cached_property
    def attention_shapes(self) -> tuple[tuple[AttentionShape, int], ...]:
        """The shapes of the attention layers, with how many have each; two only where windowed layers differ."""
        full = AttentionShape(self.num_attention_heads, self.query_groups, self.head_dim)
        window = AttentionShape(
            self.window_num_attention_heads or full.heads,
            self.window_num_query_groups or full.groups,
            self.window_kv_channels or full.head_dim,
        )
        layers = [i for i, kind in enumerate(self.layer_kinds) if kind.mixer == "attention"]
        windowed = sum(self.has_window(i) for i in layers)
        if window == full or not windowed:
            return ((full, len(layers)),)
        return ((full, len(layers) - windowed), (window, windowed))

    def has_window(self, index: int) -> bool:
        """Whether layer ``index``, from 0, attends within ``window_size`` tokens only.

        As ``megatron/core/transformer/utils.py::is_layer_window_attention``, which counts layers from 1.
        """
        frequency = self.window_attn_skip_freq
        if not self.window_size or self.window_size < 0:
            return False
        if isinstance(frequency, int):
            return frequency == 0 or (index + 1) % frequency != 0
        return frequency is None or (index < len(frequency) and bool(frequency[index]))

    @property
    def residual_streams(self) -> int:
        """Copies of the hidden state that run through the layers: more than one with hyper-connections."""
        return self.num_residual_streams if self.enable_hyper_connections or self.enable_mhc_connections else 1

    @property
    def head_dim(self) -> int:
        """``kv_channels``, else ``floor(hidden_size / heads)`` (``TransformerConfig.__post_init__`` floors silently)."""
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
    def mtp_stored(self) -> int:
        """MTP layers that are stored: one where every depth uses the same (``mtp_use_repeated_layer``)."""
        return min(1, self.mtp_layers) if self.mtp_use_repeated_layer else self.mtp_layers

    @property
    def mtp_kinds(self) -> tuple[LayerKind, ...]:
        """The layers inside one MTP layer: the part of a hybrid pattern after ``/``, else one like the last decoder layer."""
        pattern = (self.hybrid_override_pattern or "").split("/")
        if len(pattern) > 1:
            return tuple(HYBRID_SYMBOLS[symbol] for symbol in pattern[1])
        last = self.layer_kinds[-1]
        return (LayerKind("attention", "dense") if self.mtp_dense else last,)

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
        if self.experimental_attention_variant not in GATED_DELTA_NET or self.linear_attention_freq is None:
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
    entries takes the smaller entry's share. ``architecture`` is a name or a compute capability (``hopper``, ``sm_90``): it
    decides which precisions and dispatchers there are. ``None`` is "not there" (``fp8_flops`` of an A100) or not known.
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
