"""How each value that a rule may read is drawn for the property that holds for every rule.

A new rule needs nothing here unless it reads a value that :data:`VARIED` does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from constraints.problem import GIB
from tests.rules.builders import gpu

__all__ = ["CALM", "VARIED", "some"]

SWITCH = (True, True, False)
SYMBOLS = "MG*-E"
ARCHITECTURES = ("ampere", "ada", "hopper", "blackwell", "sm_120", "cdna3")


def some(rng: Random, values: Sequence[Any], most: int) -> tuple[Any, ...]:
    """At most ``most`` of the values, in any order."""
    return tuple(rng.sample(values, rng.randint(0, min(most, len(values)))))


def _frequency(rng: Random, drawn: dict[str, Any]) -> int | tuple[int, ...]:
    length = drawn["num_layers"] + rng.choice([0, 0, 1])
    entries = tuple(rng.randint(0, 1) for _ in range(length))
    choices: list[int | tuple[int, ...]] = [1, 1, 2, entries, entries, entries]
    return rng.choice(choices)


def _pattern(rng: Random, drawn: dict[str, Any]) -> str:
    """A hybrid pattern, most often of the model's own length, now and then with pipes, MTP parts or forbidden mixtures."""
    length = max(1, drawn["num_layers"] + rng.choice([0, 0, 0, 0, 1]))
    symbols = [rng.choice(SYMBOLS) for _ in range(length)]
    if rng.random() < 0.2:
        symbols[rng.randrange(length)] = rng.choice("D+")
    for _ in range(rng.choice([0, 0, 1, 3])):
        symbols.insert(rng.randint(0, len(symbols)), "|")
    parts = rng.choice([[], [], ["M*"], ["M*", "M*"], ["M*", "M-"]])
    return "/".join(["".join(symbols), *parts])


def _exchange(rng: Random, drawn: dict[str, Any]) -> str | tuple[str, ...] | None:
    kinds = ("p2p", "all_gather", "a2a", "a2a+p2p")
    if rng.random() < 0.3:
        length = drawn["num_layers"] + rng.choice([0, 0, 0, 1])
        return tuple(rng.choice(kinds) for _ in range(length))
    return rng.choice([None, *kinds, *kinds, "allgather", "ring"])


def _of(*values: Any) -> Callable[[Random, dict[str, Any]], Any]:
    return lambda rng, drawn: rng.choice(values)


