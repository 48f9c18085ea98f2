"""Request files: the flags' keys, flags before them, and the place of every value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.options import request_and_layout, request_from
from constraints.errors import RequestError
from solver.request import REQUEST_KEYS, Request
from solver.resolution import resolve

WHOLE = """\
model: llama-3.1-70b
gpus: 96
gpu: h100
gpus-per-node: 8
nvlink-domain: 8
memory-gib: 75.5
seq-length: 8192
global-batch-size: 1024
batch-tolerance: 2%
precision: fp8_cs
task: pretrain
optimizer: distributed
grad-dtype: bf16
fsdp: true
offload-optimizer: 25%
routing-imbalance: 1.2
expandable-segments: true
packed: true
objective: communication
megatron: "0.20"
pin:
  tp: 4
  sp: true
  vpp: null
  cp_comm_type: a2a
limit: ["pp<=4"]
relax: [topology.tp-in-domain]
allow-borderline: true
allow-idle: true
top: 2
time-limit: 30
stack: "26.06"
pareto: true
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> Path:
        path: Path = tmp_path / "request.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def asked(path: Path, **flags: Any) -> Request:
    return request_from({"request_file": str(path), **flags})


def test_a_file_holds_every_option(file):
    path = file(WHOLE)
    request = asked(path)
    assert all(getattr(request, key) not in (None, (), False) for key in REQUEST_KEYS)
    assert request.pin == ("tp=4", "sp=true", "vpp=null", "cp_comm_type=a2a")
    assert (request.gpus, request.memory_gib, request.megatron) == (96, 75.5, "0.20")


def test_dashes_and_underscores_are_the_same(file):
    assert asked(file(WHOLE)) == asked(
        file(WHOLE.replace("-per-node", "_per_node").replace("time-limit", "time_limit"))
    )


def test_json_is_a_request_too(file):
    request = asked(file('{"model": "llama-3.1-8b", "gpus": 8, "pins": ["tp=2"], "limits": ["pp<=2"]}'))
    assert (request.model, request.gpus, request.pin, request.limit) == ("llama-3.1-8b", 8, ("tp=2",), ("pp<=2",))


def test_one_word_needs_no_list(file):
    assert asked(file("pin: tp=2\nrelax: topology.tp-in-domain\n")).pin == ("tp=2",)


def test_null_is_not_given(file):
    request = asked(file("gpus: 8\nmemory_gib: null\npin: null\n"))
    assert request.memory_gib is None and request.pin == ()


def test_flags_win_and_every_value_knows_its_place(file):
    path = file(WHOLE)
    request = asked(path, gpus=48, pin=("tp=8",), model=None)
    assert request.gpus == 48
    assert str(request.origin("gpus")) == "--gpus"
    assert str(request.origin("seq_length")) == f"{path}:7:1"
    assert request.pin == ("sp=true", "vpp=null", "cp_comm_type=a2a", "tp=8")
    assert str(request.origin("pin", "tp=8")) == "--pin"
    assert str(request.origin("pin", "sp=true")) == f"{path}:23:3"


def test_a_flag_takes_the_place_of_a_pin_in_another_spelling(file):
    request = asked(file("pin: {tensor_model_parallel_size: 4}\n"), pin=("tp=8",))
    assert request.pin == ("tp=8",)


def test_limits_on_the_two_sides_of_a_value_stand_beside_each_other(file):
    request = asked(file('limit: ["tp>=2", "tp<=8"]\n'), limit=("tp<=4",))
    assert request.limit == ("tp>=2", "tp<=4")


def test_places_reach_the_problem(file):
    path = file("model: llama-3.1-8b\ngpu: h100\ngpus: 8\nseq_length: 2048\npin:\n  tp: 2\n  mtp_num_layers: 1\n")
    problem = resolve(asked(path))
    assert str(problem.origin("seq_length")) == f"{path}:4:1"
    assert str(problem.origin("mtp_num_layers")) == f"{path}:7:3"
    assert [str(pin.origin) for pin in problem.pins] == [f"{path}:6:3"]
    assert str(problem.origin("precision")) == "default"
    assert str(problem.origin("gpus_per_node")) == "catalog h100"


def test_a_layout_is_for_check_alone(file):
    path = file("gpus: 8\nlayout: {tp: 2}\n")
    assert request_and_layout({"request_file": str(path)}).layout == {"tp": 2}
    with pytest.raises(RequestError, match="only check takes one"):
        asked(path)


def test_a_pinned_list_is_a_list(file):
    path = file("model: llama-3.1-8b\ngpu: h100\ngpus: 8\npin: {hierarchical_context_parallel_sizes: [4, 2]}\n")
    assert resolve(asked(path)).settings.hierarchical_context_parallel_sizes == (4, 2)
