"""Words that a generation of Megatron does not know yet, and ``check`` beside another generation."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.generations import GENERATIONS
from constraints.known import RULES
from constraints.registry import rules_of
from models_catalog.schema import ModelSpec
from solver import Request
from solver import judge as judge_words
from tests.rules.builders import judge, model, selective

(KNOWN,) = RULES

NEWER: list[tuple[ModelSpec, dict[str, Any], str, str]] = [
    (model(), {"tensor_parallel_num_weight_shards": 4}, "0.16", "0.19"),
    (model(), {"use_megatron_fsdp_v2": True}, "0.19", "0.20"),
    (model(enable_mhc_connections=True), {}, "0.19", "0.20"),
    (model(), {"cuda_graph_impl": "full_iteration"}, "0.16", "0.19"),
    (model(), {"recompute": selective("gdn_norm_out")}, "0.16", "0.19"),
]


@pytest.mark.parametrize(("spec", "words", "old", "since"), NEWER)
def test_a_later_word_is_refused_before_its_generation(
    spec: ModelSpec, words: dict[str, Any], old: str, since: str
) -> None:
    text = judge(KNOWN, spec, megatron=old, **words)
    assert text is not None
    assert f"came with {since}, this is {old}" in text
    assert judge(KNOWN, spec, megatron=since, **words) is None


def test_a_rule_is_in_force_from_its_first_generation_to_before_the_next() -> None:
    by_generation = {generation: {rule.id for rule in rules_of(generation)} for generation in GENERATIONS}
    assert "hybrid.gdn-cp" in by_generation["0.16"] - by_generation["0.19"]
    assert "optimizer.gtp" in by_generation["0.19"] - by_generation["0.16"]
    assert "optimizer.mfsdp-v2" in by_generation["0.20"] - by_generation["0.19"]
    assert "mesh.world-dense" in by_generation["0.16"] & by_generation["0.19"] & by_generation["0.20"]


def verdict_of(megatron: str, **words: Any) -> tuple[bool, list[str]]:
    request = Request(model="qwen3-30b-a3b", gpus=8, gpu="h100", global_batch_size=64, megatron=megatron)
    verdict = judge_words(request, {"tp": 4, "ep": 8, "sp": True, **words}, figures=False)
    return verdict.legal, [note for note in verdict.notes if "Megatron" in note and "legal" in note]


def test_an_unset_etp_is_one_only_since_0_19() -> None:
    legal, notes = verdict_of("0.20")
    assert legal
    assert notes == ["legal on Megatron 0.20, not on 0.16: mesh.world-expert"]
    legal, notes = verdict_of("0.16")
    assert not legal
    assert notes == ["not legal on Megatron 0.16, but on 0.20", "not legal on Megatron 0.16, but on 0.19"]


def test_where_the_generations_agree_nothing_is_said() -> None:
    assert verdict_of("0.20", etp=1) == (True, [])
    assert verdict_of("0.20", etp=8)[1] == []
