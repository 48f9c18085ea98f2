"""What people report: each layout of a public thread is judged by the right rule, with the numbers that they asked for.

The first eight are the errors that NVIDIA/Megatron-LM#5768 lists as the commonest; two of them cannot be made here, and
the tests say why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from constraints.errors import RequestError
from constraints.spelling import spelling_of
from tests.acceptance.judging import broken, judge, sentence


@dataclass(frozen=True)
class Report:
    """A layout from a thread, the rules it breaks, and words that the sentence of the first one must hold."""

    thread: str
    model: str
    gpus: int
    words: str
    rules: tuple[str, ...]
    said: tuple[str, ...]
    fields: dict[str, Any] = field(default_factory=dict)
    seq_length: int | None = None


REPORTS = (
    # the commonest errors
    Report(
        "NVIDIA-NeMo/Speech#11480: world_size (1) is not divisible by 2",
        "llama-3-8b",
        1,
        "tp=2 sp=true",
        ("mesh.world-dense",),
        ("tp*pp*cp = 2*1*1 = 2", "more than the 1 GPU there is"),
    ),
    Report(
        "NVIDIA/Megatron-LM#5768: interleaved schedule wants pipeline-model-parallel size greater than 1",
        "llama-3.1-8b",
        8,
        "vpp=2",
        ("pipeline.vpp-needs-pp",),
        ("vpp=2 with pp=1", "virtual_pipeline_model_parallel_size=null"),
    ),
    Report(
        "dylanyunlon/Neuron_SP#4: 32 heads on 5 GPUs",
        "llama-3.1-8b",
        5,
        "tp=5 sp=true",
        ("attention.heads-tp", "attention.groups-tp", "attention.qkv-tp", "feedforward.ffn-tp"),
        ("32 attention heads", "tp=5", "32 mod 5 = 2"),
        seq_length=4000,
    ),
    Report(
        "NVIDIA/Megatron-LM#5768: num_moe_experts must be non None to use expert-parallel",
        "llama-3.1-8b",
        8,
        "ep=2",
        ("experts.ep-needs-moe",),
        ("ep=2", "llama-3.1-8b has no experts"),
    ),
    Report(
        "THUDM/slime#1818: world_size (8) is not divisible by expert_tensor_model_pipeline_parallel size (16)",
        "qwen3-30b-a3b",
        8,
        "tp=2 pp=2 ep=8 etp=1 sp=true",
        ("mesh.world-expert",),
        ("etp*ep*pp = 1*8*2 = 16", "more than the 8 GPUs", "smallest world", "= 16"),
    ),
    # layers over stages
    Report(
        "NVIDIA/Megatron-LM#381: 7 layers on 2 stages",
        "llama-3.1-8b",
        2,
        "pp=2",
        ("pipeline.pp-even",),
        ("7 layers", "pp=2", "7 mod 2 = 1", "account_for_loss", "8 mod 2 = 0"),
        {"num_layers": 7},
    ),
    Report(
        "NVIDIA/Megatron-LM#1303: 40 layers on 16 stages, 32 are built",
        "llama-2-13b",
        16,
        "pp=16",
        ("pipeline.pp-even",),
        ("40 layers", "pp=16", "40 mod 16 = 8"),
    ),
    Report(
        "NVIDIA/Megatron-LM#1304: 30 layers on 4 stages, 28 are built",
        "llama-3.1-8b",
        4,
        "pp=4",
        ("pipeline.pp-even",),
        ("30 layers", "pp=4", "30 mod 4 = 2", "account_for_embedding", "32 mod 4 = 0"),
        {"num_layers": 30},
    ),
    Report(
        "NVIDIA/Megatron-LM#468: 80 layers on 16 stages of 2 chunks, 64 are trained",
        "llama-3.1-70b",
        16,
        "pp=16 vpp=2 gbs=16",
        ("pipeline.pp-even",),
        ("80 layers", "pp=16 * vpp=2", "80 mod 32 = 16", "pipeline_model_parallel_layout"),
    ),
    Report(
        "modelscope/ms-swift#5737: GLM-4.5-Air, 46 layers on 4 stages, two nodes: the layers are not all that is wrong",
        "glm-4.5-air",
        16,
        "tp=8 pp=4 ep=16 etp=1 sp=true",
        ("pipeline.pp-even", "mesh.world-dense", "mesh.world-expert"),
        ("46 layers", "pp=4", "46 mod 4 = 2"),
    ),
    Report(
        "NVIDIA-NeMo/Speech#14288: should range in [PP=6 , M=3]",
        "qwen3-30b-a3b",
        6,
        "pp=6 vpp=2 gbs=3",
        ("pipeline.vpp-microbatches",),
        ("at least 6 micro-batches", "there are 3", "raise the global batch", "lower dp, pp"),
    ),
    # more than one thing at once, and batches
    Report(
        "vllm-project/vllm#52435: EP3 fails on 256 experts, and TP3 would fail on the heads",
        "deepseek-v3",
        3,
        "tp=3 ep=3 sp=true",
        (
            "experts.experts-ep",
            "attention.heads-tp",
            "attention.groups-tp",
            "attention.qkv-tp",
            "experts.shared-tp",
            "feedforward.mtp-tp",
            "sequence.seq-tp",
        ),
        ("256 experts", "ep=3", "256 mod 3 = 1"),
    ),
    Report(
        "verl-project/verl#1793: the batch is divided by data-parallel ranks, not by GPUs",
        "llama-3.1-8b",
        32,
        "tp=2 pp=4 sp=true gbs=6 mbs=1",
        ("batch.gbs",),
        ("global batch 6", "dp 4", "6 mod 4 = 2"),
    ),
    # heads and query groups
    Report(
        "NVIDIA/Megatron-LM#5755: heads are no multiple of query groups, and nobody checks",
        "llama-3.1-8b",
        8,
        "tp=1",
        ("attention.heads-groups",),
        ("32 attention heads", "5 query groups", "32 mod 5 = 2"),
        {"num_query_groups": 5},
    ),
)


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.thread.split(":")[0])
def test_reported_layout_is_illegal_for_the_right_reason(report: Report) -> None:
    request = {"gpus": report.gpus} | ({"seq_length": report.seq_length} if report.seq_length else {})
    verdict = judge(report.model, report.words, fields=report.fields, **request)
    assert broken(verdict) - _implied(report) == set(report.rules)
    text = sentence(verdict, report.rules[0])
    assert all(word in text for word in report.said), text
    assert all(found.rule.source is not None for found in verdict.violations)


def _implied(report: Report) -> set[str]:
    """A dense model's expert mesh is its dense one: where tp and pp do not come out, it says so as well."""
    from models_catalog.loader import load_model

    dense = not load_model(report.model).is_moe and "mesh.world-dense" in report.rules
    return {"mesh.world-expert"} if dense else set()


