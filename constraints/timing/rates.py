"""How fast this GPU is with this precision and software: picoseconds per unit of work, from data sheet and calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from constraints.layout import Settings
from constraints.problem import Problem
from constraints.timing.accumulation import Added, added_bytes
from constraints.timing.calibration import NEWEST_STACK, Calibration, shipped
from models_catalog.schema import GpuSpec

__all__ = ["Rates", "kind_of", "rates_of", "whole"]

PS_PER_S = 10**12
PS_PER_MS = 10**9
PS_PER_US = 10**6


def whole(value: Any) -> Any:
    """Rounded up to an integer: what a formula may hold. A fit's arrays of trial values pass as they are."""
    return math.ceil(value) if isinstance(value, int | float) else value


@dataclass(frozen=True)
class Rates:
    """Rates of one problem. ``*_ps`` are picoseconds per FLOP or byte; ``host_*`` picoseconds per layer and micro-batch."""

    gemm_ps: Any
    logits_ps: Any
    attention_ps: Any
    attention_backward: Any
    ring_slowness: Any
    hbm_ps: Any
    accumulation_ps: Any
    small_k: Any
    small_m: Any
    cast_bytes: Any
    transposed_bytes: Any
    row_passes: Any
    row_elements: Any
    row_kernels_ps: Any
    expert_casts_ps: Any
    host_attention_ps: Any
    host_dense_ps: Any
    host_moe_ps: Any
    host_mamba_ps: Any
    exposed_tp: Any
    exposed_cp: Any
    exposed_ep: Any
    exposed_ep_network: Any
    exposed_pp: Any
    exposed_dp: Any
    exposed_fsdp: Any
    scan_mamba: Any
    scan_gdn: Any
    fixed_ps: Any


def rates_of(p: Problem) -> Rates:
    """The rates that hold for ``p``: its GPU, precision, software generation, graphs and dispatcher."""
    sinks = p.model.softmax_type != "vanilla" or bool(p.model.window_size)
    narrow = not p.model.multi_latent_attention and p.model.head_dim <= 64
    return _rates(
        p.gpu, p.precision, p.stack, _graphs(p.settings, p.stack), _path(p.settings), sinks, narrow, p.seq_length,
        added_bytes(p), p.calibration or shipped(),
    )  # fmt: skip


def _graphs(s: Settings, stack: str) -> str:
    """``full``, ``partial`` or ``none``: how much of a MoE layer's launches a CUDA graph takes over.

    A full-iteration graph needs the sync-free dispatch of the newest stack; before it the label brought no gain.
    """
    full = s.cuda_graph_impl == "full_iteration" or "full_iteration" in s.cuda_graph_modules
    if full:
        return "full" if stack == NEWEST_STACK else "partial"
    return "partial" if s.cuda_graph_impl not in ("none", "") else "none"


def _path(s: Settings) -> tuple[bool, bool]:
    """Plain all-to-all, EP overlap asked for. Padding to a capacity is no path of its own: runs with it were no faster."""
    return s.moe_token_dispatcher_type != "flex", s.overlap_moe_expert_parallel_comm


_FAMILIES = {"ada": "ampere", "cdna3": "hopper", "cdna4": "blackwell"}
"""Architectures without constants of their own, by the family whose efficiencies are taken (an assumption, not a fit)."""

_KINDS = {"bf16": "bf16", "fp16": "bf16", "nvfp4": "fp4", "fp8_cs": "fp8", "fp8_ds": "fp8"}
_SYNCS = {"none": "rows.sync_ms", "partial": "rows.sync_partial_ms"}
_CASTS = {"fp4": "cast.fp4", "fp8": "cast.tensor", "fp8_block": "cast.block"}


TRANSPOSED_BYTES = 2
"""Read and written to turn an element of a gathered fp8 tensor: before Blackwell its products take one order only."""


def kind_of(gpu: GpuSpec, precision: str) -> str:
    """What GEMMs of ``precision`` run in on ``gpu``: ``bf16``, ``fp8`` (a scale a tensor), ``fp8_block`` or ``fp4``."""
    kind = _KINDS.get(precision, "fp8_block")
    return "bf16" if kind == "fp8_block" and not gpu.fp8_flops else kind


