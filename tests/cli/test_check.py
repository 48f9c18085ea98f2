"""``check``: every spelling of a layout is the same layout, what it says of the request counts, origins are kept."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from cli.read.words import read_words
from constraints.problem import Problem
from solver.judgement import judge
from solver.request import Request
from tests.cli.running import run

ASKED = ["llama-3.1-70b", "--gpus", "64", "--gpu", "h100"]
DEEPSEEK = ["deepseek-v3", "--gpus", "256", "--gpu", "h100"]


def checked(*args: str) -> dict[str, Any]:
    """The JSON of ``check``."""
    outcome = run("check", *args[:5], "--format", "json", *args[5:])
    assert outcome.err == "", outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    assert outcome.code == (0 if found["legal"] and found["memory"]["verdict"] != "does not fit" else 1)
    return found


def understood(line: str, model: str = "llama-3.1-70b", **asked: Any) -> tuple[Any, Problem, list[str]]:
    """(layout, problem, warnings) of the words of ``line`` on 64 GPUs."""
    found = read_words(shlex.split(line))
    verdict = judge(Request(model=model, gpus=64, gpu="h100", **asked), found.raw, found.origins, figures=False)
    return verdict.layout, verdict.problem, list(verdict.notes)


SAME = [
    "tp=8 pp=4 vpp=5 cp=2 sp=true gbs=128 mbs=1",
    "tensor_model_parallel_size=8 pipeline_model_parallel_size=4 virtual_pipeline_model_parallel_size=5 "
    "context_parallel_size=2 sequence_parallel=1 global_batch_size=128 micro_batch_size=1",
    "model.tensor_model_parallel_size=8 model.pipeline_model_parallel_size=4 "
    "model.virtual_pipeline_model_parallel_size=5 model.context_parallel_size=2 model.sequence_parallel=True "
    "train.global_batch_size=128 train.micro_batch_size=1",
    "++model.tensor_model_parallel_size=8 +model.pipeline_model_parallel_size=4 model.context_parallel_size=2 "
    "model.virtual_pipeline_model_parallel_size=5 model.sequence_parallel=true train.global_batch_size=128",
    "--tensor-model-parallel-size 8 --pipeline-model-parallel-size 4 --num-virtual-stages-per-pipeline-rank 5 "
    "--context-parallel-size 2 --sequence-parallel --global-batch-size 128 --micro-batch-size 1",
    "--tensor-model-parallel-size=8 --pipeline-model-parallel-size=4 --num-layers-per-virtual-pipeline-stage 4 "
    "--context-parallel-size=2 --sequence-parallel --global-batch-size=128",
    "-tp 8 -pp 4 -vp 5 -cp 2 -gb 128 -mb 1 model.sequence_parallel=true",
    "TP=8 PP=4 VPP=5 CP=2 SP=true GBS=128",
    "tp=8 pp=4 vp=5 cp=2 sp=true m=64 dp=1",
]


@pytest.mark.parametrize("line", SAME[1:])
def test_every_spelling_is_the_same_layout(line):
    expected, _, _ = understood(SAME[0].replace("gbs=128", "gbs=64") if "m=64" in line else SAME[0])
    assert understood(line)[0] == expected


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("ddp.use_distributed_optimizer=false", "optimizer.use_distributed_optimizer=false"),
        ("ddp.overlap_grad_reduce=true", "comm_overlap.overlap_grad_reduce=true"),
        ("dist.use_tp_pp_dp_mapping=true", "--use-tp-pp-dp-mapping"),
        ("model.overlap_p2p_comm=false", "--no-overlap-p2p-communication"),
        ("comm_overlap.tp_comm_overlap=true", "model.tp_comm_overlap=true"),
        ("gradient_accumulation_fusion=false", "--no-gradient-accumulation-fusion"),
        ("rerun_state_machine.check_for_nan_in_loss=false", "--no-check-for-nan-in-loss-and-grad"),
        ("average_in_collective=true", "--ddp-average-in-collective"),
        ("use_te_rng_tracker=true", "rng.te_rng_tracker=true"),
        ("ddp.megatron_fsdp_version=2", "--megatron-fsdp-version 2"),
        ("cpu_offloading=true cpu_offloading_num_layers=2", "--cpu-offloading-num-layers 2"),
        ("recompute=selective", "--recompute-activations"),
        ("recompute=full", "recompute_granularity=full recompute_method=uniform recompute_num_layers=1"),
        ("recompute=full recompute_method=block", "recompute_method=block recompute=full recompute_num_layers=1"),
        ("model.recompute_modules=[mlp,moe]", "--recompute-modules mlp moe"),
        ("recompute_modules=mlp,moe", "recompute_modules=['mlp','moe']"),
        ("cp_comm_type=a2a", "--cp-comm-type a2a"),
        ("cp_comm_type=[p2p,a2a]", "--cp-comm-type p2p a2a"),
        ("hcp=[4,2]", "--hierarchical-context-parallel-sizes 4 2"),
        ("layout=Et*2|t*2L pp=2", "pp=2 model.pipeline_model_parallel_layout='\"Et*2|t*2L\"'"),
        ("layout=Ett|tL pp=2", "pp=2 layout=[[embedding,decoder,decoder],[decoder,loss]]"),
        ("first=3 last=4", "--decoder-first-pipeline-num-layers 3 --decoder-last-pipeline-num-layers 4"),
        ("vpp=null", "model.virtual_pipeline_model_parallel_size=null"),
        ("vpp=null", "--num-virtual-stages-per-pipeline-rank 1"),
        ("microbatch_group_size_per_vp_stage=8", "--microbatch-group-size-per-virtual-pipeline-stage 8"),
    ],
)
def test_switches_have_many_spellings(words, same):
    assert understood(same)[0] == understood(words)[0]


def test_expert_tensor_parallelism_defaults_as_bridge_does():
    assert understood("tp=4", "deepseek-v3")[0].etp == 4
    assert understood("tp=4 ep=8", "deepseek-v3")[0].etp == 1
    assert understood("tp=4 ep=8 etp=2", "deepseek-v3")[0].etp == 2


@pytest.mark.parametrize("word", ["dp=3", "edp=3"])
def test_a_number_of_replicas_that_the_gpus_do_not_make_is_wrong_for_a_dense_model_too(word):
    found = checked("llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "tp=2", "sp=true", word)
    assert [violation["rule"].removeprefix("mesh.world-") for violation in found["violations"]] == [
        "dense" if word == "dp=3" else "expert"
    ]
    assert checked("llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "tp=2", "sp=true", word.replace("3", "4"))["legal"]


def test_sequence_parallelism_without_tensor_parallelism_is_dropped_with_a_warning():
    layout, _, warnings = understood("tp=1 sp=true")
    assert not layout.sequence_parallel
    assert any("Megatron Bridge turns it off" in warning for warning in warnings)


def test_flex_with_no_backend_is_alltoall_as_bridge_has_it():
    line = "ep=8 model.moe_token_dispatcher_type=flex"
    layout, _, warnings = understood(f"{line} model.moe_flex_dispatcher_backend=null", model="qwen3-30b-a3b")
    assert layout.settings.moe_token_dispatcher_type == "alltoall"
    assert any("falls back to alltoall" in warning for warning in warnings)
    layout, _, _ = understood(line, model="qwen3-30b-a3b")
    assert layout.settings.moe_token_dispatcher_type == "flex"


def test_a_layout_string_implies_its_virtual_stages():
    assert understood("pp=2 layout=Et*20|t*20|t*20|t*20L")[0].vpp == 2
    assert understood("pp=4 layout=Et*20|t*20|t*20|t*20L")[0].vpp is None


def test_other_settings_are_ignored_and_mentioned():
    _, _, warnings = understood("tp=8 logger.log_interval=1 checkpoint.save=/x --lr 1e-4 --exit-on-missing-checkpoint")
    assert warnings == [
        "no layout decision, ignored: logger.log_interval, checkpoint.save, --lr, --exit-on-missing-checkpoint"
    ]


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("seq_length=8192", "seq_length", 8192),
        ("model.seq_length=8192", "seq_length", 8192),
        ("--seq-length 8192", "seq_length", 8192),
        ("-sl 8192", "seq_length", 8192),
        ("precision=fp8_mx", "precision", "fp8_mx"),
        ("mixed_precision=bf16_with_mxfp8_mixed", "precision", "fp8_mx"),
        ("mixed_precision=bf16-with-fp8-current-scaling-mixed", "precision", "fp8_cs"),
        ("--bf16 --fp8-format hybrid --fp8-recipe blockwise", "precision", "fp8_sc"),
        ("model.fp8=hybrid", "precision", "fp8_ds"),
        ("--bf16 --fp4-format e2m1", "precision", "nvfp4"),
        ("--fp16", "precision", "fp16"),
        ("gbs=96", "global_batch_size", 96),
        ("task=sft", "task", "sft"),
    ],
)
def test_words_of_the_request_count_where_the_request_says_nothing(word, name, value):
    _, problem, _ = understood(f"tp=8 {word}")
    assert getattr(problem, name) == value
    assert str(problem.origin(name)) == "command line"


def test_a_request_that_agrees_is_no_contradiction():
    _, problem, _ = understood("tp=8 model.seq_length=8192 --bf16", seq_length=8192, precision="fp8_cs")
    assert (problem.seq_length, problem.precision) == (8192, "fp8_cs")


def test_words_of_the_model_change_the_model_and_say_so():
    _, problem, warnings = understood(
        "tp=8 model.num_layers=16 --vocab-size 32000 --untie-embeddings-and-output-weights"
    )
    assert (problem.model.num_layers, problem.model.vocab_size) == (16, 32000)
    assert any("num_layers=16" in text and "llama-3.1-70b's num_layers=80" in text for text in warnings)


def test_words_of_the_model_that_agree_with_the_catalog_change_nothing():
    _, problem, warnings = understood("tp=8 --num-layers 80 --hidden-size 8192 --swiglu --disable-bias-linear")
    assert problem.model.num_layers == 80
    assert warnings == []


def test_null_takes_the_mtp_layers_away():
    assert understood("tp=8", "deepseek-v3")[1].model.mtp_num_layers == 1
    assert understood("tp=8 model.mtp_num_layers=null", "deepseek-v3")[1].model.mtp_num_layers is None


def test_the_number_of_gpus_follows_from_a_layout_that_says_dp():
    outcome = run(
        "check", "llama-3.1-70b", "--gpu", "h100", "--format", "json", "tp=8", "pp=4", "dp=2", "sp=true", "gbs=8"
    )
    assert json.loads(outcome.out)["legal"]


def test_every_broken_rule_is_named_in_one_pass_with_numbers_and_places():
    found = checked(*DEEPSEEK, "tp=2", "pp=16", "ep=64")
    broken = {violation["rule"]: violation for violation in found["violations"]}
    assert {"mesh.world-expert", "experts.moe-tp-needs-sp", "pipeline.pp-even"} <= set(broken)
    mesh = broken["mesh.world-expert"]
    assert "the smallest world is pp*max(tp*cp, ep*etp) = 1024" in mesh["reason"]
    assert mesh["facts"]["ep"] == {"value": 64, "origin": "command line"}
    assert mesh["facts"]["etp"] == {"value": 1, "origin": "derived"}
    assert mesh["facts"]["gpus"] == {"value": 256, "origin": "--gpus"}
    assert {"rule", "stratum", "statement", "facts", "enforced"} <= set(mesh)


def test_json_holds_the_whole_verdict():
    found = checked(*ASKED, "tp=8", "pp=4", "sp=true", "gbs=128")
    assert set(found) >= {"schema", "legal", "violations", "warnings", "memory", "time", "nearest"}
    assert found["legal"] and found["violations"] == [] and found["nearest"] is None
    assert found["memory"]["verdict"] == "fits"


def test_the_nearest_legal_layout_changes_least():
    found = checked(*ASKED, "tp=8", "pp=3", "sp=true", "gbs=128")
    assert not found["legal"]
    assert found["nearest"]["changes"] == {"pp": {"from": 3, "to": 2}}
    assert (found["nearest"]["tp"], found["nearest"]["pp"]) == (8, 2)


def test_single_changes_say_what_would_do_alone():
    found = checked(*ASKED, "tp=8", "pp=3", "sp=true", "gbs=128")
    assert [one["change"] for one in found["single_changes"]] == [{"pp": pp} for pp in (2, 4, 1, 8)]
    assert found["single_changes"][0]["step_seconds"] == found["nearest"]["time"]["step_seconds"]
    fine = checked(*ASKED, "tp=8", "pp=4", "sp=true", "gbs=128")
    assert fine["single_changes"] == []


def test_files_say_where_each_value_stood(tmp_path):
    path = tmp_path / "layout.yaml"
    path.write_text(
        "# mine\nmodel:\n  tensor_model_parallel_size: 8\n  num_layers_in_first_pipeline_stage: 7\n"
        "train:\n  global_batch_size: 128\n"
    )
    found = checked(*ASKED, f"@{path}", "pp=4")
    broken = next(violation for violation in found["violations"] if violation["rule"] == "pipeline.pp-first-last")
    assert "first=7" in broken["reason"]
    batch = next(v for v in checked(*ASKED, f"@{path}", "pp=4", "mbs=3")["violations"] if v["rule"] == "batch.gbs")
    assert batch["facts"]["global_batch_size"]["origin"] == f"{path}:6:3"


def test_pasted_scripts_are_read(tmp_path):
    path = tmp_path / "run.sh"
    path.write_text(
        "export CUDA_DEVICE_MAX_CONNECTIONS=1\n"
        "# what we ran last week\n"
        "torchrun --nproc_per_node=8 pretrain_gpt.py \\\n"
        "  --tensor-model-parallel-size 8 \\\n"
        "  --pipeline-model-parallel-size 4 --sequence-parallel \\\n"
        "  --data-path a b c --global-batch-size 128\n"
    )
    found = checked(*ASKED, f"@{path}")
    assert found["legal"]
    assert found["warnings"][0] == "no layout decision, ignored: --data-path"


@pytest.mark.parametrize(
    "script",
    [
        "uv run python -m torch.distributed.run --nproc_per_node=8 scripts/training/run_recipe.py --recipe x {words}",
        "#!/bin/bash\nset -euo pipefail\ncd /opt/bridge\nsrun --mpi=pmix python run_recipe.py --model x {words}\necho done",
        "./scripts/training/train.sh --nodes 1 {words}",
        "A=1 B=2 python3 run.py \\\n  {words}",
        "export A=1\n{words}",
        "{words}",
    ],
)
def test_commands_are_read_from_their_script_on(script, tmp_path):
    path = tmp_path / "run.sh"
    path.write_text(
        script.format(words="-tp 8 model.pipeline_model_parallel_size=4 model.sequence_parallel=true -gb 128")
    )
    found = read_words([f"@{path}"])
    layout = judge(Request(model="llama-3.1-70b", gpus=64, gpu="h100"), found.raw, found.origins).layout
    assert (layout.tp, layout.pp, layout.sequence_parallel, layout.global_batch_size) == (8, 4, True, 128)


def test_what_bridge_dumps_is_read(tmp_path):
    path = tmp_path / "run_config.yaml"
    path.write_text(
        "_target_: megatron.bridge.training.config.ConfigContainer\n"
        "model:\n  _target_: megatron.bridge.models.GPTModelProvider\n  tensor_model_parallel_size: 8\n"
        "  pipeline_model_parallel_size: 4\n  virtual_pipeline_model_parallel_size: null\n  sequence_parallel: true\n"
        "  num_layers: 80\n  seq_length: 8192\n  activation_func: {_target_: silu}\n"
        "train:\n  global_batch_size: 128\n  micro_batch_size: 1\nmixed_precision: {bf16: true, fp8: null}\n"
        "comm_overlap: null\npeft: null\n"
    )
    outcome = run("check", *ASKED, "--format", "json", f"@{path}")
    assert json.loads(outcome.out)["legal"], outcome.out


def test_a_report_of_solve_answers_for_itself(tmp_path):
    path = tmp_path / "report.json"
    solved = run(
        "solve",
        "llama-3.1-8b",
        "--gpus",
        "8",
        "--gpu",
        "h100",
        "--seq-length",
        "8192",
        "--format",
        "json",
        "-o",
        str(path),
    )
    assert solved.code == 0, solved.err
    found = json.loads(run("check", "--format", "json", f"@{path}").out)
    report = json.loads(path.read_text())
    assert found["legal"]
    assert found["memory"] == report["layouts"][0]["memory"]


def test_a_report_of_solve_can_be_judged_on_other_machines(tmp_path):
    path = tmp_path / "report.json"
    run("solve", "llama-3.1-8b", "--gpus", "8", "--gpu", "h100", "--format", "json", "-o", str(path))
    outcome = run("check", "llama-3.1-8b", "--gpus", "8", "--gpu", "a100-40gb", "--format", "json", f"@{path}")
    assert json.loads(outcome.out)["memory"]["budget_gib"] < 40


def test_the_request_may_stand_in_a_file(tmp_path):
    path = tmp_path / "request.yaml"
    path.write_text("model: llama-3.1-70b\ngpus: 64\ngpu: h100\nglobal-batch-size: 128\n")
    alone = run("check", "--request", str(path), "tp=8", "pp=4", "sp=true")
    assert (alone.code, alone.err) == (0, ""), alone


@pytest.mark.parametrize(
    "layout", ["layout: {tp: 8, pp: 4, sp: true}", "layout: tp=8 pp=4 sp=true", "layout: [tp=8, pp=4, sp=true]"]
)
def test_the_layout_may_stand_in_the_request_file(layout, tmp_path):
    path = tmp_path / "request.yaml"
    path.write_text(f"model: llama-3.1-70b\ngpus: 64\ngpu: h100\nglobal_batch_size: 128\n{layout}\n")
    assert run("check", "--request", str(path)).code == 0
    assert run("check", "--request", str(path), "pp=3").code == 1, "the command line's word goes before the file's"


def test_a_batch_that_the_request_forbids_is_a_warning():
    found = checked(*ASKED, "--global-batch-size", "64", "tp=8", "pp=4", "sp=true", "gbs=128")
    assert any(warning.startswith("batch.requested") for warning in found["warnings"])