VARIED: dict[str, Callable[[Random, dict[str, Any]], Any]] = {
    # the model
    "num_layers": lambda rng, drawn: rng.randint(1, 9),
    "hidden_size": _of(256, 512, 520, 768, 1032),
    "num_attention_heads": _of(2, 4, 6, 8, 9, 12),
    "num_query_groups": _of(None, 1, 2, 3, 4, 6, 8),
    "kv_channels": _of(None, 7, 16, 32, 64),
    "ffn_hidden_size": _of(None, 96, 100, 1024, 1536, 3001),
    "vocab_size": _of(500, 1000, 1001, 8000),
    "should_pad_vocab": _of(*SWITCH),
    "max_position_embeddings": _of(None, 1000, 4096, 131072),
    "attention_output_gate": _of(*SWITCH),
    "rotary_interleaved": _of(*SWITCH),
    "apply_rope_fusion": _of(*SWITCH),
    "rope_type": _of(None, "yarn", "rope"),
    "add_bias_linear": _of(*SWITCH),
    "softmax_type": _of("vanilla", "off-by-one", "learnable"),
    "window_size": _of(None, 128),
    "multi_latent_attention": _of(*SWITCH),
    "num_moe_experts": _of(None, None, None, 2, 2, 4, 6, 8, 16),
    "moe_router_topk": _of(1, 1, 2, 4, 8, 8),
    "moe_ffn_hidden_size": _of(None, 98, 100, 384, 768),
    "moe_shared_expert_intermediate_size": _of(None, 90, 77, 512),
    "moe_layer_freq": _frequency,
    "moe_latent_size": _of(None, 0, 128),
    "moe_router_num_groups": _of(None, 2, 3, 4, 8),
    "moe_router_group_topk": _of(None, 1, 2, 4),
    "moe_router_score_function": _of("softmax", "sigmoid"),
    "moe_router_pre_softmax": _of(True, False, False),
    "moe_router_enable_expert_bias": _of(*SWITCH),
    "moe_router_load_balancing_type": _of("aux_loss", "sinkhorn", ("aux_loss", "seq_aux_loss")),
    "moe_grouped_gemm": _of(*SWITCH),
    "mtp_num_layers": _of(None, 1, 2),
    "enable_mhc_connections": _of(*SWITCH),
    "experimental_attention_variant": _of(None, "gated_delta_net", "dsa"),
    "linear_num_key_heads": _of(None, 2, 4, 8, 12),
    "linear_num_value_heads": _of(None, 8, 12, 24),
    "hybrid_override_pattern": _pattern,
    "mamba_num_heads": _of(None, 6, 8, 12, 16),
    "mamba_head_dim": _of(16, 64),
    "mamba_num_groups": _of(None, 1, 2, 4, 6, 8),
    "mamba_state_dim": _of(16, 128),
    # the request
    "gpus": _of(1, 2, 3, 4, 6, 7, 8, 12, 16, 18, 24),
    "nvlink_domain": _of(1, 2, 4, 6, 8, 72),
    "seq_length": _of(1000, 1001, 4096, 4100, 6144, 8192, 524_288, 1_048_576),
    "global_batch_size": _of(None, None, None, 7, 16, 24, 48, 60, 128),
    "target_batch": _of(None, 7, 16, 24, 48, 60, 128),
    "batch_tolerance": _of(100, 250, 500, 1000, 5000, 10_000),
    "precision": _of("bf16", "fp16", "fp8_cs", "fp8_ds", "fp8_sc", "fp8_mx", "nvfp4"),
    "gpu": lambda rng, drawn: gpu(name=rng.choice(["h100", "gb200-nvl72"]), architecture=rng.choice(ARCHITECTURES)),
    "megatron": _of("0.16", "0.19", "0.20"),
    "task": _of("pretrain", "sft", "lora"),
    "budget_bytes": lambda rng, drawn: rng.randint(15, 70) * GIB // 10,
    # the switches
    "cp_comm_type": _exchange,
    "hierarchical_context_parallel_sizes": _of(None, (2, 2), (1, 2), (2, 1), (4, 2), (2, 2, 2)),
    "hybrid_context_parallel": _of(*SWITCH),
    "microbatch_group_size_per_vp_stage": _of(None, None, 2, 3, 4, 6, 8),
    "num_distributed_optimizer_instances": _of(1, 2, 3),
    "use_tp_pp_dp_mapping": _of(*SWITCH),
    "tensor_parallel_num_weight_shards": _of(1, 2, 4, 6, 8),
    "use_distributed_optimizer": _of(*SWITCH),
    "overlap_grad_reduce": _of(None, True, False),
    "overlap_param_gather": _of(*SWITCH),
    "overlap_param_gather_with_optimizer_step": _of(*SWITCH),
    "use_megatron_fsdp": _of(*SWITCH),
    "use_megatron_fsdp_v2": _of(*SWITCH),
    "use_torch_fsdp2": _of(*SWITCH),
    "moe_token_dispatcher_type": _of("alltoall", "allgather", "flex", "alltoall_seq"),
    "moe_flex_dispatcher_backend": _of(None, "deepep", "hybridep", "ncclep", "nvlink"),
    "moe_shared_expert_overlap": _of(*SWITCH),
    "moe_expert_capacity_factor": _of(None, 1.0, 1.5, -1.0),
    "moe_pad_expert_input_to_capacity": _of(*SWITCH),
    "moe_router_padding_for_quantization": _of(*SWITCH),
    "variable_seq_lengths": _of(*SWITCH),
    "overlap_moe_expert_parallel_comm": _of(*SWITCH),
    "delay_wgrad_compute": _of(*SWITCH),
    "overlap_p2p_comm": _of(None, True, False),
    "batch_p2p_comm": _of(None, True, False),
    "overlap_p2p_comm_warmup_flush": _of(*SWITCH),
    "distribute_saved_activations": _of(*SWITCH),
    "cpu_offloading": _of(*SWITCH),
    "cpu_offloading_num_layers": lambda rng, drawn: rng.randint(0, drawn["num_layers"]),
    "fine_grained_activation_offloading": _of(*SWITCH),
    "cuda_graph_impl": _of("none", "transformer_engine", "full_iteration", "local"),
    "cuda_graph_modules": lambda rng, drawn: some(rng, ("attn", "mlp", "moe", "moe_router", "moe_preprocess"), 2),
    "use_te_rng_tracker": _of(None, True, False),
    "check_for_nan_in_loss": _of(None, True, False),
    "defer_embedding_wgrad_compute": _of(*SWITCH),
    "wgrad_deferral_limit": _of(0, 4, -1),
    "gradient_accumulation_fusion": _of(*SWITCH),
    "first_last_layers_bf16": _of(*SWITCH),
    "num_layers_at_start_in_bf16": _of(0, 1, 2, 5),
    "num_layers_at_end_in_bf16": _of(0, 1, 2, 5),
    "fp8_param_gather": _of(*SWITCH),
    "dataset_seq_length": _of(None, 1000, 4096, 8192),
    "calculate_per_token_loss": _of(None, True, False),
    "average_in_collective": _of(None, True, False),
    "packed_sequences": _of(None, "offline", "in-batch", "in_batch"),
}
"""How each value that rules read is drawn, given what was drawn before (``num_layers`` comes first)."""

CALM: dict[str, Any] = {
    "num_layers": 8,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_query_groups": 4,
    "kv_channels": None,
    "ffn_hidden_size": 1536,
    "vocab_size": 8000,
    "kv_lora_rank": 64,
    "q_lora_rank": 96,
    "qk_head_dim": 32,
    "qk_pos_emb_head_dim": 16,
    "v_head_dim": 32,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_attention_freq": 2,
    "mamba_num_heads": 16,
    "mamba_head_dim": 16,
    "mamba_state_dim": 16,
    "mamba_num_groups": 4,
    "moe_ffn_hidden_size": 384,
    "gpus": 12,
    "nvlink_domain": 8,
    "seq_length": 4096,
    "global_batch_size": 48,
    "budget_bytes": 79 * GIB,
}
"""A problem that few rules mind; what is not varied stays at these values or at the defaults."""
