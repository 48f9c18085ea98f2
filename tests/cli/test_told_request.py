"""The ``request`` of a report: two requests that differ never look alike, and each value names its place."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.options import request_from
from cli.text.solved import assumed_defaults
from solver.request import REQUEST_KEYS, Request
from solver.request_mapping import request_mapping
from solver.resolution import resolve
from tests.cli.running import run

SMALL: dict[str, Any] = {"model": "llama-3.1-8b", "gpus": 8, "gpu": "h100"}
SEARCH = ("top", "pareto", "time_limit")

CHANGES: dict[str, Any] = {
    "model": "qwen3-8b",
    "gpus": 16,
    "gpu": "h200",
    "gpus_per_node": 4,
    "nvlink_domain": 4,
    "memory_gib": 70.5,
    "seq_length": 8192,
    "global_batch_size": 512,
    "batch_tolerance": "2.5%",
    "precision": "fp8_cs",
    "task": "sft",
    "optimizer": "precision-aware",
    "grad_dtype": "bf16",
    "fsdp": True,
    "offload_optimizer": "25%",
    "routing_imbalance": 1.25,
    "expandable_segments": False,
    "packed": True,
    "objective": "memory",
    "megatron": "0.16",
    "allow_borderline": True,
    "allow_idle": True,
    "stack": "25.09",
    "top": 3,
    "pareto": True,
    "time_limit": 20.0,
}
NEEDS = {"batch_tolerance": {"global_batch_size": 1024}}
WORDS = {"pin": ("tp=2",), "limit": ("tp<=2",), "relax": ("topology.tp-in-domain",)}


def told(request: Request) -> dict[str, dict[str, Any]]:
    mapping = request_mapping(resolve(request), {name: getattr(request, name) for name in SEARCH})
    return dict(json.loads(json.dumps(mapping)))


def test_every_key_of_a_request_is_tried_here():
    assert {*CHANGES, *WORDS} == set(REQUEST_KEYS)


@pytest.mark.parametrize("name", CHANGES)
def test_a_value_that_is_given_is_told_with_its_flag(name):
    base = SMALL | NEEDS.get(name, {})
    before, after = told(request_from(base)), told(request_from(base | {name: CHANGES[name]}))
    flag = {"model": "MODEL", "expandable_segments": "--no-expandable-segments"}
    assert after[name] == {"value": CHANGES[name], "origin": flag.get(name, "--" + name.replace("_", "-"))}
    assert before[name]["value"] != CHANGES[name]
    if name not in SMALL:
        assert before[name]["origin"] in ("default", "catalog h100")


@pytest.mark.parametrize("name", CHANGES)
def test_the_library_is_a_place_too(name):
    assert told(Request(**(SMALL | NEEDS.get(name, {}) | {name: CHANGES[name]})))[name]["origin"] == f"request.{name}"


@pytest.mark.parametrize(
    ("given", "entry"),
    [
        ({"pin": ("tp=2",)}, {"pin.tp": {"key": "tp", "value": 2, "origin": "--pin"}}),
        ({"pin": ("vpp=null",)}, {"pin.vpp": {"key": "vpp", "value": None, "origin": "--pin"}}),
        ({"pin": ("recompute=none",)}, {"pin.recompute": {"key": "recompute", "value": "none", "origin": "--pin"}}),
        (
            {"pin": ("cp_comm_type=a2a",)},
            {"pin.cp_comm_type": {"key": "cp_comm_type", "value": "a2a", "origin": "--pin"}},
        ),
        (
            {"pin": ("hierarchical_context_parallel_sizes=[2,1]",)},
            {
                "pin.hierarchical_context_parallel_sizes": {
                    "key": "hierarchical_context_parallel_sizes",
                    "value": [2, 1],
                    "origin": "--pin",
                }
            },
        ),
        ({"pin": ("optimizer=muon",)}, {"pin.optimizer": {"key": "optimizer", "value": "muon", "origin": "--pin"}}),
        (
            {"limit": ("tp<=2", "tp>1")},
            {
                "limit.tp-max-2": {"key": "tp", "operator": "<=", "value": 2, "origin": "--limit"},
                "limit.tp-above-1": {"key": "tp", "operator": ">", "value": 1, "origin": "--limit"},
            },
        ),
        (
            {"relax": ("topology.tp-in-domain",)},
            {"relax.topology.tp-in-domain": {"key": "topology.tp-in-domain", "value": True, "origin": "--relax"}},
        ),
    ],
)
def test_words_are_told_by_their_parts(given, entry):
    before, after = told(request_from(dict(SMALL))), told(request_from(SMALL | given))
    assert {name: value for name, value in after.items() if name not in before} == entry
    assert {name: after[name] for name in before} == before


def test_an_option_is_not_a_pin_of_the_switches_that_it_means():
    after = told(request_from(SMALL | {"optimizer": "plain", "fsdp": True, "packed": True, "grad_dtype": "bf16"}))
    assert not [name for name in after if name.startswith("pin.")]
    assert after["optimizer"] == {"value": "plain", "origin": "--optimizer"}


def test_a_place_in_a_file_is_told(tmp_path):
    path = tmp_path / "request.yaml"
    path.write_text("model: llama-3.1-8b\ngpu: h100\ngpus: 8\nrelax:\n  - topology.tp-in-domain\nfsdp: true\n")
    after = told(request_from({"request_file": str(path)}))
    assert after["relax.topology.tp-in-domain"]["origin"] == f"{path}:5:5"
    assert after["fsdp"] == {"value": True, "origin": f"{path}:6:1"}


def test_solve_tells_what_its_search_was_told():
    args = ("solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "--pin", "tp=3", "--format", "json")
    request = json.loads(run(*args, "--top", "2", "--time-limit", "30").out)["request"]
    assert request["top"] == {"value": 2, "origin": "--top"}
    assert request["time_limit"] == {"value": 30.0, "origin": "--time-limit"}
    assert request["pareto"] == {"value": False, "origin": "default"}


def test_a_verdict_on_a_report_is_on_its_own_terms(tmp_path):
    """What the layout does not say is taken from the request of the report."""
    path = tmp_path / "report.json"
    base = ("llama-3.1-8b", "--gpus", "8", "--gpu", "h100")
    assert run("solve", *base, "--no-expandable-segments", "--format", "json", "-o", str(path)).code == 0
    solved = json.loads(path.read_text())["layouts"][0]["memory"]
    judged = json.loads(run("check", "--format", "json", f"@{path}").out)["memory"]
    assert (judged["high_gib"], judged["budget_gib"]) == (solved["high_gib"], solved["budget_gib"])
    usual = json.loads(run("check", "--format", "json", "--expandable-segments", f"@{path}").out)["memory"]
    assert usual["high_gib"] < judged["high_gib"]


def test_what_was_assumed_is_what_nobody_chose():
    def assumed(**given: Any) -> list[str]:
        return assumed_defaults(resolve(request_from(SMALL | {"model": "qwen3-30b-a3b"} | given)))

    usual = {"distributed optimizer", "gradients in fp32", "experts evenly loaded", "expandable segments"}
    assert usual < {*assumed()} and "experts evenly loaded" not in assumed(model="llama-3.1-8b")
    chosen = {"optimizer": "distributed", "grad_dtype": "fp32", "routing_imbalance": 1.0, "expandable_segments": True}
    assert not usual & {*assumed(**chosen)}
    assert "distributed optimizer" not in assumed(pin=("use_precision_aware_optimizer=true",))


def test_top_caps_a_front():
    base = ("solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "--pareto", "--format", "json")
    whole, few = (json.loads(run(*base, *more).out) for more in ((), ("--top", "3")))
    assert whole["request"]["top"] == {"value": 8, "origin": "default"}
    assert few["request"]["top"] == {"value": 3, "origin": "--top"}
    assert 3 == len(few["layouts"]) < len(whole["layouts"]) <= 8
    ends = [[report["layouts"][i]["memory"]["high_gib"] for i in (0, -1)] for report in (whole, few)]
    assert ends[0] == ends[1]


def test_what_is_nearby_stands_under_the_layout_that_it_is_near_to():
    lines = run("solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "--top", "2").out.splitlines()
    labels = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert labels.index("#1") < labels.index("nearby") < labels.index("#2")
