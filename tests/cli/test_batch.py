"""``check --batch``: a verdict a line, in order, whatever becomes of single lines."""

from __future__ import annotations

import io
import itertools
import json
import sys
from typing import Any

import pytest

from cli.batch import LONGEST_LINE, verdicts
from solver.request import Request
from tests.cli.running import run

GOOD: dict[str, Any] = {"model": "llama-3.1-70b", "gpus": 64, "gpu": "h100", "global_batch_size": 128}
LEGAL = {"tp": 8, "pp": 4, "sp": True}
MOE = {
    "num_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_query_groups": 4,
    "kv_channels": 128,
    "ffn_hidden_size": 6144,
    "vocab_size": 151936,
    "num_moe_experts": 128,
    "moe_router_topk": 8,
    "moe_ffn_hidden_size": 768,
    "gated_linear_unit": True,
}


def judged(*lines: Any, defaults: Request | None = None) -> list[tuple[dict[str, Any], int]]:
    """The verdict and status of each line: text as it is, anything else as JSON."""
    text = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    return list(verdicts(io.BytesIO(text), "batch.jsonl", defaults or Request()))


def verdict(line: Any, **more: Any) -> dict[str, Any]:
    return judged({**line, **more} if more else line)[0][0]


def test_verdicts_come_in_order_and_say_which_line_they_are_of():
    found = [
        v for v, _ in judged({**GOOD, "layout": LEGAL, "id": 7}, b"", {**GOOD, "layout": {"tp": 3}, "name": "odd"})
    ]
    assert [(v["line"], v.get("id"), v.get("name"), v["legal"]) for v in found] == [
        (1, 7, None, True),
        (3, None, "odd", False),
    ]


def test_a_verdict_is_what_check_writes_without_the_nearest_layout():
    alone = run(
        "check",
        "llama-3.1-70b",
        "--gpus",
        "64",
        "--gpu",
        "h100",
        "--global-batch-size",
        "128",
        "--format",
        "json",
        "tp=3",
    )
    single = json.loads(alone.out)
    del single["nearest"], single["single_changes"], single["memory"]["relief"]
    found = verdict({**GOOD, "layout": {"tp": 3}})
    del found["line"]
    assert found.keys() == single.keys()
    assert [v["rule"] for v in found["violations"]] == [v["rule"] for v in single["violations"]]
    assert found["memory"] == single["memory"]


@pytest.mark.parametrize(
    "layout",
    [
        {"tensor_model_parallel_size": 8, "pipeline_model_parallel_size": 4, "sequence_parallel": True},
        {"model": {"tensor_model_parallel_size": 8, "pipeline_model_parallel_size": 4, "sequence_parallel": True}},
        {"model.tensor_model_parallel_size": 8, "pp": 4, "sp": True},
        "tp=8 pp=4 sp=true",
        "--tensor-model-parallel-size 8 --pipeline-model-parallel-size 4 --sequence-parallel",
        ["tp=8", "model.pipeline_model_parallel_size=4", "--sequence-parallel"],
    ],
)
def test_layouts_come_in_every_spelling(layout):
    expected = verdict({**GOOD, "layout": LEGAL})
    assert verdict({**GOOD, "layout": layout}) == expected
    assert expected["legal"]


def test_decisions_may_stand_beside_the_request():
    assert verdict({**GOOD, "micro_batch_size": 2, "layout": LEGAL}) == verdict({**GOOD, "layout": {**LEGAL, "mbs": 2}})


def test_models_come_by_name_by_path_and_as_entries(tmp_path):
    entry = {**MOE, "name": "mine"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(entry))
    line = {"gpus": 16, "layout": {"tp": 4, "ep": 8, "sp": True, "gbs": 64}}
    assert verdict({**line, "model": entry}) == verdict({**line, "model": str(path)})
    assert verdict({**line, "model": entry})["legal"]


