"""What the first training step checks before it computes anything: the batch, the schedule, the router, attention."""

from __future__ import annotations

import contextlib
import types
from inspect import signature
from typing import Any
from unittest.mock import patch

from tests.conformance.megatron.stand_ins import Reached, stopping_at

__all__ = ["attend", "route", "schedule", "slice_batch"]


def slice_batch(model: Any, seq_length: int) -> None:
    """Cut a batch over context ranks, then its activations over tensor ranks."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.tensor_parallel import mappings
    from megatron.core.utils import get_batch_on_this_cp_rank

    length = seq_length
    if model.context_parallel_size > 1:
        more = {"is_hybrid_cp": False} if "is_hybrid_cp" in signature(get_batch_on_this_cp_rank).parameters else {}
        batch = get_batch_on_this_cp_rank(
            {"tokens": torch.zeros(1, length, dtype=torch.int8)},
            cp_group=parallel_state.get_context_parallel_group(),
            **more,
        )
        length = batch["tokens"].shape[1]
    if model.sequence_parallel and model.tensor_model_parallel_size > 1:
        mappings._split_along_first_dim(torch.zeros(length, 1, 1), parallel_state.get_tensor_model_parallel_group())


def schedule(model: Any, microbatches: int, micro_batch_size: int) -> None:
    """The entry of the interleaved schedule, up to the first statement after its checks."""
    import torch
    from megatron.core import parallel_state
    from megatron.core.pipeline_parallel import schedules

    chunks = model.virtual_pipeline_model_parallel_size
    if model.pipeline_model_parallel_size == 1 or chunks is None:
        return
    parts = [torch.nn.Module() for _ in range(chunks)]
    for part in parts:
        part.config = model
    pipeline = parallel_state.get_pipeline_model_parallel_group()
    collection = types.SimpleNamespace(
        tp=parallel_state.get_tensor_model_parallel_group(),
        cp=parallel_state.get_context_parallel_group(),
        pp=pipeline,
        embd=None,
        pos_embd=None,
        dp_cp=parallel_state.get_data_parallel_group(with_context_parallel=True),
    )
    with (
        patch.object(schedules, "get_model_type", lambda chunk: None),
        patch.object(schedules, "get_model_config", lambda chunk: model),
        stopping_at(schedules, "get_pp_rank_microbatches"),
    ):
        schedules.forward_backward_pipelining_with_interleaving(
            forward_step_func=None,
            data_iterator=[None] * chunks,
            model=parts,
            num_microbatches=microbatches,
            seq_length=model.seq_length,
            micro_batch_size=micro_batch_size,
            p2p_communicator=types.SimpleNamespace(config=model, pp_group=pipeline),
            pg_collection=collection,
        )


def route(model: Any, built: Any) -> None:
    """The entry of ``MoELayer.forward`` in training, and the router's choice for four tokens."""
    import torch
    from megatron.core.transformer.moe import moe_utils
    from megatron.core.transformer.moe.moe_layer import MoELayer

    layer = next((module for module in built.modules() if isinstance(module, MoELayer)), None)
    if layer is None:
        return
    layer.train()

    def reached(*args: Any, **given: Any) -> None:
        raise Reached

    layer.moe_layer_recompute = False  # it is computed once here, and checkpoints want a GPU
    layer.router.forward = reached
    layer.shared_experts_compute = reached
    hidden = torch.empty(4, 1, model.hidden_size, device="meta")
    with contextlib.suppress(Reached):
        layer(hidden)
    bias = torch.zeros(model.num_moe_experts) if model.moe_router_enable_expert_bias else None
    if model.moe_router_load_balancing_type == "sinkhorn":
        torch.topk(torch.rand(4, model.num_moe_experts), k=model.moe_router_topk, dim=1)
        return
    moe_utils.topk_routing_with_score_function(
        torch.rand(4, model.num_moe_experts),
        model.moe_router_topk,
        use_pre_softmax=model.moe_router_pre_softmax,
        num_groups=model.moe_router_num_groups,
        group_topk=model.moe_router_group_topk,
        scaling_factor=model.moe_router_topk_scaling_factor,
        score_function=model.moe_router_score_function,
        expert_bias=bias,
    )


def attend(model: Any, built: Any, seq_length: int, micro_batch_size: int) -> None:
    """Transformer Engine's entry into context-parallel attention, with tensors of the right shape and no storage."""
    import torch
    from transformer_engine.pytorch.attention.dot_product_attention import DotProductAttention, context_parallel

    if model.context_parallel_size == 1:
        return
    stops = {
        "AttnFuncWithCPAndKVP2P": _until_exchange,
        "AttnFuncWithCPAndKVAllGather": _reached,
        "AttnFuncWithCPAndQKVOA2A": _until_exchange,
    }
    tokens = seq_length // model.context_parallel_size
    for layer in built.modules():
        if not isinstance(layer, DotProductAttention) or layer.cp_group is None:
            continue
        channels = layer.hidden_size_per_attention_head_k, layer.hidden_size_per_attention_head_v
        heads = model.num_attention_heads // model.tensor_model_parallel_size
        groups = layer.num_gqa_groups_per_partition
        shapes = ((heads, channels[0]), (groups, channels[0]), (groups, channels[1]))
        query, key, value = (torch.empty(tokens, micro_batch_size, *shape, device="meta") for shape in shapes)
        lengths = torch.zeros(micro_batch_size + 1, dtype=torch.int32, device="meta")
        patches = [patch.object(getattr(context_parallel, name), "apply", stop(name)) for name, stop in stops.items()]
        for each in patches:
            each.start()
        try:
            context_parallel.attn_forward_func_with_cp(
                True, query, key, value, lengths, lengths, seq_length, seq_length, None, None, 0.0,
                layer.cp_group, layer.cp_global_ranks, None, layer.cp_comm_type,
                qkv_format="sbhd", attn_mask_type="causal", use_fused_attention=True,
                window_size=layer.window_size, softmax_type=layer.softmax_type,
            )  # fmt: skip
        except Reached:
            pass
        finally:
            for each in patches:
                each.stop()


def _reached(name: str) -> Any:
    def stop(*args: Any) -> None:
        raise Reached

    return stop


def _until_exchange(name: str) -> Any:
    """Run the function's own forward up to the first exchange of heads, which has dealt queries and keys by then."""

    def run(*args: Any) -> None:
        from transformer_engine.pytorch.attention.dot_product_attention import context_parallel

        def reached(*inner: Any, **given: Any) -> None:
            raise Reached

        import torch

        sent = types.SimpleNamespace(wait=lambda: None)
        stops = [
            patch.object(torch.distributed, "all_to_all_single", lambda *inner, **given: sent),
            patch.object(context_parallel, "reorder_seq_chunks_for_a2a_before_attn", reached),
            patch.object(torch.cuda, "stream", lambda stream: contextlib.nullcontext()),
            patch.object(torch.cuda, "current_stream", reached),
        ]
        for each in stops:
            each.start()
        try:
            getattr(context_parallel, name).forward(types.SimpleNamespace(), *args)
        finally:
            for each in stops:
                each.stop()

    return run
