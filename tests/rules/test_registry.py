"""Which rules ``solve`` insists on, and which ones a layout breaks, in one pass."""

from __future__ import annotations

from dataclasses import replace

from constraints.pins import Pin
from constraints.problem import Origin
from constraints.registry import RULES, broken_rules, enforced_rules
from constraints.rule import Stratum
from tests.rules.builders import layout, model, problem

TWO = Pin("tp", "tp", 2, Origin("flag", "--pin tp=2"))


def test_laws_framework_and_resources_are_always_enforced() -> None:
    ids = {rule.id for rule in enforced_rules(problem())}
    for rule in RULES:
        if rule.stratum is not Stratum.ADVICE and rule.until is None:
            assert rule.id in ids


def test_advice_is_enforced_where_it_says_so_and_is_not_relaxed() -> None:
    asked = problem()
    advice = {rule.id for rule in RULES if rule.stratum is Stratum.ADVICE and rule.enforced_by_solve}
    assert {"topology.tp-in-domain", "sequence.sp-where-possible"} <= advice
    assert advice <= {rule.id for rule in enforced_rules(asked)}
    relaxed = replace(asked, relaxed=frozenset({"topology.tp-in-domain"}))
    assert {rule.id for rule in enforced_rules(asked)} - {rule.id for rule in enforced_rules(relaxed)} == {
        "topology.tp-in-domain"
    }


def test_advice_that_is_only_mentioned_is_not_enforced() -> None:
    mentioned = {rule.id for rule in RULES if rule.stratum is Stratum.ADVICE and not rule.enforced_by_solve}
    assert "pipeline.bubble" in mentioned
    assert not mentioned & {rule.id for rule in enforced_rules(problem())}


def test_only_what_the_search_can_do_without_is_relaxable() -> None:
    relaxable = {rule.id for rule in RULES if rule.relaxable}
    assert {"topology.tp-in-domain", "pipeline.layer-on-every-rank"} <= relaxable
    assert not {"recompute.block-leaves-some", "recompute.group-in-chunk"} & relaxable
    assert not {"pipeline.even-chunks", "pipeline.mtp-with-loss", "pipeline.bubble", "mesh.world-dense"} & relaxable


def test_a_law_is_never_relaxed() -> None:
    relaxed = replace(problem(), relaxed=frozenset(rule.id for rule in RULES))
    kept = {rule.id for rule in enforced_rules(relaxed)}
    assert kept == {rule.id for rule in RULES if rule.stratum is not Stratum.ADVICE and rule.until is None}


def test_the_users_words_come_last() -> None:
    assert enforced_rules(replace(problem(), pins=(TWO,)))[-1] is TWO


def test_every_broken_rule_is_found_in_one_pass() -> None:
    """28 heads in 7 groups, an odd width, a sequence of 8196 over tp=8; and a word that was not kept."""
    spec = model(num_attention_heads=28, num_query_groups=7, kv_channels=128, ffn_hidden_size=1001)
    asked = problem(spec, seq_length=8196, pins=(TWO,))
    answer = layout(tp=8, sequence_parallel=True, global_batch_size=8)
    broken = {rule.id for rule in broken_rules(asked, answer, Stratum.LAW, Stratum.FRAMEWORK)}
    assert broken == {"attention.heads-tp", "attention.groups-tp", "feedforward.ffn-tp", "sequence.seq-tp"}
    assert broken_rules(asked, answer, Stratum.PIN) == (TWO,)
