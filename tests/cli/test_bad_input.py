"""Whatever a person gets wrong: exit code 2, one clear message that names the field and its place, nothing on stdout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.running import run

ASK = ["solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100"]
CHECK = ["check", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100"]


class Bad(NamedTuple):
    """``args`` with ``{file}`` for the path of a file that holds ``content``; ``says`` are parts of the message."""

    args: list[str]
    says: list[str]
    content: str | bytes | None = None


def solve_file(content: str | bytes, *says: str) -> Bad:
    return Bad(["solve", "--request", "{file}"], list(says), content)


def check_file(content: str | bytes, *says: str) -> Bad:
    return Bad([*CHECK, "@{file}"], list(says), content)


def model_file(content: str | bytes, *says: str) -> Bad:
    return Bad(["solve", "{file}", "--gpus", "8", "--gpu", "h100"], list(says), content)


TINY = {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 1000}
DEEP = "[" * 2000 + "]" * 2000
LAUGHS = "\n".join(
    [
        "a: &a [x, x, x, x, x, x, x, x, x, x]",
        *(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdef", "bcdefg", strict=True)),
    ]
)
TINY = {"num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 100}

FLAGS = {
    "unknown command": Bad(["sovle"], ["no command 'sovle'", "Did you mean solve?"]),
    "unknown option": Bad([*ASK, "--gpuz", "3"], ["--gpuz"]),
    "option of another command": Bad([*ASK, "--pareto-front"], ["--pareto-front"]),
    "a tolerance of no batch": Bad(
        [*ASK, "--batch-tolerance", "2%"], ["--batch-tolerance", "give --global-batch-size"]
    ),
    **{
        f"a tolerance of {word}": Bad(
            [*ASK, "--global-batch-size", "64", f"--batch-tolerance={word}"], ["--batch-tolerance", says]
        )
        for word, says in {
            "-2%": "from 0% to 100%",
            "100.01%": "from 0% to 100%",
            "some": "must be a percentage",
            "2%%": "must be a percentage",
            "1e1": "must be a percentage",
            "2.125": "two decimals",
        }.items()
    },
    "routing more balanced than balanced": Bad([*ASK, "--routing-imbalance", "0.5"], ["routing_imbalance", "from 1"]),
    "more than the whole optimizer": Bad([*ASK, "--offload-optimizer", "150%"], ["offload_optimizer", "100%"]),
    "offload that is no number": Bad([*ASK, "--offload-optimizer", "half"], ["offload_optimizer", "half"]),
    "unknown gradient type": Bad([*ASK, "--grad-dtype", "fp64"], ["grad_dtype", "fp32, bf16"]),
    "misspelt optimizer": Bad([*ASK, "--optimizer", "precision_aware"], ["did you mean precision-aware"]),
    "unknown model": Bad(["solve", "llama-3.1-80b", "--gpus", "8", "--gpu", "h100"], ["llama-3.1-8", "MODEL"]),
    "unknown model without a likeness": Bad(
        ["solve", "zzz", "--gpus", "8", "--gpu", "h100"], ["model 'zzz'", "catalog"]
    ),
    "unknown gpu": Bad(
        ["solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h10"], ["gpu 'h10'", "did you mean", "--gpu"]
    ),
    "no model": Bad(["solve", "--gpus", "8", "--gpu", "h100"], ["model is missing", "MODEL"]),
    "neither model nor gpus": Bad(["solve", "--gpu", "h100"], ["model is missing"]),
    "no gpus": Bad(["solve", "llama-3.1-8b", "--gpu", "h100"], ["gpus is missing", "--gpus"]),
    "no gpu": Bad(["solve", "llama-3.1-8b", "--gpus", "8"], ["gpu is missing", "--gpu"]),
    "no gpus in check": Bad(["check", "llama-3.1-8b", "--gpu", "h100", "tp=8"], ["gpus is missing"]),
    "0 gpus": Bad([*ASK[:2], "--gpus", "0", "--gpu", "h100"], ["gpus 0", "from 1 to", "--gpus"]),
    "negative gpus": Bad([*ASK[:2], "--gpus", "-8", "--gpu", "h100"], ["gpus -8", "from 1 to"]),
    "absurd gpus": Bad([*ASK[:2], "--gpus", "1000000000", "--gpu", "h100"], ["gpus 1000000000", "from 1 to"]),
    "gpus as text": Bad([*ASK[:2], "--gpus", "many", "--gpu", "h100"], ["--gpus", "'many'"]),
    "gpus as a fraction": Bad([*ASK[:2], "--gpus", "8.5", "--gpu", "h100"], ["--gpus", "'8.5'"]),
    "0 gpus per node": Bad([*ASK, "--gpus-per-node", "0"], ["gpus_per_node 0", "--gpus-per-node"]),
    "negative domain": Bad([*ASK, "--nvlink-domain", "-1"], ["nvlink_domain -1"]),
    "no memory": Bad([*ASK, "--memory-gib", "0"], ["memory_gib 0", "above 0"]),
    "negative memory": Bad([*ASK, "--memory-gib", "-80"], ["memory_gib -80"]),
    "memory that is not a number": Bad([*ASK, "--memory-gib", "nan"], ["memory_gib nan"]),
    "infinite memory": Bad([*ASK, "--memory-gib", "inf"], ["memory_gib inf"]),
    "memory with a unit": Bad([*ASK, "--memory-gib", "80GB"], ["--memory-gib", "'80GB'"]),
    "empty sequence": Bad([*ASK, "--seq-length", "0"], ["seq_length 0", "--seq-length"]),
    "absurd sequence": Bad([*ASK, "--seq-length", "1000000000"], ["seq_length 1000000000"]),
    "negative batch": Bad([*ASK, "--global-batch-size", "-1"], ["global_batch_size -1"]),
    "unknown precision": Bad([*ASK, "--precision", "bf61"], ["precision 'bf61'", "did you mean bf16", "--precision"]),
    "unknown task": Bad([*ASK, "--task", "pretraning"], ["task 'pretraning'", "did you mean pretrain"]),
    "unknown objective": Bad([*ASK, "--objective", "comunication"], ["objective", "did you mean communication"]),
    "unknown optimizer": Bad([*ASK, "--optimizer", "adamw"], ["optimizer 'adamw'", "distributed"]),
    "unknown generation": Bad([*ASK, "--megatron", "9.9"], ["megatron '9.9'", "0.20"]),
    "no time": Bad([*ASK, "--time-limit", "0"], ["time_limit 0", "--time-limit"]),
    "negative time": Bad([*ASK, "--time-limit", "-5"], ["time_limit -5"]),
    "top 0": Bad([*ASK, "--top", "0"], ["top 0", "--top"]),
    "top of too many": Bad([*ASK, "--top", "100000"], ["top 100000"]),
    "unknown format": Bad([*ASK, "--format", "xml"], ["--format", "'xml'"]),
    "contradictory pins": Bad([*ASK, "--pin", "tp=4", "--pin", "tp=8"], ["pin 'tp=8'", "contradicts tp=4"]),
    "contradictory pins in two spellings": Bad(
        [*ASK, "--pin", "tp=4", "--pin", "tensor_model_parallel_size=8"], ["contradicts tp=4", "--pin"]
    ),
    "pin without value": Bad([*ASK, "--pin", "tp"], ["pin 'tp'", "KEY=VALUE"]),
    "pin with an empty value": Bad([*ASK, "--pin", "tp="], ["pin 'tp='", "KEY=VALUE"]),
    "pin of nothing": Bad([*ASK, "--pin", "=4"], ["pin '=4'", "KEY=VALUE"]),
    "pin like no other": Bad([*ASK, "--pin", "foo=1"], ["pin 'foo=1'", "tp, pp, vpp", "cp_comm_type"]),
    "relaxed rule like no other": Bad([*ASK, "--relax", "foo"], ["relax 'foo'", "topology.tp-in-domain"]),
    "limit like no other": Bad([*ASK, "--limit", "foo<=2"], ["limit 'foo<=2'", "tp, pp, vpp"]),
    "unknown recipe of precision": Bad(
        [*CHECK, "tp=2", "mixed_precision=foo"], ["error: mixed_precision 'foo' is not known"]
    ),
    "unknown precision of a layout": Bad([*CHECK, "tp=2", "precision=foo"], ["error: precision 'foo' is not known"]),
    "unknown pin": Bad([*ASK, "--pin", "tpp=4"], ["pin 'tpp=4'", "did you mean tp"]),
    "pin of text": Bad([*ASK, "--pin", "tp=four"], ["pin 'tp=four'", "whole number"]),
    "pin of 0": Bad([*ASK, "--pin", "pp=0"], ["pin 'pp=0'", "from 1"]),
    "pin of a truth": Bad([*ASK, "--pin", "sp=maybe"], ["pin 'sp=maybe'", "true or false"]),
    "pin of a recompute kind": Bad([*ASK, "--pin", "recompute=some"], ["pin 'recompute=some'", "selective"]),
    "pin of a recompute method": Bad([*ASK, "--pin", "recompute_method=some"], ["is uniform or block"]),
    "pin of no layers": Bad([*ASK, "--pin", "recompute_num_layers=0"], ["recompute_num_layers=0", "from 1"]),
    "pin of more layers than there are": Bad([*ASK, "--pin", "recompute_num_layers=999"], ["is more than the"]),
    "pin of a method and of none": Bad(
        [*ASK, "--pin", "recompute=none", "--pin", "recompute_method=block"], ["contradicts recompute=none"]
    ),
    "pin of a switch": Bad([*ASK, "--pin", "overlap_param_gather=2"], ["overlap_param_gather=2", "true or false"]),
    "pin of two lines": Bad([*ASK, "--pin", "packed_sequences=x\ny"], ["'x\\ny'", "control characters"]),
    "bad limit": Bad([*ASK, "--limit", "tp=4"], ["limit 'tp=4'", "KEY<=NUMBER"]),
    "limit without number": Bad([*ASK, "--limit", "tp<=x"], ["limit 'tp<=x'"]),
    "limit of an absurd number": Bad([*ASK, "--limit", "tp<=99999999999"], ["limit 'tp<=99999999999'"]),
    "limit of a truth": Bad([*ASK, "--limit", "sp<=1"], ["limit 'sp<=1'", "no size"]),
    "unknown rule": Bad([*ASK, "--relax", "toplogy.tp"], ["relax 'toplogy.tp'", "is not a rule"]),
    "law relaxed": Bad([*ASK, "--relax", "mesh.world-dense"], ["relax 'mesh.world-dense'", "is a law rule"]),
    "framework rule relaxed": Bad([*ASK, "--relax", "attention.heads-tp"], ["is a framework rule"]),
    "advice that no search breaks": Bad([*ASK, "--relax", "pipeline.even-chunks"], ["would change nothing"]),
    "advice that is only mentioned": Bad([*ASK, "--relax", "pipeline.bubble"], ["is not enforced"]),
    "layout to solve": Bad([*ASK, "tp=8"], ["tp=8"]),
    "output in a missing folder": Bad([*ASK, "-o", "/nonexistent/x"], ["output '/nonexistent/x'", "-o"]),
    "output to a folder": Bad([*ASK, "-o", "/"], ["output '/'", "cannot be written"]),
    "output with a NUL": Bad([*ASK, "-o", "a\0b"], ["output", "cannot be written"]),
}

WORDS = {
    "no layout": Bad(CHECK, ["layout is missing", "tp=8"]),
    "unknown word": Bad([*CHECK, "tpp=8"], ["tpp", "did you mean tp", "command line"]),
    "unknown word without a likeness": Bad([*CHECK, "zzzzzz=8"], ["zzzzzz", "is not a word of a layout"]),
    "bare word": Bad([*CHECK, "tp8"], ["tp8", "KEY=VALUE"]),
    "not a number": Bad([*CHECK, "tp=eight"], ["tp", "whole number", "'eight'"]),
    "0": Bad([*CHECK, "tp=0"], ["tp", "from 1"]),
    "negative": Bad([*CHECK, "pp=-2"], ["pp", "from 1"]),
    "absurd": Bad([*CHECK, "cp=99999999999999999999"], ["cp"]),
    "not a truth": Bad([*CHECK, "sp=perhaps"], ["sp", "true or false"]),
    "contradiction": Bad([*CHECK, "tp=8", "tp=4"], ["tp '4'", "also given as 8", "(command line)"]),
    "contradiction in two spellings": Bad(
        [*CHECK, "tp=8", "model.tensor_model_parallel_size=4"],
        ["model.tensor_model_parallel_size '4'", "contradicts tp=8", "(command line)"],
    ),
    "contradiction with the request": Bad(
        [*CHECK, "--seq-length", "8192", "tp=8", "model.seq_length=4096"],
        ["model.seq_length 4096", "contradicts seq_length=8192", "--seq-length"],
    ),
    "contradiction with a precision": Bad(
        [*CHECK, "--precision", "bf16", "mixed_precision=bf16_with_mxfp8_mixed"],
        ["mixed_precision 'fp8_mx'", "contradicts precision=bf16", "--precision"],
    ),
    "contradiction with a pinned MTP depth": Bad(
        ["check", "deepseek-v3", "--gpus", "8", "--gpu", "h100", "--pin", "mtp_num_layers=0", "mtp_num_layers=1"],
        ["mtp_num_layers 1", "contradicts", "--pin"],
    ),
    "batch that does not multiply": Bad([*CHECK, "gbs=100", "m=3"], ["m 3", "contradicts the global batch 100"]),
    "misspelt override": Bad(
        [*CHECK, "model.tensor_model_paralel_size=8"], ["did you mean model.tensor_model_parallel_size"]
    ),
    "misspelt flag": Bad([*CHECK, "--", "--tensor-model-paralel-size", "8"], ["did you mean --tensor-model-parallel"]),
    "flag without value": Bad(
        [*CHECK, "--", "--tensor-model-parallel-size"], ["--tensor-model-parallel-size", "no value"]
    ),
    "flags without the dashes": Bad([*CHECK, "--tensor-model-parallel-size", "8"], ["after a --"]),
    "stray value": Bad([*CHECK, "--", "--context-parallel-size", "2", "4"], ["4", "KEY=VALUE"]),
    "unknown recompute": Bad([*CHECK, "recompute=some"], ["recompute 'some'", "none, selective or full"]),
    "unknown mixed precision": Bad([*CHECK, "mixed_precision=bf61_mixed"], ["did you mean bf16_mixed"]),
    "virtual stages that do not come out": Bad(
        [*CHECK, "pp=4", "--", "--num-layers-per-virtual-pipeline-stage", "3"],
        ["--num-layers-per-virtual-pipeline-stage 3", "32 mod 12"],
    ),
    "nested layers of an unknown name": Bad([*CHECK, "layout=[[embed,decoder],[loss]]"], ["layout", "'embed'"]),
    "brackets that do not match": Bad([*CHECK, "layout=[[embedding],[loss]"], ["layout", "brackets"]),
    "model of a wrong type": Bad([*CHECK, "tp=8", "num_layers=many"], ["num_layers", "command line"]),
    "sequence of a wrong type": Bad([*CHECK, "seq_length=long"], ["seq_length", "whole number"]),
    "no file": Bad([*CHECK, "@"], ["@", "names no file"]),
    "missing file": Bad([*CHECK, "@/nonexistent"], ["/nonexistent", "cannot be read"]),
    "words beside a batch": Bad([*CHECK, "--batch", "x.jsonl"], ["--batch", "llama-3.1-8b"]),
    "missing batch": Bad(["check", "--batch", "/nonexistent.jsonl"], ["/nonexistent.jsonl", "cannot be read"]),
    "batch that is a folder": Bad(["check", "--batch", "/"], ["/", "cannot be read"]),
}

FILES = {
    "empty layout": check_file("", "is empty"),
    "blank layout": check_file("  \n\n", "is empty"),
    "layout that is a list of numbers": check_file("[1, 2]", "holds no mapping"),
    "layout that is a number": check_file("8", "holds no mapping"),
    "layout with a bad value": check_file("tp: 8\npp: many\n", ":2:1", "pp", "whole number"),
    "layout with an unknown word": check_file("tensor_model_parallel_size: 8\nmodle: 3\n", ":2:1", "modle"),
    "layout in sections with a bad value": check_file(
        "model:\n  tensor_model_parallel_size: x\n", ":2:3", "whole number"
    ),
    "pasted override with a bad value": check_file("# mine\nmodel.context_parallel_size=x\n", ":2", "whole number"),
    "pasted quotes that do not match": check_file("model.x='8\n", ":1", "cannot be split"),
    "report without layouts": check_file(json.dumps({"layouts": []}), "layouts", "is empty"),
    "report of something else": check_file(json.dumps({"layouts": [3]}), "layouts"),
    "binary layout": check_file(b"\x00\xff\xfe\x01", "UTF-8"),
    "python without a layout word": check_file("cfg.model.tensor_model_parallel_size = 'x'\n", ":1", "whole number"),
    "unknown key": solve_file("model: llama-3.1-8b\ngpuz: 8\n", ":2:1", "gpuz", "did you mean gpu"),
    "wrong type of gpus": solve_file("model: llama-3.1-8b\ngpus: lots\n", ":2:1", "gpus 'lots'", "whole number"),
    "gpus in quotes": solve_file('gpus: "96"\n', ":1:1", "gpus '96'", "whole number"),
    "gpus as truth": solve_file("gpus: true\n", ":1:1", "gpus", "whole number"),
    "gpus as a list": solve_file("gpus: [8]\n", ":1:1", "gpus", "not a list"),
    "model as a number": solve_file("model: 3\n", ":1:1", "model 3", "must be a word"),
    "version without quotes": solve_file("megatron: 0.20\n", ":1:1", "megatron", "put it in quotes"),
    "switch as text": solve_file("allow_idle: please\n", ":1:1", "allow_idle", "true or false"),
    "memory as text": solve_file("memory-gib: much\n", ":1:1", "memory-gib 'much'", "number"),
    "out of range in a file": solve_file("model: llama-3.1-8b\ngpu: h100\ngpus: 0\n", ":3:1", "gpus 0"),
    "unknown model in a file": solve_file("model: llama-3.1-80b\ngpu: h100\ngpus: 8\n", ":1:1", "did you mean"),
    "dash and underscore": solve_file("seq-length: 1\nseq_length: 2\n", ":2:1", "twice"),
    "bad pin in a file": solve_file("model: llama-3.1-8b\ngpu: h100\ngpus: 8\npin:\n  tp: x\n", ":5:3", "pin 'tp=x'"),
    "contradictory pins in a file": solve_file(
        "model: llama-3.1-8b\ngpu: h100\ngpus: 8\npin: [tp=2, tp=4]\n", ":4:13", "contradicts tp=2"
    ),
    "pins of a wrong type": solve_file("pin: [[tp, 2]]\n", "pin", "words"),
    "nested pin": solve_file("pin: {tp: {a: 2}}\n", ":1:7", "pin", "words"),
    "limit as a mapping": solve_file("limit: {tp: 4}\n", "limit", "words"),
    "layout to solve in a file": solve_file(
        "model: llama-3.1-8b\ngpu: h100\ngpus: 8\nlayout: {tp: 8}\n", ":4:1", "check"
    ),
    "request that is a list": solve_file("- gpus\n", "must be a mapping"),
    "empty request": solve_file("", "must be a mapping"),
    "malformed YAML": solve_file("model: [llama\ngpus: 8\n", ":2:", "not readable YAML"),
    "malformed JSON": solve_file('{"model": "x"\n "gpus": 8}', ":2:", "not readable YAML or JSON"),
    "tabs": solve_file("model: x\n\tgpus: 8\n", ":2:1", "not readable YAML"),
    "a tag that builds objects": solve_file("model: !!python/object/apply:os.system [true]\n", ":1:8", "tag"),
    "another tag": solve_file("model: !!python/name:os.system\n", "tag"),
    "billion laughs": solve_file(LAUGHS, "more values than"),
    "an anchor that holds itself": solve_file("a: &a [*a]\n", "nested deeper"),
    "deep nesting": solve_file("a: " + DEEP, "nest"),
    "duplicate keys": solve_file("gpus: 8\ngpus: 16\n", ":2", "gpus", "twice"),
    "not a number": solve_file("memory_gib: .nan\n", "not finite"),
    "infinity": solve_file("memory_gib: .inf\n", "not finite"),
    "several documents": solve_file("gpus: 8\n---\ngpus: 9\n", ":2:1", "another document"),
    "key that is a list": solve_file("? [a]\n: b\n", "key that is not a word"),
    "control characters": solve_file("gpus: \x07\n", "not readable"),
    "binary request": solve_file(b"\x80\x81\x82", "UTF-8"),
    "huge request": solve_file(b"# " + b"x" * (1 << 20), "larger than"),
    "model whose name is two lines": model_file(
        json.dumps({**TINY, "name": "x\ntouch /tmp/P #"}), ":1:", "name is 'x\\ntouch /tmp/P #'", "control characters"
    ),
    "model whose alias is two lines": model_file(json.dumps({**TINY, "aliases": ["y", "a\rb"]}), "aliases is 'a\\rb'"),
    "config without layers": model_file(json.dumps({"model_type": "llama", "hidden_size": 64}), "is missing"),
    "config of an unknown kind": model_file(json.dumps({"model_type": "t5", "d_model": 64}), "t5"),
    "model without heads": model_file(
        json.dumps({k: v for k, v in TINY.items() if "heads" not in k}), "num_attention_heads"
    ),
    "model of a wrong type": model_file(json.dumps(TINY | {"num_layers": "4"}), "num_layers"),
    "model with an unknown field": model_file(
        json.dumps(TINY | {"num_layer": 4}), "num_layer", "did you mean num_layers"
    ),
    "model with 0 layers": model_file(json.dumps(TINY | {"num_layers": 0}), "num_layers", "is 0"),
    "model with absurd layers": model_file(json.dumps(TINY | {"num_layers": 10**9}), "num_layers"),
    "model that is a list": model_file("[1]", "not a mapping"),
    "model that is empty": model_file("", "not a mapping"),
    "model that is binary": model_file(b"\xff\xfe\x00", "UTF-8"),
}

PATHS = {
    "request that is a folder": Bad(["solve", "--request", "/"], ["/", "cannot be read"]),
    "request that is missing": Bad(
        ["solve", "--request", "/nonexistent.yaml"], ["/nonexistent.yaml", "cannot be read"]
    ),
    "request with a NUL": Bad(["solve", "--request", "a\0b"], ["cannot be read"]),
    "model that is a folder": Bad(["solve", "/tmp", "--gpus", "8", "--gpu", "h100"], ["/tmp", "config.json"]),
    "model with a NUL": Bad(["solve", "./a\0b", "--gpus", "8", "--gpu", "h100"], ["cannot be read"]),
    "model that is missing": Bad(["solve", "./no.yaml", "--gpus", "8", "--gpu", "h100"], ["no.yaml", "cannot be read"]),
    "layout with a NUL": Bad([*CHECK, "@a\0b"], ["cannot be read"]),
    "layout that is a folder": Bad([*CHECK, "@/"], ["cannot be read"]),
    "layout without end": Bad([*CHECK, "@/dev/zero"], ["larger than"]),
}

TABLE = {**FLAGS, **WORDS, **FILES, **PATHS}


def test_the_table_is_long_enough():
    assert len(TABLE) >= 80


@pytest.mark.parametrize("name", sorted(TABLE))
def test_bad_input_is_one_clear_message(name, tmp_path):
    bad = TABLE[name]
    suffix = ".json" if bad.args[1:2] == ["{file}"] else ""
    path = tmp_path / f"given{suffix}"
    if bad.content is not None:
        path.write_bytes(bad.content.encode() if isinstance(bad.content, str) else bad.content)
    outcome = run(*[arg.replace("{file}", str(path)) for arg in bad.args])
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert_one_message(outcome.err)
    for part in bad.says:
        assert part in outcome.err, outcome.err
    if bad.content is not None:
        assert str(path) in outcome.err, outcome.err


def assert_one_message(err: str) -> None:
    lines = err.splitlines()
    assert lines[0].startswith("error: "), err
    assert len(lines) <= 2, err
    assert err.count("error") == 1, err
    assert "Traceback" not in err
    assert len(err) < 1000, err
    assert all(line.startswith("Try 'meshwright") for line in lines[1:]), err


@pytest.mark.parametrize("kind", ["--gpu", "zoo"])
def test_names_of_machines_are_one_line(kind, tmp_path):
    path = tmp_path / "given.yaml"
    name = json.dumps("h\ntouch /tmp/P")
    if kind == "zoo":
        path.write_text(f"models: [llama-3.1-8b]\nclusters: [{{name: {name}, gpu: h100, gpus: 8}}]\n", encoding="utf-8")
        outcome = run("zoo", str(path), "--out", str(tmp_path / "out"))
    else:
        path.write_text(f"like: h100\nname: {name}\n", encoding="utf-8")
        outcome = run(*ASK[:4], "--gpu", str(path))
    assert (outcome.code, outcome.out) == (2, "")
    assert_one_message(outcome.err)
    assert f"{path}:2:" in outcome.err
    assert "name" in outcome.err
    assert "control character" in outcome.err


def test_an_unreadable_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.yaml"
    path.write_text("gpus: 8")

    def denied(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    outcome = run("solve", "--request", str(path))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: {path}: cannot be read: Permission denied\n"


def test_control_characters_do_not_reach_the_terminal():
    outcome = run("solve", "\x1b[31mred", "--gpus", "8", "--gpu", "h100")
    assert outcome.code == 2
    assert "\x1b" not in outcome.err
    assert "\\x1b" in outcome.err
