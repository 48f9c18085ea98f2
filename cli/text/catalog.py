"""The catalog as tables: a line for each entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cli.catalog_filter import has_delta_net
from cli.text.table import Column, table

__all__ = ["gpu_table", "model_table", "parameters"]

MODEL_COLUMNS = (
    Column("name"),
    Column("family", optional=True),
    Column("total", right=True),
    Column("active", right=True),
    Column("attention"),
    Column("experts"),
    Column("layers", right=True, optional=True),
    Column("hidden", right=True, optional=True),
    Column("context", right=True, optional=True),
    Column("Hugging Face", optional=True),
)
GPU_COLUMNS = (
    Column("name"),
    Column("GiB", right=True),
    Column("node", right=True),
    Column("domain", right=True),
    Column("link GB/s", right=True),
    Column("network", right=True),
    Column("bf16", right=True),
    Column("fp8", right=True),
    Column("fp4", right=True),
    Column("HBM GB/s", right=True, optional=True),
    Column("PCIe", right=True, optional=True),
    Column("architecture", optional=True),
    Column("aliases", optional=True),
)
GPU_LEGEND = "GiB usable by a process; rates per GPU in one direction, GB/s; dense peaks, TFLOP/s"


def parameters(count: int) -> str:
    """A parameter count to three digits.

    >>> parameters(70_553_706_496), parameters(1_026_400_000_000), parameters(494_032_768)
    ('70.6B', '1.03T', '494M')
    """
    for unit, letter in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count >= 0.9995 * unit:
            value = count / unit
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{letter}"
    return str(count)


def model_table(entries: Iterable[Mapping[str, Any]], width: int | None = None) -> str:
    """A line for each entry, given as its YAML says it."""
    return table(MODEL_COLUMNS, [_model_row(entry) for entry in entries], width)


def gpu_table(entries: Iterable[Mapping[str, Any]], width: int | None = None) -> str:
    """A line for each machine, and what the columns count."""
    return table(GPU_COLUMNS, [_gpu_row(entry) for entry in entries], width) + f"\n{GPU_LEGEND}\n"


def _model_row(entry: Mapping[str, Any]) -> list[str]:
    total, active = entry.get("total_parameters"), entry.get("active_parameters")
    experts = entry.get("num_moe_experts")
    context = entry.get("max_position_embeddings")
    return [
        entry["name"],
        entry.get("family") or "",
        parameters(total) if total else "-",
        parameters(active) if active else "-",
        _attention(entry),
        f"{experts} top {entry.get('moe_router_topk', 2)}" if experts else "dense",
        str(entry.get("num_layers") or len(entry["hybrid_override_pattern"].split("/")[0].replace("|", ""))),
        str(entry["hidden_size"]),
        f"{context:,}" if context else "",
        entry.get("hf_id") or "",
    ]


def _attention(entry: Mapping[str, Any]) -> str:
    heads = entry["num_attention_heads"]
    groups = entry.get("num_query_groups") or heads
    if entry.get("multi_latent_attention"):
        text = f"MLA {heads}"
    else:
        text = f"MHA {heads}" if groups == heads else f"GQA {heads}/{groups}"
    if entry.get("hybrid_override_pattern"):
        mixers = {"M": "Mamba", "G": "GDN"}
        linear = [word for symbol, word in mixers.items() if symbol in entry["hybrid_override_pattern"]]
        return "+".join([*linear, text])
    return f"GDN+{text}" if has_delta_net(entry) else text


def _gpu_row(entry: Mapping[str, Any]) -> list[str]:
    def scaled(name: str, unit: float) -> str:
        return f"{entry[name] / unit:g}" if entry.get(name) else "-"

    return [
        entry["name"],
        f"{entry['usable_gib']:g}",
        str(entry["gpus_per_node"]),
        str(entry["nvlink_domain"]),
        scaled("nvlink_bytes_per_second", 1e9),
        scaled("network_bytes_per_second", 1e9),
        scaled("bf16_flops", 1e12),
        scaled("fp8_flops", 1e12),
        scaled("fp4_flops", 1e12),
        scaled("hbm_bytes_per_second", 1e9),
        scaled("pcie_bytes_per_second", 1e9),
        entry["architecture"],
        ", ".join(entry.get("aliases", ())),
    ]
