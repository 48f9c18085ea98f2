"""Random small problems: dense and MoE, odd and prime GPU counts, tight and roomy memory, given and free batches."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from constraints.layout import Settings
from constraints.pins import Pin
from constraints.problem import GIB, Origin, Problem
from models_catalog.schema import GpuSpec, ModelSpec


def gpu(**changes: Any) -> GpuSpec:
    """A GPU with round numbers."""
    values: dict[str, Any] = {
        "name": "test-gpu",
        "label_gib": 80.0,
        "usable_gib": 79.0,
        "gpus_per_node": 8,
        "nvlink_domain": 8,
        "nvlink_bytes_per_second": 450 * 10**9,
        "network_bytes_per_second": 50 * 10**9,
        "hbm_bytes_per_second": 3350 * 10**9,
        "bf16_flops": 989 * 10**12,
        "fp8_flops": 1979 * 10**12,
        "collective_latency_ns": 13_000,
        "network_latency_ns": 20_000,
        "collective_efficiency": ((2, 0.57), (4, 0.7), (8, 0.75)),
        "network_efficiency": 0.85,
        "architecture": "hopper",
    }
    return GpuSpec(**(values | changes))


@st.composite
def models(draw: st.DrawFn) -> ModelSpec:
    """A model small enough to enumerate, of every shape that the rules tell apart."""
    heads = draw(st.sampled_from([2, 4, 6, 8, 12]))
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 6, 8, 12) if heads % g == 0]))
    layers = draw(st.integers(1, 9))
    values: dict[str, Any] = {
        "name": "tiny",
        "num_layers": layers,
        "hidden_size": heads * draw(st.sampled_from([128, 256])),
        "num_attention_heads": heads,
        "num_query_groups": groups,
        "ffn_hidden_size": draw(st.sampled_from([1536, 3000, 4096, 6144])),
        "vocab_size": draw(st.sampled_from([500, 1000, 8000])),
        "gated_linear_unit": draw(st.booleans()),
        "share_embeddings_and_output_weights": draw(st.booleans()),
        "max_position_embeddings": 131072,
        "normalization": draw(st.sampled_from(["RMSNorm", "LayerNorm"])),
    }
    if draw(st.booleans()):
        experts = draw(st.sampled_from([4, 6, 8, 16]))
        values |= {
            "num_moe_experts": experts,
            "moe_router_topk": draw(st.sampled_from([2, 4])),
            "moe_ffn_hidden_size": draw(st.sampled_from([384, 768, 1024])),
            "moe_layer_freq": draw(st.sampled_from([1, 2, (0, *([1] * (layers - 1)))])),
            "moe_shared_expert_intermediate_size": draw(st.sampled_from([None, 512])),
        }
        if draw(st.booleans()):
            values |= {
                "multi_latent_attention": True,
                "q_lora_rank": draw(st.sampled_from([None, 96])),
                "kv_lora_rank": 64,
                "qk_head_dim": 32,
                "qk_pos_emb_head_dim": 16,
                "v_head_dim": 32,
            }
    if draw(st.integers(0, 3)) == 0:
        values["mtp_num_layers"] = 1
    return ModelSpec(**values)


@st.composite
def problems(draw: st.DrawFn, *, most_gpus: int = 24) -> Problem:
    """A problem small enough to enumerate."""
    model = draw(models())
    gpus = draw(
        st.one_of(st.integers(1, most_gpus), st.sampled_from([n for n in (7, 8, 12, 16, 18, 20, 24) if n <= most_gpus]))
    )
    domain = draw(st.sampled_from([2, 4, 6, 8, 8, 72]))
    seq_length = draw(st.sampled_from([1000, 4096, 6144, 8192, 24576]))
    settings: dict[str, Any] = {}
    if draw(st.integers(0, 4)) == 0:
        settings["cp_comm_type"] = draw(st.sampled_from(["a2a", "all_gather"]))
    if draw(st.integers(0, 4)) == 0:
        settings["microbatch_group_size_per_vp_stage"] = draw(st.sampled_from([2, 3, 4, 6, 8]))
    return Problem(
        model=model,
        gpu=gpu(),
        gpus=gpus,
        gpus_per_node=min(domain, 8),
        nvlink_domain=domain,
        budget_bytes=draw(st.integers(25, 90)) * GIB // 10 + (GIB if model.is_moe else 0),
        seq_length=seq_length,
        **draw(batches()),
        precision=draw(st.sampled_from(["bf16", "bf16", "bf16", "fp8_cs"])),
        objective=draw(st.sampled_from(["step-time", "step-time", "communication", "data-parallel", "memory"])),
        settings=Settings(**settings),
        pins=draw(pins()),
    )


@st.composite
def batches(draw: st.DrawFn) -> dict[str, int | None]:
    """Free, fixed, or free within a tolerance of the one that is given."""
    batch = draw(st.one_of(st.none(), st.sampled_from([7, 16, 24, 48, 60, 96, 128])))
    tolerance = draw(st.sampled_from([0, 0, 0, 200, 500, 1250, 10_000])) if batch is not None else 0
    if not tolerance:
        return {"global_batch_size": batch}
    return {"target_batch": batch, "batch_tolerance": tolerance}


@st.composite
def pins(draw: st.DrawFn) -> tuple[Pin, ...]:
    """Mostly nothing; else one or two decisions fixed, interleaving among them."""
    if draw(st.integers(0, 2)):
        return ()
    chosen = draw(st.sampled_from([("tp", 2), ("pp", 2), ("pp", 4), ("cp", 2), ("ep", 2), ("vpp", 2), ("vpp", 3)]))
    words = [chosen] if chosen[0] != "vpp" else [("pp", draw(st.sampled_from([2, 3, 4]))), chosen]
    return tuple(Pin(name, name, value, Origin("flag", f"--pin {name}={value}")) for name, value in words)
