"""Loosely written models, GPUs and precisions are found, and only those that are meant."""

from __future__ import annotations

import pytest

from benchmarks.row_names import gpu_named, model_named, precision_named, shortened
from benchmarks.rows import Skipped
from models_catalog.loader import load_model


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("LLAMA3.1_405B", "llama-3.1-405b"),
        ("llama31_405b", "llama-3.1-405b"),
        ("Qwen3-8B LoRA", "qwen3-8b"),
        ("DeepSeek-V4-Flash full SFT", "deepseek-v4-flash"),
        ("gemma-4-26b-a4b-it PEFT", "gemma-4-26b-a4b"),
        ("Qwen3.5-35B-A3B (text)", "qwen3.5-35b-a3b"),
        ("qwen35_vl_35b_a3b", "qwen3.5-35b-a3b"),
        ("Qwen3-VL-235B", "qwen3-vl-235b-a22b"),
        ("Qwen3 Next 80B", "qwen3-next-80b-a3b"),
        ("qwen3_1p7b", "qwen3-1.7b"),
        ("GLM-5.2 / GLM-5 (DSA)", "glm-5.2"),
        ("mixtral_8x7b_tp1pp4ep8vpp8_release", "mixtral-8x7b"),
        ("gpt3_15b_8t_release_sm_gb200", "nemotron-4-15b"),
    ],
)
def test_a_loose_name_is_the_entry_that_is_meant(name: str, entry: str) -> None:
    assert model_named(name).name == entry


@pytest.mark.parametrize(
    "name",
    ["", "-", "70b", "llama", "Qwen3-VL-Embedding-8B", "GPT2-large 774M", "checkpoint-xxx", "deepseekv3_proxy_release"],
)
def test_a_name_that_could_mean_many_or_none_means_none(name: str) -> None:
    with pytest.raises(Skipped, match="model not in the catalog"):
        model_named(name)


def test_a_cut_model_has_its_first_layers() -> None:
    assert model_named("llama3-70b (first 12 layers)").num_layers == 12
    cut = model_named("deepseekv3 (first 4 layers, 1 dense)")
    assert (cut.moe_layer_freq, cut.mtp_num_layers) == ((0, 1, 1, 1), None)
    hybrid = shortened(load_model("nemotron-3-nano-30b-a3b"), 6)
    assert len(hybrid.layer_kinds) == hybrid.num_layers == 6
    with pytest.raises(Skipped, match="more layers"):
        shortened(load_model("nemotron-3-nano-30b-a3b"), 600)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("H100", "h100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("A100", "a100-80gb"),
        ("A100-SXM4-40GB", "a100-40gb"),
        ("GB200-186GB", "gb200-nvl72"),
        ("GB300 NVL72", "gb300-nvl72"),
        ("B200-180GB", "b200"),
        ("dgxh100_dgxc", "h100"),
        ("dgx_gb200_2nd", "gb200-nvl72"),
        ("MI300X", "mi300x"),
    ],
)
def test_a_gpu_is_found_by_its_chip_form_and_memory(name: str, entry: str) -> None:
    assert gpu_named(name).name == entry


@pytest.mark.parametrize("name", ["", "?", "H800", "V100-32GB", "(2 ranks shown)", "AB200"])
def test_an_unknown_gpu_is_named_in_the_reason(name: str) -> None:
    with pytest.raises(Skipped, match="not in the catalog"):
        gpu_named(name)


@pytest.mark.parametrize(
    ("value", "precision"),
    [
        ("", "bf16"),
        ("BF16", "bf16"),
        ("fp16", "fp16"),
        ("bf16+fp8:tensorwise", "fp8_cs"),
        ("bf16+fp8:blockwise", "fp8_sc"),
        ("bf16+fp8:mxfp8", "fp8_mx"),
        ("FP8-MX", "fp8_mx"),
        ("FP8 hybrid", "fp8_ds"),
        ("fp8_ds", "fp8_ds"),
        ("FP8", "fp8_cs"),
        ("NVFP4", "nvfp4"),
    ],
)
def test_a_precision_in_any_words(value: str, precision: str) -> None:
    assert precision_named(value) == precision


def test_an_unknown_precision_is_named_in_the_reason() -> None:
    with pytest.raises(Skipped, match="precision int8"):
        precision_named("int8")
