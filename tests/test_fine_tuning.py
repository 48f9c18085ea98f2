"""Fine-tuning over context parallelism: the switches of the loss follow from cp unless somebody says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from cli.emit import bridge, bridge_python, megatron_lm
from cli.emit import yaml as yaml_format
from constraints.context import LOSS_BY_TOKEN, loss_as_said
from constraints.layout import Layout, Settings
from solver import Request, judge
from solver.answer import answer_of
from solver.nearest import nearest_legal
from solver.single_changes import single_changes
from solver.synthesis import solve
from solver.verdict import Verdict
from tests.rules.builders import problem

LONG = {"model": "llama-3.1-8b", "gpus": 16, "gpu": "h100", "seq_length": 131072, "time_limit": 60.0}
WRONG = {"calculate_per_token_loss": False, "average_in_collective": True}


def judged(megatron: str = "0.20", task: str = "sft", **words: Any) -> Verdict:
    asked = Request(model="llama-3.1-8b", gpus=16, gpu="h100", task=task, megatron=megatron)
    return judge(asked, {"tp": 2, "sp": True, "cp": 2, "gbs": 16} | words)


def broken(verdict: Verdict) -> list[str]:
    return [violation.rule.id for violation in verdict.violations]


@pytest.mark.parametrize("task", ["sft", "lora"])
def test_what_is_left_out_follows_from_cp(task):
    assert judged(task=task).legal


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_a_layout_that_states_otherwise_is_refused(name, value):
    verdict = judged(**{name: value})
    assert broken(verdict) == ["context.cp-sft"]
    assert f"set {name}={str(LOSS_BY_TOKEN[name]).lower()}" in verdict.violations[0].fact.text
    assert judged(**{name: value}, cp=1).legal
    assert judged(**{name: value}, task="pretrain").legal


@pytest.mark.parametrize(("name", "value"), WRONG.items())
def test_the_switch_alone_mends_it_and_is_what_is_named(name, value):
    verdict = judged(**{name: value})
    typed = [one.change.typed for one in single_changes(verdict)]
    wanted = f"{name}={str(LOSS_BY_TOKEN[name]).lower()}"
    assert wanted in typed
    assert broken(judged(**dict([wanted.split("=")]))) == []
    assert nearest_legal(verdict) is not None


def test_before_the_runner_set_it_what_is_left_out_is_bridges_default():
    assert broken(judged("0.16")) == ["context.cp-sft"]
    assert judged("0.16", calculate_per_token_loss=True).legal
    assert judged("0.16", cp=1).legal
    assert judged("0.19").legal


def test_before_that_cp_alone_is_no_change_that_mends_a_layout():
    verdict = judged("0.16", cp=1, gbs=4)  # a batch of fewer sequences than replicas
    assert broken(verdict) == ["batch.gbs"]
    assert not [one for one in single_changes(verdict) if one.change.name == "cp"]
    newer = judged(cp=1, gbs=4)
    assert any(one.layout.cp == 2 for one in single_changes(newer))


@pytest.mark.parametrize("megatron", ["0.16", "0.20"])
def test_solve_uses_context_parallelism_and_says_the_switches(megatron):
    report = solve(Request(task="sft", megatron=megatron, pin=("cp=4",), **LONG))
    answer = report.answers[0].to_mapping(1)
    assert (report.status, answer["cp"]) == ("optimal", 4)
    assert {name: answer[name] for name in LOSS_BY_TOKEN} == LOSS_BY_TOKEN
    assert judge(Request(task="sft", megatron=megatron, **LONG), answer).legal


def test_solve_refuses_cp_where_the_switch_is_pinned_otherwise_and_offers_to_let_it_go():
    report = solve(Request(task="sft", pin=("cp=4", "calculate_per_token_loss=false"), **LONG))
    assert report.refutation is not None
    explanation = report.to_mapping()["explanation"]
    assert "context.cp-sft" in [entry["rule"] for entry in explanation["core"]]
    assert any("calculate_per_token_loss=false" in way["change"] for way in explanation["ways_out"])


SAID = {
    "bridge": (bridge, "model.calculate_per_token_loss=true", "ddp.average_in_collective=false"),
    "bridge-python": (
        bridge_python,
        "cfg.model.calculate_per_token_loss = True",
        "cfg.ddp.average_in_collective = False",
    ),
    "megatron-lm": (megatron_lm, "--calculate-per-token-loss", "average_in_collective=false"),
    "yaml": (yaml_format, "calculate_per_token_loss: true", "average_in_collective: false"),
}


@pytest.mark.parametrize(("module", "by_token", "not_averaged"), SAID.values(), ids=SAID)
def test_every_format_says_both_where_cp_is_above_one_in_fine_tuning(module, by_token, not_averaged):
    layout = Layout(cp=2, dp=4, edp=8, gpus=8, global_batch_size=8, num_microbatches=2)
    text = module.emit(problem(task="lora", gpus=8), layout)
    assert by_token in text
    assert not_averaged in text
    for asked, alone in (("pretrain", layout), ("lora", Layout(dp=8, edp=8, gpus=8, global_batch_size=8))):
        assert "per_token" not in module.emit(problem(task=asked, gpus=8), alone).replace("-", "_")


def test_what_is_said_stays_as_it_is():
    said = Settings(calculate_per_token_loss=True)
    layout = Layout(cp=2, dp=4, edp=8, gpus=8, settings=said)
    assert loss_as_said(problem(task="sft", gpus=8), layout) == Settings(**LOSS_BY_TOKEN)
    assert loss_as_said(problem(gpus=8), layout) == said
    assert answer_of(problem(task="sft", gpus=8), layout) is not None