def test_an_entry_may_hold_any_field_of_a_provider():
    entry = {
        **MOE,
        "tensor_model_parallel_size": 4,
        "expert_model_parallel_size": 8,
        "sequence_parallel": True,
        "moe_token_dispatcher_type": "allgather",
        "cp_comm_type": "p2p",
        "recompute_granularity": None,
        "seq_length": 8192,
        "bf16": True,
        "rotary_base": 10000,
        "activation_func": "silu",
    }
    found = verdict({"gpus": 16, "model": entry, "layout": {"gbs": 64}})
    assert found["legal"], found
    ignored = [warning for warning in found["warnings"] if "ignored" in warning]
    assert sorted(word for word in ("rotary_base", "activation_func", "bf16") if word in " ".join(ignored)) == [
        "activation_func",
        "rotary_base",
    ]


def test_the_layout_goes_before_what_the_entry_says_of_it():
    entry = {**MOE, "expert_model_parallel_size": 3, "recompute_granularity": "full", "seq_length": 8191}
    line = {"gpus": 16, "seq_length": 4096, "precision": "fp8_cs", "model": {**entry, "bf16": True}}
    found = verdict({**line, "layout": {"ep": 8, "gbs": 64, "recompute": "none"}})
    assert found["legal"], found


def test_an_entry_alone_is_a_layout():
    assert verdict({"gpus": 16, "model": {**MOE, "expert_model_parallel_size": 8}})["legal"]


def test_a_gpu_is_an_h100_unless_said_otherwise():
    line = {"model": "llama-3.1-8b", "gpus": 8, "layout": {}}
    assert verdict(line) == verdict({**line, "gpu": "h100"})
    from models_catalog.loader import load_gpu

    entry = {name: value for name, value in vars(load_gpu("h200")).items() if value is not None and name != "aliases"}
    entry = json.loads(json.dumps({**entry, "aliases": []}))
    assert verdict({**line, "gpu": entry})["memory"] == verdict({**line, "gpu": "h200"})["memory"]


def test_flags_are_what_lines_do_not_say():
    found = judged(
        {"model": "llama-3.1-70b", "layout": "tp=8 pp=4 sp=true"}, defaults=Request(gpus=64, global_batch_size=128)
    )
    assert found[0][0]["legal"]


UNREADABLE: dict[str, tuple[Any, str]] = {
    "not JSON": (b"nope", "is not readable JSON"),
    "half an object": (b'{"model": "x"', "is not readable JSON"),
    "not an object": (b"[1]", "is not an object"),
    "a number": (b"3", "is not an object"),
    "not UTF-8": (b'{"model": "\xff"}', "UTF-8"),
    "not a number": (b'{"gpus": NaN}', "NaN"),
    "key twice": (b'{"gpus": 1, "gpus": 2}', "'gpus' is given twice"),
    "too deep": (b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
    "too long": (b'{"model": "' + b"x" * LONGEST_LINE + b'"}', "longer than"),
    "absurd digits": (b'{"gpus": ' + b"9" * 5000 + b"}", "is not readable JSON"),
    "unknown key": ({**GOOD, "gpuz": 1, "layout": LEGAL}, "did you mean gpu"),
    "unknown model": ({**GOOD, "model": "llama-3.1-80b", "layout": LEGAL}, "did you mean"),
    "model of a wrong type": ({**GOOD, "model": 3, "layout": LEGAL}, "name, a path or an entry"),
    "model without heads": (
        {**GOOD, "model": {"num_layers": 2, "hidden_size": 8}, "layout": {}},
        "num_attention_heads",
    ),
    "model with text for a number": ({**GOOD, "model": {**MOE, "num_layers": "48"}, "layout": {}}, "num_layers"),
    "no model": (
        {"gpus": 8, "layout": {}},
        "model is missing: give MODEL (a catalog name, a config.json or a YAML entry) (",
    ),
    "no gpus": ({"model": "llama-3.1-8b", "layout": {"tp": 2}}, "gpus is missing: give --gpus N ("),
    "gpus as text": ({**GOOD, "gpus": "64", "layout": LEGAL}, "whole number"),
    "unknown gpu": ({**GOOD, "gpu": "h10", "layout": LEGAL}, "gpu 'h10'"),
    "gpu of a wrong type": ({**GOOD, "gpu": [1], "layout": LEGAL}, "name, a path or an entry"),
    "gpu without its fields": ({**GOOD, "gpu": {"name": "x"}, "layout": LEGAL}, "is missing"),
    "no layout": (GOOD, "layout is missing"),
    "layout as a number": ({**GOOD, "layout": 8}, "mapping, a list of words"),
    "layout with an unknown word": ({**GOOD, "layout": {"tpp": 8}}, "did you mean tp"),
    "layout with quotes that do not match": ({**GOOD, "layout": "tp='8"}, "cannot be split"),
    "contradiction": ({**GOOD, "layout": {"tp": 8, "tensor_model_parallel_size": 4}}, "contradicts tp=8"),
    "contradictory pins": ({**GOOD, "pin": ["tp=2", "tp=4"], "layout": LEGAL}, "contradicts tp=2"),
}


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_an_unreadable_line_is_said_and_the_rest_goes_on(name):
    line, says = UNREADABLE[name]
    (bad, status), (good, _) = judged(line, {**GOOD, "layout": LEGAL})
    assert bad["legal"] is None and status == 2
    assert says in bad["error"], bad["error"]
    assert set(bad) <= {"line", "id", "name", "legal", "error"}
    assert good["line"] == 2 and good["legal"]


def test_places_name_file_line_and_word():
    (_, _), (bad, _) = judged({**GOOD, "layout": LEGAL}, {**GOOD, "layout": {"tp": "x"}})
    assert bad["error"] == "tp must be a whole number, not 'x' (batch.jsonl:2)"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([{**GOOD, "layout": LEGAL}], 0),
        ([{**GOOD, "layout": LEGAL}, {**GOOD, "layout": {"tp": 3}}], 1),
        ([{**GOOD, "layout": {"tp": 3}}, {"layout": 3}, {**GOOD, "layout": LEGAL}], 2),
        ([{**GOOD, "gpus": 8, "global_batch_size": 8, "layout": {"tp": 8, "sp": True}}], 0),
        ([], 0),
    ],
    ids=["legal", "illegal", "unreadable", "does not fit", "empty"],
)
def test_exit_codes(lines, code, tmp_path):
    path = tmp_path / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    outcome = run("check", "--batch", str(path))
    assert (outcome.code, outcome.err) == (code, "")
    assert len(outcome.out.splitlines()) == len(lines)
    streamed = run("check", "--batch", "-", stdin=path.read_bytes())
    assert (streamed.code, streamed.out) == (code, outcome.out.replace(str(path), "standard input"))


