"""The example of each rule, as the rule words it, with a problem and a layout that say the same in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from constraints.layout import Layout, PipelineSplit, Recompute
from constraints.problem import Problem
from models_catalog.loader import load_gpu, load_model
from models_catalog.schema import ModelSpec
from tests.rules.builders import FULL, hybrid, mla, model, moe, said, selective

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """``words`` is the rule's own text; the rest is what it means."""

    words: str
    problem: Problem
    layout: Layout


def _example(words: str, spec: ModelSpec | None = None, **means: Any) -> Example:
    return Example(words, *said(spec, **means))


GROUPS_OF_SIX = model(num_attention_heads=24, num_query_groups=6)
GDN = model(experimental_attention_variant="gated_delta_net", linear_num_key_heads=16, linear_num_value_heads=32)
NEMOTRON = hybrid("M-M-M-M*-" + "M-M-M-M-M*-" * 3 + "M-M-M-M-M-", name="nemotron-h-8b")
"""52 layers, as many as the 8B of that name has."""

EXAMPLES: dict[str, Example] = {
    "mesh.world-dense": _example("tp=8 pp=4 on 100 GPUs: 100 mod 32 = 4", tp=8, pp=4, gpus=100),
    "mesh.world-expert": _example(
        "deepseek-v3 with tp=2 pp=16 ep=64 on 256 GPUs: a stage has 16 GPUs, its experts want 64",
        load_model("deepseek-v3"),
        tp=2,
        pp=16,
        ep=64,
        gpus=256,
    ),
    "mesh.pp-order": _example(
        "dist.use_tp_pp_dp_mapping=True with pp=2 ep=4 on 16 GPUs: tp*cp = 1, etp*ep = 4",
        moe(),
        use_tp_pp_dp_mapping=True,
        pp=2,
        ep=4,
        gpus=16,
    ),
    "attention.heads-tp": _example("28 heads with tp=8: 28 mod 8 = 4", model(num_attention_heads=28), tp=8),
    "attention.groups-tp": _example("6 query groups with tp=4: neither divides the other", GROUPS_OF_SIX, tp=4),
    "attention.heads-groups": _example("32 heads with 5 query groups", model(num_query_groups=5)),
    "attention.qkv-tp": _example(
        "9 heads of 7 channels in 3 groups with tp=2: 105 mod 2 = 1",
        model(num_attention_heads=9, num_query_groups=3, kv_channels=7),
        tp=2,
    ),
    "attention.mla": _example(
        "multi_latent_attention with attention_output_gate=True", mla(attention_output_gate=True)
    ),
    "feedforward.ffn-tp": _example("ffn_hidden_size 14337 with tp=2", model(ffn_hidden_size=14337), tp=2),
    "feedforward.vocab-pad": _example(
        "should_pad_vocab=False, 50257 rows, tp=8", model(should_pad_vocab=False, vocab_size=50257), tp=8
    ),
    "experts.ep-needs-moe": _example("llama-3.1-8b with ep=2", load_model("llama-3.1-8b"), ep=2),
    "experts.experts-ep": _example("256 experts with ep=48: 256 mod 48 = 16", moe(num_moe_experts=256), ep=48),
    "experts.moeffn-etp": _example(
        "moe_ffn_hidden_size 770 with etp=4: 770 mod 4 = 2", moe(moe_ffn_hidden_size=770), etp=4
    ),
    "experts.shared-tp": _example(
        "moe_shared_expert_intermediate_size 2050 with tp=8: 2050 mod 8 = 2",
        moe(moe_shared_expert_intermediate_size=2050),
        tp=8,
    ),
    "experts.moe-tp-needs-sp": _example(
        "qwen3-30b-a3b with tp=2 and sequence_parallel=False",
        load_model("qwen3-30b-a3b"),
        tp=2,
        sequence_parallel=False,
    ),
    "experts.moe-ffn": _example("moe_ffn_hidden_size=1536 without num_moe_experts", model(moe_ffn_hidden_size=1536)),
    "experts.topk": _example("moe_router_topk=8 with 4 experts", moe(moe_router_topk=8, num_moe_experts=4)),
    "experts.topk-presoftmax": _example(
        "moe_router_topk=1 with moe_router_score_function=softmax",
        moe(moe_router_topk=1, moe_router_score_function="softmax"),
    ),
    "experts.group-routing": _example(
        "128 experts with moe_router_num_groups=7: 128 mod 7 = 2", moe(moe_router_num_groups=7, moe_router_group_topk=2)
    ),
    "experts.group-routing-runtime": _example(
        "16 experts in 8 groups with topk=4, group_topk=1: 4 of the 2 experts of a group",
        moe(num_moe_experts=16, moe_router_num_groups=8, moe_router_topk=4, moe_router_group_topk=1),
    ),
    "experts.expert-bias": _example(
        "moe_router_enable_expert_bias=True with softmax scores", moe(moe_router_enable_expert_bias=True)
    ),
    "experts.bias-etp": _example("add_bias_linear=True with 128 experts and etp=2", moe(add_bias_linear=True), etp=2),
    "experts.shared-bias": _example(
        "moe_shared_expert_intermediate_size=2048 with add_bias_linear=True",
        moe(add_bias_linear=True, moe_shared_expert_intermediate_size=2048),
    ),
    "experts.moe-freq": _example(
        "a list of 60 entries for 61 layers", moe(num_layers=61, moe_layer_freq=(0,) * 3 + (1,) * 57)
    ),
    "experts.latent": _example("moe_latent_size=0 with 128 experts", moe(moe_latent_size=0)),
    "pipeline.pp-even": _example("61 layers on pp=16", model(num_layers=61), pp=16),
    "pipeline.pp-account": _example(
        "32 layers and the embedding on pp=4: 33 mod 4 = 1", pp=4, split=PipelineSplit(account_for_embedding=True)
    ),
    "pipeline.pp-first-last": _example("32 layers, pp=4, first=7: 25 mod 3 = 1", pp=4, split=PipelineSplit(first=7)),
    "pipeline.pp-first-last-sane": _example(
        "first=20 last=20 with 32 layers on pp=3 leaves the middle stage -8 layers",
        pp=3,
        split=PipelineSplit(first=20, last=20),
    ),
    "pipeline.pp-modes-excl": _example(
        "num_layers_in_first_pipeline_stage=7 with account_for_loss_in_pipeline_split=True",
        pp=4,
        split=PipelineSplit(first=7, account_for_loss=True),
    ),
    "pipeline.layout-string": _example(
        "pipeline_model_parallel_layout='Et*3|x*3L'", pp=2, split=PipelineSplit(layout="Et*3|x*3L")
    ),
    "pipeline.layout-count": _example("three chunks on pp=4", pp=4, split=PipelineSplit(layout="Et*10|t*12|t*10L")),
    "pipeline.layout-content": _example(
        "31 t in a layout for 32 layers", pp=2, split=PipelineSplit(layout="Et*16|t*15L")
    ),
    "pipeline.hybrid-layout": _example(
        "pipeline_model_parallel_layout on nemotron-h",
        hybrid("M-M*M-M*", name="nemotron-h"),
        pp=2,
        split=PipelineSplit(layout="Et*4|t*4L"),
    ),
    "pipeline.layer-on-every-rank": _example(
        "E|t*16|t*16|L on pp=4", pp=4, split=PipelineSplit(layout="E|t*16|t*16|L")
    ),
    "pipeline.even-chunks": _example(
        "Et*2|t*2|t*6|t*6L on pp=2: the first rank has chunks of 2 and 6 layers",
        model(num_layers=16),
        pp=2,
        vpp=2,
        split=PipelineSplit(layout="Et*2|t*2|t*6|t*6L"),
    ),
    "pipeline.mtp-with-loss": _example(
        "Et*4|t*4m|L on pp=3",
        model(num_layers=8, mtp_num_layers=1),
        pp=3,
        split=PipelineSplit(layout="Et*4|t*4m|L"),
    ),
    "pipeline.bubble": _example(
        "llama-3.1-70b with pp=8 and vpp=null", load_model("llama-3.1-70b"), pp=8, vpp=None, num_microbatches=16
    ),
    "pipeline.fill": _example(
        "pp=16 with 4 micro-batches: 15 of 19 micro-batch times are idle", pp=16, num_microbatches=4
    ),
    "pipeline.vpp-needs-pp": _example("vpp=2 with pp=1", vpp=2, pp=1),
    "pipeline.vpp-microbatches": _example(
        "pp=4 vpp=2 with 6 micro-batches: 6 mod 4 = 2", pp=4, vpp=2, num_microbatches=6
    ),
    "sequence.sp-needs-tp": _example("sequence_parallel=True with tp=1", sequence_parallel=True, tp=1),
    "sequence.seq-tp": _example(
        "sequence length 8196 with tp=8: 8196 mod 8 = 4", seq_length=8196, tp=8, sequence_parallel=True
    ),
    "sequence.sp-where-possible": _example(
        "tp=4 with sequence_parallel=False at sequence length 4096", tp=4, sequence_parallel=False, seq_length=4096
    ),
    "sequence.seq-dataset": _example(
        "model.seq_length=8192 dataset.seq_length=4096", seq_length=8192, dataset_seq_length=4096
    ),
    "sequence.max-positions": _example(
        "a model made for 8192 positions at sequence length 32768",
        model(max_position_embeddings=8192),
        seq_length=32768,
    ),
    "context.seq-2cp": _example("sequence length 8200 with cp=8: 8200 mod 16 = 8", seq_length=8200, cp=8),
    "context.cp-comm-type": _example(
        "cp_comm_type=[p2p, p2p, p2p] for 32 layers", cp=2, cp_comm_type=("p2p", "p2p", "p2p")
    ),
    "context.cp-a2a-heads": _example(
        "8 query groups with tp=2 cp=8 and cp_comm_type=a2a: 4 mod 8 = 4", tp=2, cp=8, cp_comm_type="a2a"
    ),
    "context.cp-hier": _example(
        "cp_comm_type=a2a+p2p with cp=8 and no hierarchical_context_parallel_sizes", cp=8, cp_comm_type="a2a+p2p"
    ),
    "context.cp-swa": _example(
        "gpt-oss-20b with cp=2 and cp_comm_type=p2p", load_model("gpt-oss-20b"), cp=2, cp_comm_type="p2p"
    ),
    "context.cp-sft": _example(
        "--task sft with cp=2 and calculate_per_token_loss=False", task="sft", cp=2, calculate_per_token_loss=False
    ),
    "context.hybrid-cp": _example(
        "hybrid_context_parallel=True with dp=3 cp=1", hybrid_context_parallel=True, dp=3, cp=1, gpus=3
    ),
    "context.pack-mbs": _example(
        "packed_sequences=offline with micro_batch_size=2", packed_sequences="offline", micro_batch_size=2
    ),
    "context.dsa": _example(
        "glm-5.2 with cp=4 and cp_comm_type=p2p",
        mla(name="glm-5.2", experimental_attention_variant="dsa"),
        cp=4,
        cp_comm_type="p2p",
    ),
    "batch.gbs": _example(
        "global batch 512 on dp=12: 512 mod 12 = 8", global_batch_size=512, dp=12, num_microbatches=42, gpus=12
    ),
    "batch.requested": _example(
        "--global-batch-size 1024 with train.global_batch_size=512 in the layout",
        asked_batch=1024,
        global_batch_size=512,
    ),
    "batch.tolerance": _example(
        "--global-batch-size 1000 --batch-tolerance 2% with a batch of 1024: 2.4% more",
        target_batch=1000,
        batch_tolerance=200,
        global_batch_size=1024,
    ),
    "batch.near-target": _example(
        "vpp=2 pp=8 dp=192 mbs=4 at 4096 tokens: the least batch is 6144 sequences, six times the target",
        vpp=2,
        pp=8,
        dp=192,
        micro_batch_size=4,
        seq_length=4096,
        gpus=1536,
    ),
    "dispatch.dispatcher": _example(
        "moe_token_dispatcher_type=flex moe_flex_dispatcher_backend=deepep on GB200",
        moe(),
        moe_token_dispatcher_type="flex",
        moe_flex_dispatcher_backend="deepep",
        ep=8,
        gpu=load_gpu("gb200"),
    ),
    "dispatch.capacity": _example(
        "moe_pad_expert_input_to_capacity=True without moe_expert_capacity_factor",
        moe(),
        moe_pad_expert_input_to_capacity=True,
    ),
    "dispatch.shared-overlap": _example(
        "moe_shared_expert_overlap=True with recompute_modules=[shared_experts]",
        moe(moe_shared_expert_intermediate_size=2048),
        moe_shared_expert_overlap=True,
        recompute=selective("shared_experts"),
    ),
    "dispatch.a2a-overlap": _example(
        "overlap_moe_expert_parallel_comm=True with pp=2 and vpp=null",
        moe(),
        overlap_moe_expert_parallel_comm=True,
        pp=2,
        vpp=None,
        ep=8,
    ),
    "dispatch.delay-wgrad": _example(
        "delay_wgrad_compute=True without overlap_moe_expert_parallel_comm", moe(), delay_wgrad_compute=True
    ),
    "dispatch.quant-pad": _example(
        "moe_router_padding_for_quantization=True in bf16",
        moe(),
        moe_router_padding_for_quantization=True,
        precision="bf16",
    ),
    "pipeline.p2p-flags": _example(
        "overlap_p2p_comm=True with pp=4 vpp=2 and batch_p2p_comm left at True", overlap_p2p_comm=True, pp=4, vpp=2
    ),
    "recompute.rc-full": _example(
        "recompute_granularity=full without recompute_method", recompute=Recompute("full", num_layers=1)
    ),
    "recompute.rc-mtp": _example(
        "recompute_method=uniform recompute_num_layers=2 of deepseek-v3",
        load_model("deepseek-v3"),
        recompute=Recompute("full", "uniform", 2),
    ),
    "recompute.group-in-chunk": _example(
        "recompute_method=uniform recompute_num_layers=9 of 32 layers on pp=4",
        recompute=Recompute("full", "uniform", 9),
        pp=4,
    ),
    "recompute.block-leaves-some": _example(
        "recompute_method=block recompute_num_layers=8 of 32 layers on pp=4",
        recompute=Recompute("full", "block", 8),
        pp=4,
    ),
    "recompute.rc-sel": _example(
        "recompute_granularity=selective recompute_modules=[attn]", recompute=selective("attn")
    ),
    "recompute.rc-mod": _example(
        "mla_up_proj in recompute_modules of llama-3.1-8b",
        load_model("llama-3.1-8b"),
        recompute=selective("mla_up_proj"),
    ),
    "recompute.rc-dist": _example(
        "distribute_saved_activations=True with sequence_parallel=True and full recompute",
        distribute_saved_activations=True,
        sequence_parallel=True,
        tp=4,
        recompute=FULL,
    ),
    "recompute.offload": _example(
        "cpu_offloading=True cpu_offloading_num_layers=2 with pp=2",
        cpu_offloading=True,
        cpu_offloading_num_layers=2,
        pp=2,
    ),
    "recompute.mhc": _example("enable_mhc_connections=True with pp=4", model(enable_mhc_connections=True), pp=4),
    "recompute.cg": _example(
        "cuda_graph_impl=transformer_engine with full recompute",
        cuda_graph_impl="transformer_engine",
        use_te_rng_tracker=True,
        recompute=FULL,
    ),
    "recompute.cg-switches": _example(
        "cuda_graph_impl=transformer_engine and no word about use_te_rng_tracker", cuda_graph_impl="transformer_engine"
    ),
    "optimizer.do-instances": _example(
        "num_distributed_optimizer_instances=2 with ep=8 on 8 GPUs: edp = 1",
        moe(),
        num_distributed_optimizer_instances=2,
        ep=8,
        gpus=8,
    ),
    "optimizer.overlap-pg": _example(
        "overlap_param_gather=True with overlap_grad_reduce=False", overlap_param_gather=True, overlap_grad_reduce=False
    ),
    "optimizer.mfsdp-v1": _example(
        "use_megatron_fsdp=True with use_tp_pp_dp_mapping=True", use_megatron_fsdp=True, use_tp_pp_dp_mapping=True
    ),
    "optimizer.mfsdp-v2": _example("megatron_fsdp_version=2 with tp=2", use_megatron_fsdp_v2=True, tp=2),
    "optimizer.embed-wgrad": _example(
        "defer_embedding_wgrad_compute=True with pp=1", defer_embedding_wgrad_compute=True, pp=1
    ),
    "optimizer.gtp": _example(
        "tensor_parallel_num_weight_shards=6 with tp=4: 6 mod 4 = 2", tensor_parallel_num_weight_shards=6, tp=4
    ),
    "optimizer.bf16-ends": _example(
        "first_last_layers_bf16=True num_layers_at_start_in_bf16=5 with 32 layers on pp=8",
        first_last_layers_bf16=True,
        num_layers_at_start_in_bf16=5,
        pp=8,
        precision="fp8_cs",
    ),
    "precision.fp8-widths": _example(
        "ffn_hidden_size 14336 with fp8_cs and tp=1024: 14 mod 16 = 14",
        model(num_attention_heads=1024, kv_channels=128),
        precision="fp8_cs",
        tp=1024,
        gpus=1024,
    ),
    "precision.fp8-experts": _example(
        "moe_ffn_hidden_size 768 with fp8_mx and etp=16: 48 mod 32 = 16", moe(), precision="fp8_mx", etp=16
    ),
    "precision.fp8-tokens": _example(
        "fp8_cs at sequence length 8191: 8191 mod 8 = 7", precision="fp8_cs", seq_length=8191
    ),
    "precision.gpu-format": _example(
        "fp8_cs on an A100: compute capability 8.0", precision="fp8_cs", gpu=load_gpu("a100-80gb")
    ),
    "precision.fp8-param": _example("fp8_param_gather=True in bf16", fp8_param_gather=True, precision="bf16"),
    "hybrid.hybrid-symbols": _example("M*M+: * and + in one pattern", hybrid("M*M+")),
    "hybrid.hybrid-no-vpp": _example("nemotron-h-8b with pp=2 vpp=2", NEMOTRON, pp=2, vpp=2),
    "hybrid.hybrid-pipes": _example("M*M|M*M|M*M with pp=2: 3 mod 2 = 1", hybrid("M*M|M*M|M*M"), pp=2),
    "hybrid.pipes-used": _example(
        "M*M|M*M|M*M|M*M with pp=2: two segments of four are built", hybrid("M*M|M*M|M*M|M*M"), pp=2
    ),
    "hybrid.hybrid-split": _example("nemotron-h-8b: 52 layers with pp=8: 52 mod 8 = 4", NEMOTRON, pp=8),
    "hybrid.mamba-heads": _example(
        "mamba_num_heads=112 with tp=32: 112 mod 32 = 16", hybrid(mamba_num_heads=112), tp=32
    ),
    "hybrid.mamba-groups": _example("mamba_num_groups=8 with tp=16: 8 mod 16 = 8", hybrid(mamba_num_groups=8), tp=16),
    "hybrid.mamba-cp": _example(
        "mamba_num_heads=128 mamba_num_groups=8 with tp=4 cp=3: 32 mod 3 = 2",
        hybrid(mamba_num_heads=128, mamba_num_groups=8),
        tp=4,
        cp=3,
        gpus=12,
    ),
    "hybrid.mamba-fp8": _example("mamba_num_heads=100 with fp8_cs", hybrid(mamba_num_heads=100), precision="fp8_cs"),
    "hybrid.gdn": _example("16 key heads with tp=8 cp=4: 16 mod 32 = 16", GDN, tp=8, cp=4),
    "topology.tp-in-domain": _example("tp=16 on nodes of 8 GPUs", tp=16),
    "memory.capacity": _example(
        "llama-3.1-405b on 8 GPUs: weights, gradients and optimizer alone are ten times an H100",
        load_model("llama-3.1-405b"),
        gpus=8,
        tp=8,
        sequence_parallel=True,
        gpu=load_gpu("h100"),
    ),
    "generation.known-words": _example(
        "--megatron 0.16 with tensor_parallel_num_weight_shards=4", megatron="0.16", tensor_parallel_num_weight_shards=4
    ),
    "feedforward.mtp-tp": _example(
        "hidden_size 2880 with mtp_num_layers=1 and tp=7: 2880 mod 7 = 3",
        model(hidden_size=2880, mtp_num_layers=1),
        tp=7,
    ),
    "experts.expert-bias-sigmoid": _example(
        "moe_router_enable_expert_bias=True with sqrtsoftplus scores",
        moe(moe_router_enable_expert_bias=True, moe_router_score_function="sqrtsoftplus"),
        megatron="0.16",
    ),
    "dispatch.a2a-overlap-mtp": _example(
        "overlap_moe_expert_parallel_comm=True with mtp_num_layers=1 and pp=1",
        moe(mtp_num_layers=1),
        megatron="0.16",
        overlap_moe_expert_parallel_comm=True,
        ep=8,
    ),
    "dispatch.shared-overlap-flex": _example(
        "moe_shared_expert_overlap=True with moe_token_dispatcher_type=flex",
        moe(moe_shared_expert_intermediate_size=512),
        megatron="0.16",
        moe_shared_expert_overlap=True,
        moe_token_dispatcher_type="flex",
    ),
    "context.cp-channels": _example(
        "kv_channels=90 with cp=2 and cp_comm_type=a2a: 90 mod 8 = 2",
        model(kv_channels=90),
        megatron="0.16",
        cp_comm_type="a2a",
        cp=2,
    ),
    "context.cp-comm-list": _example(
        "cp_comm_type=[p2p, all_gather, ...] with cp=2", megatron="0.16", cp_comm_type=("p2p", "all_gather"), cp=2
    ),
    "context.cp-mla-gather": _example(
        "deepseek-v3 with cp=2 and cp_comm_type=all_gather",
        load_model("deepseek-v3"),
        megatron="0.16",
        cp_comm_type="all_gather",
        cp=2,
    ),
    "hybrid.hybrid-no-pipes": _example("M*M|M*M on two pipeline ranks", hybrid("M*M|M*M"), megatron="0.16", pp=2),
    "hybrid.gdn-cp": _example("qwen3-next-80b-a3b with cp=2", load_model("qwen3-next-80b-a3b"), megatron="0.16", cp=2),
}
"""By rule id."""
