"""Process groups at the real world size, on torch's fake backend: the meshes, the micro-batches, the layers of each rank."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from inspect import signature
from typing import Any

__all__ = ["close", "count_microbatches", "make", "split_layers", "world"]


def world(ranks: int, rank: int = 0) -> None:
    """A fresh distributed world, seen by ``rank``; nothing is sent in it."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    close()
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())


def close() -> None:
    import torch.distributed as dist
    from megatron.core import parallel_state

    with contextlib.suppress(Exception):
        parallel_state.destroy_model_parallel()
    if dist.is_initialized():
        dist.destroy_process_group()


def make(container: Any, ranks: int) -> None:
    """As ``megatron/bridge/training/initialize.py::_create_pg_collection`` calls it, field for field."""
    from megatron.core import parallel_state

    world(ranks)
    model = container.model
    given = {
        "tensor_model_parallel_size": model.tensor_model_parallel_size,
        "pipeline_model_parallel_size": model.pipeline_model_parallel_size,
        "virtual_pipeline_model_parallel_size": model.virtual_pipeline_model_parallel_size,
        "context_parallel_size": model.context_parallel_size,
        "hierarchical_context_parallel_sizes": model.hierarchical_context_parallel_sizes,
        "hybrid_context_parallel": getattr(model, "hybrid_context_parallel", False),
        "expert_model_parallel_size": model.expert_model_parallel_size,
        "expert_tensor_parallel_size": model.expert_tensor_parallel_size,
        "num_distributed_optimizer_instances": container.ddp.num_distributed_optimizer_instances,
        "order": "tp-cp-ep-pp-dp" if container.dist.use_tp_pp_dp_mapping else "tp-cp-ep-dp-pp",
        "create_gloo_process_groups": False,
    }
    known = signature(parallel_state.initialize_model_parallel).parameters
    with _own_groups_only():
        parallel_state.initialize_model_parallel(**{name: value for name, value in given.items() if name in known})


@contextlib.contextmanager
def _own_groups_only() -> Iterator[None]:
    """Groups that rank 0 is not in are not made: it would get nothing of them but the time that they take."""
    import torch.distributed as dist

    real = dist.new_group

    def new_group(ranks: Any = None, *args: Any, **given: Any) -> Any:
        if ranks is not None and 0 not in ranks:
            return dist.GroupMember.NON_GROUP_MEMBER
        return real(ranks, *args, **given)

    dist.new_group = new_group
    try:
        yield
    finally:
        dist.new_group = real


def count_microbatches(container: Any) -> int:
    from megatron.core import num_microbatches_calculator as calculator
    from megatron.core import parallel_state

    reset = getattr(calculator, "unset_num_microbatches_calculator", calculator.destroy_num_microbatches_calculator)
    reset()
    train, dp = container.train, parallel_state.get_data_parallel_world_size()
    calculator.init_num_microbatches_calculator(0, None, train.global_batch_size, train.micro_batch_size, dp)
    return int(calculator.get_num_microbatches())


def split_layers(model: Any) -> list[str]:
    """Ask for the layers of every rank and virtual stage; returns what Megatron lets pass and should not.

    Raises what Megatron raises, and ``ValueError`` if the ranks together do not build the model.
    """
    from megatron.core import parallel_state
    from megatron.core.transformer.multi_token_prediction import get_mtp_num_layers_to_build
    from megatron.core.transformer.transformer_block import get_num_layers_to_build

    ranks, stages = model.pipeline_model_parallel_size, model.virtual_pipeline_model_parallel_size
    layers, predicted, remarks = [], 0, []
    try:
        for stage in range(stages or 1):
            for rank in range(ranks):
                parallel_state.set_pipeline_model_parallel_rank(rank)
                virtual = stage if stages else None
                layers.append(get_num_layers_to_build(model, vp_stage=virtual, pp_rank=rank))
                if model.mtp_num_layers:
                    predicted += get_mtp_num_layers_to_build(model, vp_stage=virtual, pp_rank=rank)
    finally:
        parallel_state.set_pipeline_model_parallel_rank(0)
    if sum(layers) != model.num_layers:
        remarks.append(f"ranks build {sum(layers)} layers of {model.num_layers}")
    if min(layers) < 0:
        remarks.append(f"a chunk of {min(layers)} layers")
    if model.mtp_num_layers and predicted != model.mtp_num_layers:
        remarks.append(f"ranks build {predicted} MTP layers of {model.mtp_num_layers}")
    return remarks
