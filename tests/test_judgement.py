"""A verdict for whatever numbers somebody writes: bad words are said, nothing else goes wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constraints.errors import MeshwrightError
from constraints.spelling import SPELLINGS, Spelling
from models_catalog.loader import load_gpu
from solver import Request, judge
from tests.rules.builders import hybrid, mla, model, moe

MODELS = [model(), moe(), mla(), moe(mtp_num_layers=2), hybrid()]
NUMBERS = [1, 1, 2, 2, 3, 4, 5, 7, 8, 16, 64, 1000, 10**7]
LAYOUTS = ["Et*3|t*4L", "E|t|L", "Et*1000L", "", "E||||L", "x", "(tt", "t*9999999", "Ett|mL", "EmL", "Et*32L|"]
WORDS = [
    "full",
    "selective",
    "uniform",
    "block",
    "a2a",
    "p2p",
    "a2a+p2p",
    "flex",
    "allgather",
    "none",
    "moe",
    "mlp",
    "zz",
]


def value_of(spelling: Spelling) -> st.SearchStrategy[Any]:
    """Values of the word's kind, sensible and absurd."""
    words, numbers = st.sampled_from(WORDS), st.sampled_from(NUMBERS)
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "int": numbers,
        "float": st.sampled_from([0, 0.5, 1, 1.25, -1]),
        "bool": st.booleans(),
        "version 2": st.sampled_from([1, 2]),
        "dtype": st.sampled_from(["fp32", "bf16", "fp8"]),
        "str": words,
        "strs": st.lists(words, max_size=3),
        "ints": st.lists(numbers, max_size=3),
        "str or strs": st.one_of(words, st.lists(words, max_size=3)),
        "layout": st.sampled_from(LAYOUTS),
    }
    return kinds[spelling.kind]


@st.composite
def words(draw: st.DrawFn) -> dict[str, Any]:
    """Some words of a layout, degrees more often than switches."""
    chosen = draw(st.lists(st.sampled_from([*SPELLINGS[:16] * 4, *SPELLINGS]), max_size=12, unique_by=lambda s: s.name))
    return {
        draw(st.sampled_from([spelling.name, spelling.path])): draw(value_of(spelling))
        for spelling in chosen
        if spelling.section
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    raw=words(),
    spec=st.sampled_from(MODELS),
    gpus=st.sampled_from([1, 2, 7, 8, 64, 100, 1024, 10**6]),
    seq_length=st.sampled_from([1, 7, 4096, 8191, 10**8]),
    precision=st.sampled_from(["bf16", "fp8_cs", "fp8_mx", "nvfp4"]),
)
def test_any_layout_gets_a_verdict(raw, spec, gpus, seq_length, precision):
    request = Request(gpus=gpus, gpu="h100", seq_length=seq_length, precision=precision)
    try:
        verdict = judge(request, raw, model=spec, gpu=load_gpu("h100"))
    except MeshwrightError as error:
        assert str(error)
        return
    assert json.dumps(verdict.to_mapping())
    assert verdict.legal == (verdict.violations == ())
    assert all(violation.fact.text for violation in (*verdict.violations, *verdict.advice))


def test_a_program_can_judge_too():
    asked = Request(model="llama-3.1-70b", gpus=64, gpu="h100", global_batch_size=128)
    verdict = judge(asked, {"tp": 8, "model.pipeline_model_parallel_size": 4, "sp": True})
    assert verdict.legal and verdict.fits


def test_figures_may_be_left_out():
    asked = Request(model="llama-3.1-70b", gpus=64, gpu="h100")
    verdict = judge(asked, {"tp": 8}, figures=False)
    assert verdict.answer is None and verdict.to_mapping()["memory"] is None


@pytest.mark.parametrize("name", ["tp", "cp_comm_type", "overlap_grad_reduce"])
def test_switches_and_degrees_are_judged_as_the_layout_has_them(name):
    word = {"tp": 3, "cp_comm_type": "zz", "overlap_grad_reduce": False}[name]
    verdict = judge(Request(model="llama-3.1-8b", gpus=8, gpu="h100"), {name: word, "cp": 2})
    assert getattr(verdict.problem.settings, name, word) == word
