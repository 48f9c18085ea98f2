"""The first pipeline chunk of a model, and the last where MTP layers are, built by Bridge's own provider.

Modules are Transformer Engine's, without storage. Layers of one kind are alike: of each kind in the whole model one is
built, wherever it stands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any
from unittest.mock import patch

from tests.conformance.megatron.job import NotDrivable

__all__ = ["chunks"]


def chunks(provider: Any) -> list[Any]:
    """The model's chunks: that of pipeline rank 0, and where the last rank has MTP layers, its last too.

    Raises what building them raises.
    """
    from megatron.core import parallel_state
    from megatron.core.process_groups_config import ProcessGroupCollection

    provider._pg_collection = ProcessGroupCollection.use_mpu_process_groups()
    _choose_spec(provider)
    stages, ranks = provider.virtual_pipeline_model_parallel_size, provider.pipeline_model_parallel_size
    built = [_chunk(provider, 0 if stages else None, first=True, last=ranks == 1)]
    if provider.mtp_num_layers and ranks > 1 and hasattr(provider, "transformer_layer_spec"):
        parallel_state.set_pipeline_model_parallel_rank(ranks - 1)
        real = provider._pg_collection.pp
        provider._pg_collection.pp = _LastOf(ranks)
        try:
            built.append(_chunk(provider, stages - 1 if stages else None, first=False, last=True))
        finally:
            parallel_state.set_pipeline_model_parallel_rank(0)
            provider._pg_collection.pp = real
    return built


class _LastOf:
    """A pipeline group seen from its last rank."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks

    def size(self) -> int:
        return self.ranks

    def rank(self) -> int:
        return self.ranks - 1


def _chunk(provider: Any, stage: int | None, *, first: bool, last: bool) -> Any:
    import torch

    # set up only where a GPU is: random numbers are not drawn, rotary tables not cut, kernels not fused
    provider.perform_initialization = False
    provider.init_model_with_meta_device = True
    with (
        _without_random_state(),
        _without_scales(),
        _one_layer_a_kind(provider, whole=first),
        _whole_rotary_tables(),
        torch.device("meta"),
    ):
        return provider.provide(pre_process=first, post_process=last, vp_stage=stage)


def _choose_spec(provider: Any) -> None:
    """The layer spec that Bridge's model families set: per-layer for experts and latents, the default for the others."""
    from megatron.core.models.gpt import gpt_layer_specs

    if not hasattr(provider, "transformer_layer_spec"):
        return
    if getattr(provider, "experimental_attention_variant", None):
        from megatron.core.models.gpt import experimental_attention_variant_module_specs as variants

        provider.transformer_layer_spec = variants.get_transformer_block_with_experimental_attention_variant_spec
    elif provider.num_moe_experts or getattr(provider, "multi_latent_attention", False):
        provider.transformer_layer_spec = partial(
            gpt_layer_specs.get_gpt_decoder_block_spec, use_transformer_engine=True
        )


@contextlib.contextmanager
def _one_layer_a_kind(provider: Any, *, whole: bool) -> Iterator[None]:
    """``whole``: of each kind in the model, else in the chunk."""
    if hasattr(provider, "hybrid_override_pattern"):
        with _one_symbol_each(provider):
            yield
        return
    from megatron.core.transformer import transformer_block

    original = transformer_block._get_block_submodules

    def thinned(config: Any, spec: Any, *args: Any, **given: Any) -> Any:
        submodules = original(config, spec, *args, **given)
        every = list(submodules.layer_specs)
        if whole:
            every = _every_layer(config, submodules) if hasattr(spec, "layer_specs") else [spec] * config.num_layers
        layers = every if _differ_by_place(provider) else list({str(layer): layer for layer in every}.values())
        return transformer_block.TransformerBlockSubmodules(layer_specs=layers, layer_norm=submodules.layer_norm)

    with patch.object(transformer_block, "_get_block_submodules", thinned):
        yield


def _differ_by_place(provider: Any) -> bool:
    """True if layers of one kind attend differently under context parallelism: then all are built."""
    listed = isinstance(getattr(provider, "cp_comm_type", None), list)
    return provider.context_parallel_size > 1 and (listed or bool(getattr(provider, "window_size", None)))