def test_verdicts_go_to_a_file_whole(tmp_path):
    path, out = tmp_path / "batch.jsonl", tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps({**GOOD, "layout": LEGAL}) + "\n")
    outcome = run("check", "--batch", str(path), "-o", str(out))
    assert (outcome.code, outcome.out) == (0, "")
    assert json.loads(out.read_text())["legal"]


def test_lines_are_judged_as_they_come():
    class Endless(io.RawIOBase):
        """A file without an end: held in memory it would fill it."""

        def readline(self, size: int | None = -1, /) -> bytes:
            return json.dumps({**GOOD, "layout": LEGAL}).encode() + b"\n"

    found = verdicts(Endless(), "endless", Request())  # type: ignore[arg-type]
    assert [v["line"] for v, _ in itertools.islice(found, 3)] == [1, 2, 3]


def test_a_program_may_wait_for_each_verdict():
    import subprocess

    talk = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "check", "--batch", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert talk.stdin is not None and talk.stdout is not None
    for number in (1, 2):
        talk.stdin.write(json.dumps({**GOOD, "layout": LEGAL}) + "\n")
        talk.stdin.flush()
        assert json.loads(talk.stdout.readline())["line"] == number
    talk.communicate(timeout=20)
    assert talk.returncode == 0


def test_a_bug_spoils_one_line_and_is_said(monkeypatch):
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("cli.batch.judge", broken)
    ((found, status),) = judged({**GOOD, "layout": LEGAL})
    assert (found["legal"], status) == (None, 70)
    assert found["error"] == "internal error: ZeroDivisionError: by zero"


def test_the_verdicts_import_no_solver():
    import subprocess

    code = (
        "import io, json, sys; from cli.batch import verdicts; from solver.request import Request; "
        f"line = {json.dumps({**GOOD, 'layout': {'tp': 3}})!r}; "
        "found = list(verdicts(io.BytesIO(line.encode()), 'x', Request())); "
        "assert found[0][0]['legal'] is False; print('ortools' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
