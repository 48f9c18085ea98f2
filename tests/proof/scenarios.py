"""Recorded requests that have no layout: what the guide's readers, users in public threads, and odd clusters ask for."""

from __future__ import annotations

REQUESTS = "tests/proof/requests"

SCENARIOS: dict[str, str] = {
    # those that the design names
    "llama70b_12_a100_40gb": "llama-3.1-70b --gpus 12 --gpu a100-40gb",
    "llama70b_12_request_file": f"--request {REQUESTS}/llama_on_twelve.yaml",
    "qwen7b_28_heads_tp8": "qwen2.5-7b --gpus 64 --gpu h100 --pin tp=8",
    "qwen7b_28_heads_request_file": f"--request {REQUESTS}/qwen_eight.yaml",
    "deepseek_v3_96_ep64": "deepseek-v3 --gpus 96 --gpu h100 --pin ep=64",
    "deepseek_v3_96": "deepseek-v3 --gpus 96 --gpu h100",
    "deepseek_v3_127": "deepseek-v3 --gpus 127 --gpu h100",
    "deepseek_v3_256_guide": "deepseek-v3 --gpus 256 --gpu h100 --pin tp=2 --pin pp=16 --pin ep=64",
    "llama8b_127_gbs1024": "llama-3.1-8b --gpus 127 --gpu h100 --global-batch-size 1024",
    "llama8b_seq8200_cp4_tp4": "llama-3.1-8b --gpus 64 --gpu h100 --seq-length 8200 --pin cp=4 --pin tp=4 --pin sp=true",
    "llama8b_seq8200_cp8": "llama-3.1-8b --gpus 64 --gpu h100 --seq-length 8200 --pin cp=8",
    # the errors that users report most (NVIDIA/Megatron-LM#5768 and the threads around it)
    "report_world_not_divisible": "llama-3-8b --gpus 1 --gpu h200 --pin tp=2",
    "report_vpp_without_pp": "llama-3.1-8b --gpus 8 --gpu h100 --pin pp=1 --pin vpp=2",
    "report_32_heads_on_5": "llama-3.1-8b --gpus 5 --gpu h100 --pin tp=5 --seq-length 4000",
    "report_ep_without_experts": "llama-3.1-8b --gpus 8 --gpu h100 --pin ep=2",
    "report_expert_mesh_too_large": "qwen3-30b-a3b --gpus 8 --gpu h200 --pin tp=2 --pin pp=2 --pin ep=8 --pin etp=1",
    "report_sp_without_tp": "llama-3.1-8b --gpus 8 --gpu h100 --pin tp=1 --pin sp=true",
    "report_batch_over_replicas": "llama-3.1-8b --gpus 24 --gpu h100 --global-batch-size 512 --pin dp=12",
    "report_microbatches_fewer_than_stages": (
        "llama-3.1-70b --gpus 64 --gpu h100 --global-batch-size 24 --pin pp=8 --pin vpp=2 --pin dp=8"
    ),
    "report_moe_without_sp": "qwen3-30b-a3b --gpus 16 --gpu h200 --pin tp=2 --pin sp=false",
    "report_fsdp_with_pp": (
        "llama-3.1-8b --gpus 16 --gpu h100 --pin use_megatron_fsdp=true --pin use_megatron_fsdp_v2=2 --pin pp=2"
    ),
    # meshes
    "pins_leave_nothing": "llama-3.1-70b --gpus 64 --gpu h100 --pin tp=8 --pin pp=8 --pin dp=2",
    "pins_beyond_the_world": "llama-3.1-70b --gpus 32 --gpu h100 --pin tp=8 --pin pp=8",
    "pp_does_not_divide": "llama-3.1-70b --gpus 64 --gpu h100 --pin pp=5",
    "experts_do_not_divide": "deepseek-v3 --gpus 768 --gpu h100 --pin ep=48",
    "ep_and_etp_beyond_a_stage": "qwen3-235b-a22b --gpus 64 --gpu h100 --pin pp=8 --pin ep=16",
    "more_stages_than_layers": "llama-3.2-1b --gpus 64 --gpu h100 --pin pp=32",
    # prime and odd counts
    "llama405b_257": "llama-3.1-405b --gpus 257 --gpu h100",
    "llama70b_97": "llama-3.1-70b --gpus 97 --gpu h100",
    "qwen235b_101": "qwen3-235b-a22b --gpus 101 --gpu h200",
    "batch_1000_on_96": "llama-3.1-8b --gpus 96 --gpu h100 --global-batch-size 1000 --pin tp=2 --pin pp=1 --pin cp=1",
    "batch_1000_on_96_within_half_a_percent": (
        "llama-3.1-8b --gpus 96 --gpu h100 --global-batch-size 1000 --batch-tolerance 0.5% --pin tp=2 --pin pp=1 --pin cp=1"
    ),
    "prime_batch": "llama-3.1-70b --gpus 64 --gpu h100 --global-batch-size 127 --pin dp=8",
    # memory
    "llama405b_8": "llama-3.1-405b --gpus 8 --gpu h100",
    "llama70b_8_plain_optimizer": "llama-3.1-70b --gpus 8 --gpu h100 --optimizer plain",
    "kimi_k2_64": "kimi-k2 --gpus 64 --gpu h100",
    "llama8b_one_l40s": "llama-3.1-8b --gpus 1 --gpu l40s",
    "llama8b_million_tokens": "llama-3.1-8b --gpus 8 --gpu h100 --seq-length 1000000",
    "llama70b_memory_of_its_own": "llama-3.1-70b --gpus 16 --gpu h100 --memory-gib 40",
    "llama70b_no_pipeline_allowed": "llama-3.1-70b --gpus 16 --gpu h100 --limit pp<=1 --limit tp<=2",
    "llama8b_micro_batch_pinned": (
        "llama-3.1-8b --gpus 8 --gpu h100 --pin mbs=8 --pin recompute=none --pin tp=1 --pin pp=1 --pin cp=1"
    ),
    # limits, advice, switches
    "tp16_across_nodes": "llama-3.1-70b --gpus 64 --gpu h100 --pin tp=16",
    "limits_cross": "llama-3.1-8b --gpus 64 --gpu h100 --limit tp>=4 --limit tp<=2",
    "limit_and_pin": "llama-3.1-70b --gpus 64 --gpu h100 --pin tp=8 --limit tp<=4",
    "fp8_tokens": "llama-3.1-8b --gpus 8 --gpu h100 --precision fp8_cs --seq-length 4100 --pin cp=2 --pin mbs=1 --pin tp=1",
    "fp8_on_an_a100": "llama-3.1-8b --gpus 8 --gpu a100-80gb --precision fp8_cs --pin tp=2",
    "nvfp4_on_an_h100": "llama-3.1-8b --gpus 16 --gpu h100 --precision nvfp4",
    "a2a_exchange_of_few_groups": "qwen2.5-7b --gpus 64 --gpu h100 --pin cp_comm_type=a2a --pin cp=8",
    "hybrid_more_stages_than_layers": "nemotron-h-8b --gpus 64 --gpu h100 --pin pp=64",
    "hybrid_virtual_stages": "nemotron-h-8b --gpus 64 --gpu h100 --pin pp=4 --pin vpp=2",
    "idle_gpus_do_not_help": "llama-3.1-405b --gpus 17 --gpu h100 --allow-idle",
}
"""Name to what follows ``meshwright solve``."""