def _every_layer(config: Any, submodules: Any) -> list[Any]:
    """The specs of all layers of the model, whatever rank builds them."""
    from megatron.core.models.gpt import gpt_layer_specs

    if getattr(config, "experimental_attention_variant", None):
        from megatron.core.models.gpt import experimental_attention_variant_module_specs as variants

        make = getattr(variants, "get_transformer_layer_with_experimental_attention_variant_spec", None)
        if make is None and config.pipeline_model_parallel_size > 1:
            raise NotDrivable("before generation 0.19 such layers are known rank by rank only")
        return list(make(config) if make else submodules.layer_specs)
    make = gpt_layer_specs.get_gpt_decoder_layer_specs
    more = {"qk_l2_norm": config.qk_l2_norm} if "qk_l2_norm" in signature(make).parameters else {}
    return list(make(config, True, config.normalization, **more))


@contextlib.contextmanager
def _one_symbol_each(provider: Any) -> Iterator[None]:
    try:
        from megatron.core.models.hybrid.hybrid_block import HybridStack as stack
    except ImportError:
        from megatron.core.ssm.mamba_block import MambaStack as stack

    original = stack.__init__
    pattern = getattr(provider, "hybrid_layer_pattern", None) or provider.hybrid_override_pattern or ""
    symbols = [symbol for symbol in pattern.split("/")[0] if symbol != "|"]
    if not _differ_by_place(provider):
        symbols = list(dict.fromkeys(symbols))

    def thinned(self: Any, *args: Any, **given: Any) -> None:
        if given.get("layer_type_list") is not None and not given.get("is_mtp_layer"):
            given |= {"layer_type_list": symbols, "pp_layer_offset": 0}
        original(self, *args, **given)

    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(stack, "__init__", thinned))
        if hasattr(stack, "_select_layers_for_pipeline_parallel"):
            select = stack._select_layers_for_pipeline_parallel

            def selected(self: Any, kinds: Any) -> Any:
                select(self, kinds)
                return 0, symbols

            patches.enter_context(patch.object(stack, "_select_layers_for_pipeline_parallel", selected))
        yield


def _first(given: Any, *args: Any, **named: Any) -> Any:
    """What is given, as it is."""
    return given


def _nothing(*args: Any, **named: Any) -> contextlib.nullcontext[None]:
    """A context in which nothing is different."""
    return contextlib.nullcontext()


@contextlib.contextmanager
def _whole_rotary_tables() -> Iterator[None]:
    """Rotary tables move themselves to the GPU under context parallelism; no rule lives there."""
    from megatron.core.models.common.embeddings import rotary_pos_embedding, yarn_rotary_pos_embedding

    with contextlib.ExitStack() as stack:
        for module in (rotary_pos_embedding, yarn_rotary_pos_embedding):
            if hasattr(module, "get_pos_emb_on_this_cp_rank"):
                stack.enter_context(patch.object(module, "get_pos_emb_on_this_cp_rank", _first))
        yield


@contextlib.contextmanager
def _without_scales() -> Iterator[None]:
    """The scales of fp8 and fp4 weights, which are made on the GPU whatever the default device."""
    from importlib import import_module

    with contextlib.ExitStack() as stack:
        for name in ("transformer.transformer_block", "models.hybrid.hybrid_block", "ssm.mamba_block"):
            with contextlib.suppress(ImportError):
                module = import_module(f"megatron.core.{name}")
                for context in ("get_fp8_context", "get_fp4_context"):
                    if hasattr(module, context):
                        stack.enter_context(patch.object(module, context, _nothing))
        yield


@contextlib.contextmanager
def _without_random_state() -> Iterator[None]:
    """Random states of GPUs that are not there, and the kernel that adds to gradients in place."""
    from megatron.core.extensions.transformer_engine import TECudaRNGStatesTracker
    from megatron.core.tensor_parallel import layers, random

    with contextlib.ExitStack() as stack:
        for tracker in (random.CudaRNGStatesTracker, *TECudaRNGStatesTracker.__mro__[:2]):
            if hasattr(tracker, "fork"):
                stack.enter_context(patch.object(tracker, "fork", _nothing))
        stack.enter_context(patch.object(layers, "_grad_accum_fusion_available", True))
        yield
