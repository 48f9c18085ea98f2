"""The eight pitfalls that the sizing guide warns of: each is caught, by its own message, with what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cli.emit import bridge
from cli.emit.launch import launch_line
from cli.text.judged import judged_text
from solver import Request, solve
from tests.acceptance.judging import broken, judge, sentence

MOE = "qwen3-30b-a3b"


def _tp_across_nodes() -> str:
    return sentence(judge("llama-3.1-70b", "tp=16 sp=true", gpus=16), "topology.tp-in-domain")


def _pipeline_without_interleaving() -> str:
    return sentence(judge("llama-3.1-70b", "tp=8 pp=8 sp=true gbs=16", gpus=64), "pipeline.bubble")


def _sequence_parallelism_without_tensor() -> str:
    verdict = judge("llama-3.1-8b", "tp=1 sp=true", gpus=8)
    assert verdict.legal and not verdict.layout.sequence_parallel
    return next(text for text in verdict.warnings if "sequence_parallel" in text)


def _sequence_not_divisible() -> str:
    return sentence(judge("llama-3.1-8b", "cp=4", gpus=8, seq_length=4100), "context.seq-2cp")


def _experts_of_a_dense_model() -> str:
    return sentence(judge("llama-3.1-8b", "ep=2", gpus=8), "experts.ep-needs-moe")


def _memory_by_rule_of_thumb() -> str:
    """TP 8 is where the guide starts a 70B model; on one node it does not fit, and the verdict says by how much."""
    verdict = judge("llama-3.1-70b", "tp=8 sp=true", gpus=8)
    assert verdict.legal and not verdict.fits and verdict.answer is not None
    memory = verdict.answer.memory
    assert memory.low_bytes > memory.budget_bytes
    return judged_text(verdict)


def _one_connection() -> str:
    verdict = judge("llama-3.1-70b", "tp=8 pp=8 sp=true", gpus=64)
    return launch_line(verdict.problem, verdict.layout)


def _full_product() -> str:
    """TP2 CP2 EP8 by the full product wants 32 GPUs; 8 do, and on 4 the sentence says so."""
    assert judge(MOE, "tp=2 cp=2 ep=8 sp=true", gpus=8).legal
    return sentence(judge(MOE, "tp=2 cp=2 ep=8 sp=true", gpus=4), "mesh.world-expert")


PITFALLS = (
    (_tp_across_nodes, ("NVLink domain", "16", "network")),
    (_pipeline_without_interleaving, ("pp=8", "interleaving", "7 of", "virtual_pipeline_model_parallel_size")),
    (_sequence_parallelism_without_tensor, ("sequence_parallel", "tp=1", "turns it off")),
    (_sequence_not_divisible, ("4100", "2*cp", "4100 mod 8 = 4")),
    (_experts_of_a_dense_model, ("ep=2", "no experts", "expert_model_parallel_size=1")),
    (_memory_by_rule_of_thumb, ("does not fit",)),
    (_one_connection, ("CUDA_DEVICE_MAX_CONNECTIONS=1",)),
    (_full_product, ("pp*max(tp*cp, ep*etp) = 8",)),
)


@pytest.mark.parametrize(("pitfall", "words"), PITFALLS)
def test_pitfall_is_caught(pitfall: Callable[[], str], words: tuple[str, ...]) -> None:
    text = pitfall()
    assert all(word in text for word in words), text


def test_each_pitfall_has_its_own_message() -> None:
    assert len({pitfall() for pitfall, _ in PITFALLS}) == len(PITFALLS)


def test_blackwell_needs_no_single_connection() -> None:
    verdict = judge("llama-3.1-70b", "tp=8 pp=8 sp=true", gpus=64, gpu="gb200")
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in launch_line(verdict.problem, verdict.layout)


def test_interleaved_sends_are_overlapped_not_batched() -> None:
    """Overlap settings, the other half of pitfall 7: both at once raise in the schedule, so both are said."""
    words = "tp=8 pp=4 vpp=5 sp=true gbs=64"
    verdict = judge("llama-3.1-70b", f"{words} overlap_p2p_comm=true", gpus=64)
    assert broken(verdict) == {"pipeline.p2p-flags"}
    assert "batch_p2p_comm=false" in sentence(verdict, "pipeline.p2p-flags")
    verdict = judge("llama-3.1-70b", words, gpus=64)
    text = bridge.emit(verdict.problem, verdict.layout)
    assert "model.overlap_p2p_comm=true" in text and "model.batch_p2p_comm=false" in text


def test_solve_keeps_tensor_groups_inside_a_domain_unless_told_otherwise() -> None:
    """A pin does not relax it; the answer names the rule, and ``--relax`` with that name lets it through."""
    rule = "topology.tp-in-domain"
    asked = Request(model="llama-3.1-8b", gpus=16, gpu="h100", pin=("tp=16",))
    refused = solve(asked)
    assert refused.status == "infeasible" and rule in {broken.id for broken in refused.conflict}
    relaxed = solve(replace(asked, relax=(rule,)))
    assert relaxed.status == "optimal" and relaxed.answers[0].layout.tp == 16
