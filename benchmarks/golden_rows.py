"""Rows of Megatron-LM's functional tests: the arguments of a run in columns, the last rank's peak in bytes.

What a column leaves open has Megatron-LM's own default (``megatron/training/arguments.py``).
"""

from __future__ import annotations

from typing import Any

from benchmarks.memory_rows import Measured
from benchmarks.row_layouts import layout_of, problem_of, recompute_words
from benchmarks.row_names import DEEPEST, gpu_named, only_decoders, precision_named
from benchmarks.rows import Row, Skipped, number, real, text, truth
from constraints.layout import Settings
from constraints.problem import GIB
from models_catalog.errors import InvalidEntry
from models_catalog.schema import ModelSpec
from models_catalog.validation import model_from_mapping

__all__ = ["measured_golden"]


def measured_golden(row: Row) -> Measured:
    """The row as a measurement. Raises :class:`~benchmarks.rows.Skipped`."""
    family, case = text(row, "family"), text(row, "case")
    peak = real(row, "mem_max_allocated_last_bytes")
    if peak is None:
        raise Skipped("no measured peak")
    only_decoders(family, case)
    gpus = number(row, "num_gpus")
    if gpus is None:
        raise Skipped("unknown world size")
    if text(row, "suspect"):
        raise Skipped("suspect: " + text(row, "suspect")[:40])
    if "offloading" in case:
        raise Skipped("activation offloading is not modelled")
    if text(row, "fp8_format") and not truth(row, "bf16"):
        raise Skipped("fp8 over fp32 activations is not modelled")
    if text(row, "optimizer") == "muon":
        raise Skipped("Muon's state is not modelled")
    model = _golden_model(row)
    precision = _golden_precision(row)
    # Megatron-LM's own defaults (megatron/training/arguments.py): dropout 0.1, cross-entropy not fused, fp32 gradients
    modern = truth(row, "swiglu") or truth(row, "squared_relu") or truth(row, "mla")
    settings = Settings(
        use_distributed_optimizer=truth(row, "dist_opt"),
        grad_reduce_in_fp32=precision != "fp16",
        cross_entropy_loss_fusion="cross_entropy_loss_fusion" in case,
        cross_entropy_fusion_impl="native",
        attention_backend=_backend(row),
        hidden_dropout=0.0 if modern else 0.1,
        attention_dropout=0.0 if modern else 0.1,
        gradient_accumulation_fusion=False,
        use_megatron_fsdp=truth(row, "megatron_fsdp"),
        data_parallel_sharding_strategy=text(row, "dp_sharding") or None,
        fp8_param_gather=truth(row, "fp8_param_gather"),
        cuda_graph_impl=text(row, "cuda_graph_impl") or "none",
        moe_token_dispatcher_type=text(row, "dispatcher") or "alltoall",
        moe_flex_dispatcher_backend=text(row, "flex_backend") or None,
    )
    seq = number(row, "seq_length")
    if seq is None:
        raise Skipped("sequence length unknown")
    problem = problem_of(
        model,
        gpu_named(text(row, "gpu") or "a100"),
        gpus,
        seq,
        settings,
        precision=precision,
        transformer_engine=(2, 11),
    )
    tp, pp = number(row, "tp") or 1, number(row, "pp") or 1
    per_chunk = number(row, "layers_per_vstage")
    vpp = number(row, "vp") or (model.num_layers // pp // per_chunk if per_chunk and pp > 1 else None)
    words = {
        "tp": tp,
        "pp": pp,
        "vpp": vpp if vpp and vpp > 1 else None,
        "cp": number(row, "cp"),
        "ep": number(row, "ep"),
        "etp": number(row, "etp") or tp,
        "mbs": number(row, "mbs"),
        "gbs": number(row, "gbs"),
        "sp": truth(row, "sp") or None,
        "layout": text(row, "pp_layout") or None,
        "first": number(row, "first_pp_layers"),
        "last": number(row, "last_pp_layers"),
        "num_distributed_optimizer_instances": number(row, "dist_opt_instances"),
        "microbatch_group_size_per_vp_stage": _group(row, gpus, tp, pp, vpp),
        **_golden_recompute(row),
    }
    layout = layout_of(problem, words)
    return Measured(f"{family}:{case}", "mlm-golden", problem, layout, layout.pp - 1, peak / GIB, False)


def _group(row: Row, gpus: int, tp: int, pp: int, vpp: int | None) -> int | None:
    """Interleaved micro-batches that do not come in groups of ``pp`` ran in groups of another size: the file has no column
    for it, so the smallest that Megatron accepts is taken."""
    batch, micro = number(row, "gbs"), number(row, "mbs") or 1
    if not vpp or not batch or vpp == 1:
        return None
    count = batch // (micro * max(1, gpus // (tp * pp * (number(row, "cp") or 1))))
    if count % pp == 0:
        return None
    return next((size for size in range(pp, count + 1) if count % size == 0 or count % size >= pp), None)


def _backend(row: Row) -> str | None:
    """Unfused where the row says so, for local layers, and in LTS containers that leave it open: most of them fell back."""
    stated = text(row, "attention_backend")
    open_ = not stated and text(row, "environment") == "lts" and not truth(row, "flash")
    return "unfused" if stated == "unfused" or text(row, "impl") == "local" or open_ else None


def _golden_recompute(row: Row) -> dict[str, Any]:
    granularity = text(row, "recompute_granularity")
    if not granularity:
        return {}
    method, count = text(row, "recompute_method"), text(row, "recompute_num_layers")
    modules = text(row, "recompute_modules").strip("[]").replace(" ", ",")
    return recompute_words(f"{granularity}:{method}:{count}" if granularity == "full" else f"selective:{modules}")


def _golden_precision(row: Row) -> str:
    if text(row, "fp8_format"):
        return precision_named(text(row, "fp8_recipe") or "tensorwise")
    return "bf16" if truth(row, "bf16") else "fp16" if truth(row, "fp16") else "fp32"


VOCABULARIES = (
    ("nemotron_2_256k", 256000),
    ("128k", 131072),
    ("llama", 128256),
    ("qwen", 151936),
    ("deepseek", 129280),
)
"""A tokenizer's file names its vocabulary; sizes are those of the tokenizers' own configurations."""
GPT2_VOCABULARY, BERT_VOCABULARY = 50257, 30522


def _vocabulary(row: Row) -> int:
    if size := number(row, "vocab_size"):
        return size
    if "Bert" in text(row, "tokenizer"):
        return BERT_VOCABULARY
    file = text(row, "tokenizer_model").lower()
    return next((size for word, size in VOCABULARIES if word in file), GPT2_VOCABULARY)


def _golden_model(row: Row) -> ModelSpec:
    """The architecture that the arguments give. Raises :class:`~benchmarks.rows.Skipped` where they make no model."""
    pattern = (text(row, "hybrid_layer_pattern") or text(row, "hybrid_pattern")) or None
    layers = None if pattern else number(row, "num_layers", most=DEEPEST)
    if not layers and not pattern:
        raise Skipped("number of layers unknown")
    heads, hidden = number(row, "num_attention_heads"), number(row, "hidden_size")
    if not heads or not hidden:
        raise Skipped("architecture unknown")
    fields: dict[str, Any] = {
        "name": text(row, "case"),
        "num_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "vocab_size": _vocabulary(row),
        "ffn_hidden_size": number(row, "ffn_hidden_size")
        or (_swiglu_width(hidden) if truth(row, "swiglu") else 4 * hidden),
        "num_query_groups": number(row, "num_query_groups") if truth(row, "gqa") else None,
        "kv_channels": number(row, "kv_channels"),
        "make_vocab_size_divisible_by": number(row, "vocab_div") or 128,
        "max_position_embeddings": number(row, "max_position_embeddings"),
        "position_embedding_type": text(row, "pos_emb") or "learned_absolute",
        "share_embeddings_and_output_weights": not truth(row, "untied"),
        "gated_linear_unit": truth(row, "swiglu"),
        "normalization": "LayerNorm" if not truth(row, "mla") and not truth(row, "squared_relu") else "RMSNorm",
        "add_bias_linear": not truth(row, "disable_bias"),
        "mtp_num_layers": number(row, "mtp_num_layers"),
        "hybrid_override_pattern": pattern,
        **_latent_attention(row),
        **_experts(row),
        **_state_space(row, pattern or "", hidden),
    }
    try:
        return model_from_mapping(fields, "row")[0]
    except InvalidEntry as error:
        raise Skipped(f"unusable {error.field or 'architecture'}") from None


def _latent_attention(row: Row) -> dict[str, Any]:
    if not truth(row, "mla"):
        return {}
    ranks = {name: number(row, name) for name in ("q_lora_rank", "kv_lora_rank", "qk_head_dim", "v_head_dim")}
    return {"multi_latent_attention": True, "qk_pos_emb_head_dim": number(row, "qk_rope_head_dim"), **ranks}


def _experts(row: Row) -> dict[str, Any]:
    experts = number(row, "num_moe_experts")
    if not experts:
        return {}
    return {
        "num_moe_experts": experts,
        "moe_router_topk": number(row, "moe_router_topk") or 2,
        "moe_ffn_hidden_size": number(row, "moe_ffn_hidden_size"),
        "moe_shared_expert_intermediate_size": number(row, "moe_shared_expert_intermediate_size"),
        "moe_layer_freq": text(row, "moe_layer_freq") or 1,
    }


def _state_space(row: Row, pattern: str, hidden: int) -> dict[str, Any]:
    if "M" not in pattern:
        return {}
    return {
        "mamba_num_heads": number(row, "mamba_num_heads") or 2 * hidden // 64,
        "mamba_head_dim": number(row, "mamba_head_dim") or 64,
        "mamba_state_dim": number(row, "mamba_state_dim") or 128,
        "mamba_num_groups": number(row, "mamba_num_groups") or 8,
    }


def _swiglu_width(hidden: int) -> int:
    """Megatron-LM's width of a gated feed-forward that is not given: two thirds of ``4 h``, rounded up to 64."""
    return -(-int(4 * hidden * 2 / 3) // 64) * 64
