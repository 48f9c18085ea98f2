"""What an entry of a model may not say: fields that cannot stand together, and fields that need others.

:func:`faults` holds for any model. :func:`entry_faults` holds for entries, which say what an architecture is; a
configuration of Megatron's also carries defaults that mean nothing for the model at hand, and the rules judge it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from models_catalog.schema import GATED_DELTA_NET, ModelSpec

__all__ = ["CHOICES", "PATTERNS", "entry_faults", "faults"]

Fault = tuple[str, str]
"""The field at fault, and what is wrong with it."""

PATTERNS = ("moe_layer_freq", "window_attn_skip_freq", "linear_attention_freq")
"""Fields that hold a number or, for each layer, 0 or 1."""

CHOICES = {
    "normalization": ("RMSNorm", "LayerNorm"),
    "position_embedding_type": ("rope", "learned_absolute", "mrope", "yarn", "relative", "none"),
    "softmax_type": ("vanilla", "off-by-one", "learnable"),
    "moe_router_score_function": ("softmax", "sigmoid", "sqrtsoftplus"),
    "experimental_attention_variant": (*GATED_DELTA_NET, "dsa", "dsv4_hybrid"),
}
"""The words that Megatron knows for a field (``TransformerConfig``, ``GPTModel``)."""

MOE_ONLY = (
    "moe_shared_expert_intermediate_size",
    "moe_router_num_groups",
    "moe_router_group_topk",
    "moe_latent_size",
)
ENTRY_MOE_ONLY = (
    *MOE_ONLY,
    "moe_router_topk",
    "moe_ffn_hidden_size",
    "moe_layer_freq",
    "moe_router_score_function",
    "moe_router_pre_softmax",
    "moe_router_enable_expert_bias",
)
MLA_NEEDS = ("kv_lora_rank", "qk_head_dim", "qk_pos_emb_head_dim", "v_head_dim")
MAMBA_NEEDS = ("mamba_num_heads", "mamba_head_dim", "mamba_state_dim", "mamba_num_groups")
LINEAR_NEEDS = ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim")
DSA_NEEDS = ("dsa_indexer_n_heads", "dsa_indexer_head_dim", "dsa_indexer_topk")
CSA_NEEDS = ("csa_compress_ratios", "o_groups", "o_lora_rank", "q_lora_rank")
COUNT_ONLY = ("active_parameters", "parameters_exact", "parameters_include_mtp")
WINDOW_ONLY = ("window_attn_skip_freq", "window_num_attention_heads", "window_num_query_groups", "window_kv_channels")


def faults(model: ModelSpec) -> Iterator[Fault]:
    """What makes no model at all."""
    for name, words in CHOICES.items():
        if (value := getattr(model, name)) is not None and value not in words:
            yield name, f"is {value!r}: it must be one of {', '.join(words)}"
    if not model.is_moe:
        yield from _without(model, MOE_ONLY, "num_moe_experts")
    elif model.moe_layer_freq == 0:
        yield "moe_layer_freq", "is 0: it must be 1 or more, every how many layers experts come"
    if model.multi_latent_attention:
        yield from _missing(model, MLA_NEEDS, "multi_latent_attention needs it")
    elif model.kv_lora_rank:
        yield "kv_lora_rank", "is given without multi_latent_attention: true"
    kinds = model.layer_kinds
    if any(kind.mixer == "mamba" for kind in kinds):
        yield from _missing(model, MAMBA_NEEDS, "the hybrid pattern has Mamba layers")
    if model.is_hybrid and any(kind.feedforward == "moe" for kind in kinds) and not model.is_moe:
        yield "num_moe_experts", "is missing: the hybrid pattern has E layers"
    if model.num_attention_heads > model.hidden_size and not model.kv_channels:
        yield "num_attention_heads", f"is {model.num_attention_heads}, more than hidden_size {model.hidden_size}"


def entry_faults(model: ModelSpec, given: Collection[str]) -> Iterator[Fault]:
    """What an entry leaves out or says for nothing; ``given`` are the fields that it states."""
    if model.is_moe and "moe_router_topk" not in given:
        yield "moe_router_topk", "is missing: num_moe_experts needs it"
    if not model.is_moe:
        yield from _given_without(given, ENTRY_MOE_ONLY, "num_moe_experts")
    if model.query_groups > model.num_attention_heads:
        yield (
            "num_query_groups",
            f"is {model.num_query_groups}, more than num_attention_heads {model.num_attention_heads}",
        )
    if not model.multi_latent_attention:
        yield from _given_without(given, (*MLA_NEEDS, "q_lora_rank"), "multi_latent_attention: true")
    if not model.window_size:
        yield from _given_without(given, WINDOW_ONLY, "window_size")
    if not model.mtp_layers:
        yield from _given_without(given, ("mtp_use_repeated_layer", "mtp_dense"), "mtp_num_layers")
    if not any(kind.mixer == "mamba" for kind in (*model.layer_kinds, *model.mtp_kinds)):
        yield from _given_without(given, MAMBA_NEEDS, "Mamba layers in hybrid_override_pattern")
    if model.moe_shared_expert_gate and not model.moe_shared_expert_intermediate_size:
        yield "moe_shared_expert_gate", "is given without moe_shared_expert_intermediate_size"
    if model.qk_layernorm_all_heads and not model.qk_layernorm:
        yield "qk_layernorm_all_heads", "is given without qk_layernorm: true"
    yield from _lengths(model)
    yield from _variant(model, given)
    yield from _hybrid(model, given)
    yield from _counts(model, given)


def _lengths(model: ModelSpec) -> Iterator[Fault]:
    """A pattern says something of each decoder layer."""
    for name in PATTERNS:
        pattern = getattr(model, name)
        if isinstance(pattern, tuple) and len(pattern) != model.num_layers:
            yield name, f"has {len(pattern)} entries, num_layers is {model.num_layers}"
    ratios = model.csa_compress_ratios
    if ratios is not None and len(ratios) not in (model.num_layers, model.num_layers + model.mtp_layers):
        yield "csa_compress_ratios", f"has {len(ratios)} entries, num_layers is {model.num_layers}"


def _variant(model: ModelSpec, given: Collection[str]) -> Iterator[Fault]:
    """The fields of an attention variant, all of them or none."""
    variant = model.experimental_attention_variant
    linear = variant in GATED_DELTA_NET or "G" in (model.hybrid_override_pattern or "")
    for wanted, needs, what in (
        (linear, LINEAR_NEEDS, "a gated delta net"),
        (variant in ("dsa", "dsv4_hybrid"), DSA_NEEDS, f"experimental_attention_variant {variant or 'dsa'}"),
        (variant == "dsv4_hybrid", CSA_NEEDS, "experimental_attention_variant dsv4_hybrid"),
    ):
        if wanted:
            yield from _missing(model, needs, f"{what} needs it")
        else:
            own = (name for name in needs if name != "q_lora_rank")
            yield from _given_without(given, tuple(own), what)
    if linear and not model.is_hybrid and model.linear_attention_freq is None:
        yield "linear_attention_freq", "is missing: a gated delta net needs it"
    if variant in ("dsa", "dsv4_hybrid") and not model.multi_latent_attention:
        yield "experimental_attention_variant", f"is {variant}: it needs multi_latent_attention: true"


def _hybrid(model: ModelSpec, given: Collection[str]) -> Iterator[Fault]:
    if not model.is_hybrid:
        return
    parts = (model.hybrid_override_pattern or "").split("/")[1:]
    if parts and len(parts) != model.mtp_layers:
        yield "mtp_num_layers", f"is {model.mtp_layers}, the hybrid pattern has {len(parts)} MTP parts"
    if len(set(parts)) > 1:
        yield "hybrid_override_pattern", "has MTP parts that are not the same"
    for name in PATTERNS:
        if name in given and name != "window_attn_skip_freq":
            yield name, "is given beside hybrid_override_pattern, which says it"


def _counts(model: ModelSpec, given: Collection[str]) -> Iterator[Fault]:
    total, active = model.total_parameters, model.active_parameters
    if total is None:
        yield from _given_without(given, COUNT_ONLY, "total_parameters")
    elif active is not None and active > total:
        yield "active_parameters", f"is {active}, more than total_parameters {total}"
    if model.parameters_include_mtp and not model.mtp_layers:
        yield "parameters_include_mtp", "is given without mtp_num_layers"


def _missing(model: ModelSpec, names: tuple[str, ...], why: str) -> Iterator[Fault]:
    return ((name, f"is missing: {why}") for name in names if not getattr(model, name))


def _without(model: ModelSpec, names: tuple[str, ...], what: str) -> Iterator[Fault]:
    return ((name, f"is given without {what}") for name in names if getattr(model, name))


def _given_without(given: Collection[str], names: tuple[str, ...], what: str) -> Iterator[Fault]:
    return ((name, f"is given without {what}") for name in names if name in given)
