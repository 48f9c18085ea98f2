"""Small problems and layouts for rule tests: a legal default of each, changed by keywords."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from constraints.layout import Layout, Recompute, Settings
from constraints.problem import GIB, Problem
from constraints.rule import Rule
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["FULL", "gpu", "hybrid", "judge", "layout", "mla", "model", "moe", "problem", "said", "selective", "verdict"]

SETTINGS = frozenset(f.name for f in fields(Settings))
ASKED = frozenset(f.name for f in fields(Problem)) - {"model", "gpus", "global_batch_size", "settings"}
FULL = Recompute("full", "uniform", 1)


def _with(changes: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return defaults | changes


def selective(*modules: str) -> Recompute:
    return Recompute("selective", modules=modules)


def model(**changes: Any) -> ModelSpec:
    """A dense model shaped like an 8B: 32 layers of 4096, 32 heads, 8 query groups."""
    return ModelSpec(
        **_with(
            changes,
            name="dense",
            num_layers=32,
            hidden_size=4096,
            num_attention_heads=32,
            num_query_groups=8,
            ffn_hidden_size=14336,
            vocab_size=128256,
            gated_linear_unit=True,
        )
    )


def moe(**changes: Any) -> ModelSpec:
    """A model with 128 experts of width 768 in each of its 48 layers."""
    return model(
        **_with(
            changes,
            name="moe",
            num_layers=48,
            hidden_size=2048,
            num_query_groups=4,
            kv_channels=128,
            ffn_hidden_size=6144,
            num_moe_experts=128,
            moe_router_topk=8,
            moe_ffn_hidden_size=768,
        )
    )


def mla(**changes: Any) -> ModelSpec:
    """A dense model with multi-latent attention, 128 heads."""
    return model(
        **_with(
            changes,
            name="mla",
            multi_latent_attention=True,
            num_attention_heads=128,
            num_query_groups=None,
            q_lora_rank=1536,
            kv_lora_rank=512,
            qk_head_dim=128,
            qk_pos_emb_head_dim=64,
            v_head_dim=128,
        )
    )


def hybrid(pattern: str = "M-M*M-M*", **changes: Any) -> ModelSpec:
    """A hybrid model of the given pattern, 128 Mamba heads in 8 groups."""
    return model(
        **_with(
            changes,
            name="hybrid",
            num_layers=len(pattern.split("/")[0].replace("|", "")),
            hybrid_override_pattern=pattern,
            mamba_num_heads=128,
            mamba_head_dim=64,
            mamba_state_dim=128,
            mamba_num_groups=8,
        )
    )


def gpu(**changes: Any) -> GpuSpec:
    """An H100 in a node of eight."""
    return GpuSpec(
        **_with(
            changes,
            name="h100",
            label_gib=80.0,
            usable_gib=79.1,
            gpus_per_node=8,
            nvlink_domain=8,
            nvlink_bytes_per_second=450_000_000_000,
            network_bytes_per_second=50_000_000_000,
            hbm_bytes_per_second=3_350_000_000_000,
            bf16_flops=989_000_000_000_000,
            fp8_flops=1_979_000_000_000_000,
            collective_latency_ns=10_000,
            network_latency_ns=20_000,
            collective_efficiency=((2, 0.8), (8, 0.9)),
            network_efficiency=0.8,
            architecture="hopper",
        )
    )


def problem(spec: ModelSpec | None = None, **changes: Any) -> Problem:
    """A problem about ``spec`` on 64 H100; names of switches go into its settings."""
    switches = {name: changes.pop(name) for name in list(changes) if name in SETTINGS}
    return Problem(
        **_with(
            changes,
            model=spec or model(),
            gpu=gpu(),
            gpus=64,
            gpus_per_node=8,
            nvlink_domain=8,
            budget_bytes=79 * GIB,
            seq_length=8192,
            settings=Settings(**switches),
        )
    )


def layout(**changes: Any) -> Layout:
    """A layout of the given degrees on 64 GPUs; dp and edp follow unless given, switches go into its settings."""
    switches = {name: changes.pop(name) for name in list(changes) if name in SETTINGS}
    gpus = changes.setdefault("gpus", 64)
    size = {name: changes.get(name, 1) for name in ("tp", "pp", "cp", "ep", "etp")}
    changes.setdefault("dp", gpus // (size["tp"] * size["pp"] * size["cp"]))
    changes.setdefault("edp", gpus // (size["etp"] * size["ep"] * size["pp"]))
    return Layout(settings=Settings(**switches), **changes)


def verdict(rule: Rule, asked: Problem, answer: Layout) -> str | None:
    """``None`` if the rule holds, else its sentence; a sentence comes exactly when the rule is broken."""
    fact = rule.why(asked, answer)
    assert (fact is None) == rule.holds(asked, answer)
    return None if fact is None else fact.text


def said(spec: ModelSpec | None, **words: Any) -> tuple[Problem, Layout]:
    """A request and a layout in one breath: each word goes where it belongs, switches and ``gpus`` into both.

    ``global_batch_size`` is the layout's, ``asked_batch`` the request's.
    """
    asked = {name: value for name, value in words.items() if name in ASKED | SETTINGS | {"gpus"}}
    if "asked_batch" in words:
        asked["global_batch_size"] = words.pop("asked_batch")
    answered = {name: value for name, value in words.items() if name not in ASKED}
    return problem(spec, **asked), layout(**answered)


def judge(rule: Rule, spec: ModelSpec | None, **words: Any) -> str | None:
    """The verdict on a layout and a request that are said in one breath."""
    return verdict(rule, *said(spec, **words))
