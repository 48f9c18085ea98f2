"""Reports say what was typed as it was typed, and miss no way out that the conflicts do not speak of."""

from __future__ import annotations

import json
from typing import Any

import pytest

from constraints.layout import Layout, PipelineSplit
from constraints.refutation.partial import Space
from solver.conflicts import conflicts_of
from solver.edits import Changed, Edit
from solver.feasibility import plainest_layout
from solver.fewest_count import pinned_unit
from solver.knobs import knobs_of
from solver.request import Request
from solver.resolution import resolve
from solver.way_out import WayOut
from tests.cli.running import run
from tests.proof.scenarios import SCENARIOS


def explained(request: str) -> dict[str, Any]:
    outcome = run("solve", *request.split(), "--format", "json")
    assert outcome.code == 1, outcome.out + outcome.err
    said: dict[str, Any] = json.loads(outcome.out)["explanation"]
    return said


def changes(said: dict[str, Any]) -> list[str]:
    return [way["change"] for way in said["ways_out"]]


LLAMA = "llama-3.1-8b --gpu h100"


@pytest.mark.parametrize(
    ("rest", "typed"),
    [
        ("--gpus 8 --packed --pin mbs=2", "--packed"),
        ("--gpus 8 --pin packed_sequences=offline --pin mbs=2", "--pin packed_sequences=offline"),
        ("--gpus 8 --fsdp --pin use_tp_pp_dp_mapping=true", "--fsdp"),
        ("--gpus 16 --pin use_megatron_fsdp_v2=2 --pin pp=2", "--pin use_megatron_fsdp_v2=2"),
    ],
)
def test_a_switch_is_blamed_and_left_out_in_the_words_that_set_it(rest: str, typed: str) -> None:
    said = explained(f"{LLAMA} {rest}")
    assert typed in [where["text"] for where in said["where"]]
    assert f"without {typed}" in changes(said)
    (edit,) = next(way["edits"] for way in said["ways_out"] if way["change"] == f"without {typed}")
    assert edit["instead_of"] == typed
    assert edit["at"] == typed.split()[0]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"optimizer": "plain"}, "--optimizer plain"),
        ({"optimizer": "precision-aware"}, "--optimizer precision-aware"),
        ({"grad_dtype": "bf16"}, "--grad-dtype bf16"),
        ({"fsdp": True}, "--fsdp"),
        ({"offload_optimizer": "12.5%"}, "--offload-optimizer 12.5%"),
        ({"packed": True}, "--packed"),
    ],
)
def test_a_memory_option_is_left_out_whole_and_pins_beside_it_stay(option: dict[str, Any], words: str) -> None:
    pins = ("optimizer=muon", "exp_avg_dtype=fp8")
    plain = resolve(Request(model="llama-3.1-8b", gpus=8, gpu="h100", pin=pins))
    problem = resolve(Request(model="llama-3.1-8b", gpus=8, gpu="h100", pin=pins, **option))
    switches = problem.settings.changed().keys() - plain.settings.changed().keys()
    assert switches
    for name in switches:
        changed = Changed(problem).switch_off(name)
        assert changed.problem.settings == plain.settings
        assert [str(edit) for edit in changed.edits] == [f"without {words}"]
    (edit,) = Changed(problem).switch_off("optimizer").edits
    assert str(edit) == "without --pin optimizer=muon"


def test_a_pinned_switch_goes_before_an_option_also_where_it_is_megatrons_default() -> None:
    asked = Request(
        model="llama-3.1-8b", gpus=8, gpu="h100", optimizer="plain", pin=("use_distributed_optimizer=true",)
    )
    assert resolve(asked).settings.use_distributed_optimizer


def test_an_optimizer_that_is_not_distributed_is_left_out_where_memory_is_short() -> None:
    said = explained(f"{LLAMA} --gpus 8 --optimizer plain --pin tp=1 --pin pp=1")
    assert "without --optimizer plain" in changes(said)


@pytest.mark.parametrize("degrees", ["--pin tp=1 --pin pp=1 --pin cp=1", "--limit tp<=1 --limit pp<=1 --limit cp<=1"])
def test_more_gpus_are_a_way_out_where_only_replicas_can_be_more(degrees: str) -> None:
    """The conflict is about degrees that two GPUs have: memory and the pins, and no word of the number of GPUs."""
    said = explained(f"{LLAMA} --gpus 2 {degrees}")
    assert "--gpus 4" in changes(said)
    (way,) = [way for way in said["ways_out"] if way["change"] == "--gpus 4"]
    assert way["layout"]["dp"] == 4