@lru_cache(maxsize=512)
def _rates(
    gpu: GpuSpec,
    precision: str,
    stack: str,
    graphs: str,
    path: tuple[bool, bool],
    sinks: bool,
    narrow: bool,
    seq_length: int,
    added: Added,
    c: Calibration,
) -> Rates:
    family = _FAMILIES.get(gpu.architecture, gpu.architecture)
    kind = kind_of(gpu, precision)
    fp8_peak = gpu.fp8_flops or gpu.bf16_flops
    peak = {"bf16": gpu.bf16_flops, "fp4": min(gpu.fp4_flops or fp8_peak, 2 * fp8_peak)}.get(kind, fp8_peak)
    speed = c.of(f"gpu.{gpu.name}")
    older = c["older_stack"] if stack < "25.09" else 1.0
    gemm = c.of(
        f"gemm.{family}.{kind}", f"gemm.{family}.fp8", f"gemm.{family}.bf16", f"gemm.hopper.{kind}", default=0.6
    )
    bf16 = c.of(f"gemm.{family}.bf16", "gemm.hopper.bf16")
    attention = c.of(f"attention.{family}", "attention.hopper")
    if sinks:
        attention = attention * c["attention.sinks"]
    if narrow:
        attention = attention * c["attention.narrow"]
    short = 1 + c["attention.short_sequence"] / seq_length
    plain, overlapped = path
    full = graphs == "full"
    passes = c["rows.sync_free"] if full else c[f"rows.{stack}"]
    host = c["host.graphed"] if full else 1.0
    moe_host = c["host.moe_partial_ms"] if graphs == "partial" else c["host.moe_ms"]
    hidden = c["exposed.ep_overlap"] if overlapped else 1.0
    hbm_ps = PS_PER_S * older / (gpu.hbm_bytes_per_second * c["hbm"])
    return Rates(
        gemm_ps=PS_PER_S * older / (peak * gemm * speed),
        logits_ps=PS_PER_S * older / (gpu.bf16_flops * bf16 * speed),
        attention_ps=PS_PER_S * older * short / (gpu.bf16_flops * attention * speed),
        attention_backward=c["attention.backward"],
        ring_slowness=(c["attention.ring_part"], short),
        hbm_ps=hbm_ps,
        accumulation_ps=hbm_ps * (added.beside * c["exposed.accumulation"] + added.apart),
        small_k=c["small_k"],
        small_m=c["small_m"],
        cast_bytes=c[_CASTS[kind]] if kind in _CASTS else 0.0,
        transposed_bytes=TRANSPOSED_BYTES if kind == "fp8" and family != "blackwell" else 0,
        row_passes=20 * passes * (c["rows.alltoall"] if plain else 1.0),
        row_elements=c["rows.elements"],
        expert_casts_ps=PS_PER_US * c["rows.expert_casts_us"] if kind in _CASTS else 0.0,
        row_kernels_ps=PS_PER_MS * (c["rows.kernels_ms"] + (0.0 if full else c[_SYNCS[graphs]])),
        host_attention_ps=PS_PER_MS * c["host.attention_ms"] * host,
        host_dense_ps=PS_PER_MS * c["host.dense_ms"] * host,
        host_moe_ps=PS_PER_MS * moe_host * host,
        host_mamba_ps=PS_PER_MS * c["host.mamba_ms"] * host,
        exposed_tp=c["exposed.tp"],
        exposed_cp=c["exposed.cp"],
        exposed_ep=c["exposed.ep"] * hidden,
        exposed_ep_network=c["exposed.ep_network"] * hidden,
        exposed_pp=c["exposed.pp"],
        exposed_dp=c["exposed.dp"],
        exposed_fsdp=c["exposed.fsdp"],
        scan_mamba=c["scan.mamba"],
        scan_gdn=c["scan.gdn"] * c.of(f"scan.gdn.{family}"),
        fixed_ps=PS_PER_MS * c["fixed_ms"],
    )
