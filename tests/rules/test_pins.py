"""The user's own words as rules: pins and limits as typed, each broken by one layout and kept by a near twin."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from constraints.layout import Recompute
from constraints.pins import Limit, Pin
from constraints.problem import Origin
from constraints.rule import Noticed, Rule, Stratum
from solver.request import Request
from solver.resolution import resolve
from tests.rules.builders import FULL, layout, problem, selective, verdict

Case = tuple[str, dict[str, Any], dict[str, Any], str]

CASES: list[Case] = [
    # the word, a layout that keeps it, one that breaks it, what is said then
    ("tp=4", {"tp": 4}, {"tp": 8}, "you asked for tp=4, the layout has 8"),
    ("tensor_model_parallel_size=4", {"tp": 4}, {"tp": 2}, "you asked for tp=4, the layout has 2"),
    ("pp=2", {"pp": 2}, {}, "you asked for pp=2, the layout has 1"),
    ("vpp=2", {"pp": 2, "vpp": 2}, {"pp": 2}, "you asked for vpp=2, the layout has null"),
    ("vpp=null", {"pp": 2}, {"pp": 2, "vpp": 2}, "you asked for vpp=null, the layout has 2"),
    ("vpp=1", {"pp": 2}, {"pp": 2, "vpp": 2}, "you asked for vpp=null, the layout has 2"),
    ("cp=2", {"cp": 2}, {"cp": 4}, "you asked for cp=2, the layout has 4"),
    ("ep=8", {"ep": 8}, {"ep": 4}, "you asked for ep=8, the layout has 4"),
    ("etp=2", {"etp": 2}, {}, "you asked for etp=2, the layout has 1"),
    ("dp=32", {"tp": 2}, {"tp": 4}, "you asked for dp=32, the layout has 16"),
    ("edp=8", {"ep": 8}, {}, "you asked for edp=8, the layout has 64"),
    ("mbs=2", {"micro_batch_size": 2}, {}, "you asked for mbs=2, the layout has 1"),
    ("m=8", {"num_microbatches": 8}, {"num_microbatches": 4}, "you asked for m=8, the layout has 4"),
    ("sp=true", {"tp": 2, "sequence_parallel": True}, {"tp": 2}, "you asked for sp=true, the layout has false"),
    ("sp=false", {"tp": 2}, {"tp": 2, "sequence_parallel": True}, "you asked for sp=false, the layout has true"),
    (
        "recompute=none",
        {},
        {"recompute": FULL},
        "you asked for recompute=none, the layout recomputes full (uniform, 1)",
    ),
    (
        "recompute=selective",
        {"recompute": selective("mlp")},
        {},
        "you asked for recompute=selective, the layout recomputes none",
    ),
    (
        "recompute=full",
        {"recompute": Recompute("full", "block", 2)},
        {"recompute": selective("moe", "mlp")},
        "you asked for recompute=full, the layout recomputes selective (moe, mlp)",
    ),
    (
        "recompute_method=block",
        {"recompute": Recompute("full", "block", 2)},
        {"recompute": FULL},
        "you asked for recompute_method=block, the layout recomputes full (uniform, 1)",
    ),
    (
        "recompute_num_layers=2",
        {"recompute": Recompute("full", "uniform", 2)},
        {"recompute": Recompute("full", "block", 3)},
        "you asked for recompute_num_layers=2, the layout recomputes full (block, 3 layers a chunk)",
    ),
    ("tp<=4", {"tp": 4}, {"tp": 8}, "you asked for tp<=4, the layout has 8"),
    ("tp<4", {"tp": 2}, {"tp": 4}, "you asked for tp<4, the layout has 4"),
    ("dp>=16", {"tp": 4}, {"tp": 8}, "you asked for dp>=16, the layout has 8"),
    ("m > 4", {"num_microbatches": 8}, {"num_microbatches": 4}, "you asked for m>4, the layout has 4"),
    # without interleaving vpp counts as 1
    ("vpp<=1", {"pp": 2}, {"pp": 2, "vpp": 2}, "you asked for vpp<=1, the layout has 2"),
    ("vpp>=2", {"pp": 2, "vpp": 2}, {"pp": 2}, "you asked for vpp>=2, the layout has 1"),
]


def rule_of(word: str) -> Rule:
    """The rule that a word on the command line becomes."""
    asked = Request(model="llama-3.2-1b", gpus=8, gpu="h100")
    if any(sign in word for sign in "<>"):
        asked = replace(asked, limit=(word,), origins={f"limit {word}": Origin("flag", f"--limit {word}")})
    else:
        asked = replace(asked, pin=(word,), origins={f"pin {word}": Origin("flag", f"--pin {word}")})
    (rule,) = resolve(asked).pins
    return rule


@pytest.mark.parametrize(("word", "kept", "broken", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_a_word_is_kept_and_broken(word: str, kept: dict[str, Any], broken: dict[str, Any], sentence: str) -> None:
    rule, asked = rule_of(word), problem()
    assert verdict(rule, asked, layout(**kept)) is None
    assert verdict(rule, asked, layout(**broken)) == sentence


@pytest.mark.parametrize("word", [case[0] for case in CASES])
def test_a_word_is_the_users_and_says_where_it_was_typed(word: str) -> None:
    rule = rule_of(word)
    assert rule.stratum is Stratum.PIN
    assert rule.noticed is Noticed.NEVER
    assert rule.source is None
    assert rule.id.startswith("limit." if isinstance(rule, Limit) else "pin.")
    assert rule.statement.startswith("You asked for ")
    assert str(getattr(rule, "origin", "")).endswith(f" {word}")


def test_several_words_are_several_rules_with_their_own_ids() -> None:
    request = Request(model="llama-3.2-1b", gpus=8, gpu="h100", pin=("tp=4", "pp=2"), limit=("dp<=4",))
    rules = resolve(request).pins
    assert [rule.id for rule in rules] == ["pin.tp", "pin.pp", "limit.dp-max-4"]
    assert [type(rule) for rule in rules] == [Pin, Pin, Limit]
