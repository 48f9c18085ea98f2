"""NVIDIA's shipped recipes fit where they are said to run; what does not is named, with the reason.

Performance recipes were run by NVIDIA on the GPUs that their names give. Library recipes give the least world that the
degrees multiply to, which nobody claims to hold the optimizer's state: most of those that do not fit there fit with more
replicas. The rest cannot fit anywhere: one copy's activations alone are too much.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from constraints.memory.budget import MemoryReport, memory_report
from tests.acceptance.shipped import STAND_INS, Recipe, shipped_recipes

REPLICAS = 64

MANY_CHUNKS = "143 chunk-layers of 1.07 GB are in flight on rank 0 (pp=16 vpp=8 cp=1); published B200 runs take cp=2"
LARGE_VOCABULARY = (
    "8 sequences of 4096 tokens over 248320 logits, twice with MTP: with Transformer Engine before 2.20, which keeps no fp32 "
    "copy, it is 45 GiB less"
)
PERFORMANCE_EXCEPTIONS = {
    "llama31_405b_pretrain_128gpu_b200_bf16_config": MANY_CHUNKS,
    "qwen35_vl_35b_a3b_pretrain_8gpu_b300_bf16_config": LARGE_VOCABULARY,
}

LONG_SEQUENCE = "tens of thousands of tokens a rank without recompute"
WIDE_LOGITS = "micro-batch 2 or 4 of a large vocabulary on tp=1, without recompute"
WHOLE_MODEL = "the weights and activations of one copy are more than the GPUs have"
NEVER = {
    "gemma3_1b_pretrain_1gpu_h100_bf16_config": LONG_SEQUENCE,
    "gpt_oss_20b_sft_8gpu_h100_bf16_32k_config": LONG_SEQUENCE,
    "llama31_405b_pretrain_256gpu_h100_bf16_config": LONG_SEQUENCE,
    "llama31_405b_pretrain_256gpu_h100_bf16_deterministic_config": LONG_SEQUENCE,
    "llama31_70b_pretrain_32gpu_h100_bf16_config": LONG_SEQUENCE,
    "nemotron_3_nano_4b_sft_8gpu_h100_bf16_32k_config": LONG_SEQUENCE,
    "nemotron_3_super_sft_16gpu_h100_bf16_32k_config": LONG_SEQUENCE,
    "nemotronh_56b_peft_4gpu_h100_bf16_config": LONG_SEQUENCE,
    "gemma3_vl_12b_peft_1gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_2b_peft_1gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_2b_sft_1gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_4b_peft_1gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_9b_peft_1gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_27b_peft_2gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen35_vl_27b_sft_16gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen3_vl_235b_a22b_peft_16gpu_h100_bf16_config": WIDE_LOGITS,
    "qwen3_vl_235b_a22b_sft_32gpu_h100_bf16_config": WIDE_LOGITS,
    "gpt_oss_20b_peft_1gpu_h100_fp8cs_config": WHOLE_MODEL,
    "nemotron_3_super_peft_1gpu_h100_bf16_config": WHOLE_MODEL,
    "nemotron_3_ultra_pretrain_24gpu_h100_bf16_config": WHOLE_MODEL,
    "step37_sft_4gpu_h100_bf16_flickr8k_smoke_config": WHOLE_MODEL,
}
"""Library recipes that fit on no number of GPUs."""

Estimates = list[tuple[Recipe, MemoryReport]]


def _estimate(recipe: Recipe, replicas: int = 1) -> MemoryReport | None:
    """The recipe's memory with ``replicas`` times its data parallelism.

    Every Bridge recipe takes its optimizer from ``distributed_fused_adam_with_cosine_annealing``, which is distributed, and
    ``ConfigContainer.validate`` then makes DDP so too.
    """
    problem, layout = recipe.problem, recipe.reading().layout
    settings = replace(layout.settings, use_distributed_optimizer=True)
    grown = {"dp": layout.dp * replicas, "edp": layout.edp * replicas, "gpus": layout.gpus * replicas}
    batch = layout.global_batch_size * replicas
    layout = replace(layout, settings=settings, global_batch_size=batch, **grown)
    return memory_report(replace(problem, settings=settings, gpus=layout.gpus), layout)


@pytest.fixture(scope="module")
def estimates() -> Estimates:
    """Every recipe that has a possible shape, a model and a GPU in the catalog, and placed layers."""
    made = []
    for recipe in shipped_recipes():
        if recipe.model is None or recipe.shape_check or recipe.gpu.lower() in STAND_INS:
            continue
        report = _estimate(recipe)
        if report is not None:
            made.append((recipe, report))
    return made


def _too_large(estimates: Estimates, kind: str) -> set[str]:
    return {r.recipe for r, report in estimates if r.row["kind"] == kind and report.verdict == "does not fit"}


def test_performance_recipes_fit(estimates: Estimates, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter((recipe.row["kind"], report.verdict) for recipe, report in estimates)
    with capsys.disabled():
        print(
            "\nmemory of recipes:", ", ".join(f"{kind} {verdict} {n}" for (kind, verdict), n in sorted(counts.items()))
        )
    assert _too_large(estimates, "perf") == set(PERFORMANCE_EXCEPTIONS)


def test_library_recipes_fit_with_replicas(estimates: Estimates) -> None:
    too_large = _too_large(estimates, "library")
    never = {
        recipe.recipe
        for recipe, _ in estimates
        if recipe.recipe in too_large and _verdict(_estimate(recipe, REPLICAS)) == "does not fit"
    }
    assert never == set(NEVER)


def _verdict(report: MemoryReport | None) -> str:
    assert report is not None
    return report.verdict