def test_sequence_parallelism_without_tensor_parallelism_is_dropped_aloud() -> None:
    """Megatron-LM#5768, third: Megatron-Core raises, Megatron Bridge turns it off; the verdict is Bridge's, and says so."""
    verdict = judge("llama-3.1-8b", "tp=1 sp=true", gpus=8)
    assert verdict.legal and not verdict.layout.sequence_parallel
    assert any("sequence_parallel with tp=1" in text for text in verdict.warnings)


def test_two_common_errors_cannot_be_made_here() -> None:
    """Megatron-LM#5768, fourth and seventh: Bridge fills in pipeline_dtype; a precision is one word, not two flags."""
    assert spelling_of("pipeline_dtype") is None and spelling_of("model.pipeline_dtype") is None
    with pytest.raises(RequestError, match="precision"):
        judge("llama-3.1-8b", "tp=1", gpus=1, precision="bf16+fp16")


def test_what_the_reporters_needed_is_legal() -> None:
    """The same threads, with what would have helped."""
    assert judge("llama-3.1-8b", "pp=2 first=3 last=4", gpus=2, fields={"num_layers": 7}).legal
    assert judge("llama-3.1-8b", "pp=4 layout=Et*7|t*8|t*8|t*7L", gpus=4, fields={"num_layers": 30}).legal
    assert judge("llama-2-13b", "pp=8", gpus=16).legal
    assert judge("llama-3.1-70b", "pp=16 vpp=5 gbs=16", gpus=16).legal
    ends = "account_for_embedding=true account_for_loss=true"
    assert judge("glm-4.5-air", f"tp=2 pp=4 ep=8 etp=1 sp=true {ends}", gpus=32).legal
    assert judge("qwen3-30b-a3b", "pp=6 vpp=2 gbs=6", gpus=6).legal
    assert judge("qwen3-30b-a3b", "tp=2 pp=2 ep=4 etp=1 sp=true", gpus=8).legal


def test_the_product_that_a_reporter_could_not_find() -> None:
    """NVIDIA-NeMo/Speech#14838: tp1 pp2 vp24 ep2 etp1 is 4, as the reporter says; Megatron saw 8, which is ep 4."""
    words = "tp=1 pp=2 vpp=24 etp=1 mbs=1 gbs=512"
    assert judge("qwen3-30b-a3b", f"{words} ep=2", gpus=4).legal
    verdict = judge("qwen3-30b-a3b", f"{words} ep=4", gpus=4)
    assert broken(verdict) == {"mesh.world-expert"}
    assert "1*4*2 = 8 is more than the 4 GPUs" in sentence(verdict, "mesh.world-expert")


def test_rules_that_others_got_wrong() -> None:
    """Checks that shipped elsewhere refuse what runs, or let pass what does not."""
    # NVIDIA-NeMo/Megatron-Bridge#5302: TP*PP*EP == world refuses this
    assert judge("qwen3-30b-a3b", "tp=2 pp=2 ep=4 sp=true", gpus=8).legal
    # NVIDIA-NeMo/Megatron-Bridge#2530: max(TP, EP)*PP == GPUs lets this pass
    assert broken(judge("qwen3-30b-a3b", "tp=2 ep=4 etp=2 sp=true", gpus=4)) == {"mesh.world-expert"}
    # NVIDIA-NeMo/Megatron-Bridge#546: TP4 EP4 ETP1 on four GPUs
    assert judge("qwen3-30b-a3b", "tp=4 ep=4 etp=1 sp=true", gpus=4).legal
    # NVIDIA/Megatron-LM#1459: experts and context parallelism go together
    assert judge("qwen3-30b-a3b", "cp=2 ep=8", gpus=8).legal


def test_fewer_query_groups_than_tensor_ranks() -> None:
    """modelscope/ms-swift#8219: 2 query groups with tp=8 run, replicated, also where attention has an output gate."""
    fields = {"num_query_groups": 2, "attention_output_gate": True}
    assert judge("llama-3.1-8b", "tp=8 sp=true", gpus=8, fields=fields).legal
    verdict = judge("llama-3.1-8b", "tp=4 sp=true", gpus=4, fields={"num_query_groups": 6, "num_attention_heads": 36})
    assert broken(verdict) == {"attention.groups-tp"}
    assert "6 query groups and tp=4: neither divides the other" in sentence(verdict, "attention.groups-tp")