@pytest.mark.parametrize(
    ("pins", "unit"),
    [((), 1), (("tp=2", "pp=3"), 6), (("ep=8", "pp=4", "tp=2"), 32), (("ep=6", "tp=4"), 12), (("vpp=3", "sp=true"), 1)],
)
def test_counts_are_multiples_of_what_is_pinned(pins: tuple[str, ...], unit: int) -> None:
    problem = resolve(Request(model="qwen3-30b-a3b", gpus=8, gpu="h100", pin=pins))
    assert pinned_unit(problem) == unit


@pytest.mark.parametrize("name", ["report_fsdp_with_pp", "a2a_exchange_of_few_groups", "fp8_tokens"])
def test_the_closest_miss_breaks_something_of_what_was_asked(name: str) -> None:
    """Its layout may come from a way out that changes a switch or the sequence: it is judged by the request as it stands."""
    miss = explained(SCENARIOS[name])["closest_miss"]
    assert miss["violations"]


def test_a_default_is_blamed_only_where_a_step_tells_it() -> None:
    """The rule about Megatron FSDP reads the precision, which is not at fault here; that about batches reads the length."""
    fsdp, batch = explained(SCENARIOS["report_fsdp_with_pp"]), explained(SCENARIOS["llama8b_127_gbs1024"])
    assert not any(where["text"].startswith("--precision") for where in fsdp["where"])
    assert any(where["text"] == "--seq-length 4096" for where in batch["where"])


@pytest.mark.parametrize("name", ["limit_and_pin", "limits_cross"])
def test_a_page_is_named_only_if_there_is_one(name: str) -> None:
    """Rules that the user's own words make have none."""
    assert "more " not in run("solve", *SCENARIOS[name].split()).out


@pytest.mark.parametrize("name", ["llama70b_no_pipeline_allowed", "hybrid_virtual_stages", "limits_cross"])
def test_a_report_keeps_to_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but what is to be pasted, and citations."""
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("solve", *SCENARIOS[name].split()).out.splitlines()
    assert lines
    assert not [line for line in lines if len(line) > 80 and "::" not in line and "--" not in line]


def test_what_is_turned_together_is_named_in_one_order() -> None:
    """Not in that of a set, which differs from run to run."""
    problem = resolve(Request(model="kimi-k2", gpus=500, gpu="h200", pin=("ep=384", "pp=8", "mbs=2")))
    order = [knob.name for knob in knobs_of(problem)]
    together = [[knob.name for knob in c.knobs] for c in conflicts_of(problem).corrections if len(c.knobs) > 1]
    assert together
    assert all(names == sorted(names, key=order.index) for names in together)


def test_a_way_out_says_first_what_to_type() -> None:
    """ "--pin pp=7" after "without --pin ep=384" would read as left out too."""
    edits = (Edit("", "--pin ep=384"), Edit("--pin pp=7", "--pin pp=8"))
    problem = resolve(Request(model="llama-3.1-8b", gpus=8, gpu="h100"))
    found = plainest_layout(problem)
    assert found is not None
    assert WayOut(Changed(problem, edits), found, (1, 0)).text == "--pin pp=7 without --pin ep=384"


@pytest.mark.parametrize("sizes", ["first=39 last=39", "first=37 last=40", "first=60"])
def test_a_certificate_says_where_the_layers_of_a_hybrid_model_are(sizes: str) -> None:
    """As the layout has them: 39, 40 and 39 layers are no count of embedding and loss, which hybrid models do not have."""
    ends = {name: int(count) for name, count in (word.split("=") for word in sizes.split())}
    pp = 2 if "last" not in ends else 3
    space = Space(resolve(Request(model="nemotron-h-56b", gpus=pp, gpu="h100")))
    layout = Layout(
        pp=pp, gpus=pp, num_microbatches=1024, global_batch_size=1024, split=PipelineSplit(**ends), micro_batch_size=1
    )
    assert space.layout(space.point(layout)) == layout
