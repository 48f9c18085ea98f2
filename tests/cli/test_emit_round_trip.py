"""What is emitted is read back as the same layout, in every format; and Bridge's parser would read it too."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cli.emit import bridge, bridge_python, megatron_lm
from cli.emit import yaml as yaml_format
from cli.emit.fields import bridge_fields, emitted_settings
from cli.emit.recipes import PLACEHOLDER, recipe_of
from cli.read.files import take_file
from cli.read.words import Words
from constraints.layout import Layout, PipelineSplit, Recompute, Settings
from constraints.pipeline.placement import place
from constraints.precision_names import PRECISIONS
from constraints.problem import Origin, Problem
from models_catalog.loader import model_names
from solver.answer import answer_of
from solver.judgement import judge
from solver.request import Request
from tests.rules.builders import hybrid, mla, model, moe, problem

FORMATS = {
    "bridge": bridge.emit,
    "bridge-python": bridge_python.emit,
    "megatron-lm": megatron_lm.emit,
    "yaml": yaml_format.emit,
}
TOLD = {
    "bridge": emitted_settings,
    "bridge-python": emitted_settings,
    "megatron-lm": megatron_lm.emitted_settings,
}
"""The switches that a format says, where they are not just the layout's."""
MODELS = {
    "dense": model(),
    "moe": moe(),
    "mla": mla(num_layers=61),
    "mtp": moe(name="mtp", mtp_num_layers=1),
    "hybrid": hybrid(),
}


def read_back(text: str, asked: Problem, tmp_path: Any) -> tuple[Layout, Problem]:
    """What ``check @FILE`` makes of ``text``, asked about the same machine and nothing else."""
    path = tmp_path / "layout"
    path.write_text(text, encoding="utf-8")
    words = Words()
    take_file(str(path), words)
    request = Request(
        gpus=asked.gpus,
        gpu="h100",
        **{name: words.asked[name] for name in ("seq_length", "precision") if name in words.asked},
    )
    verdict = judge(request, words.raw, words.origins, model=asked.model, gpu=asked.gpu, figures=False)
    return verdict.layout, verdict.problem


def shell_words(command: str) -> list[str]:
    """As a shell splits it."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


def difference(found: Layout, told: Layout) -> dict[str, tuple[Any, Any]]:
    """The fields that are not the same."""
    names = [f.name for f in fields(Layout) if f.name != "settings"]
    out = {name: (getattr(found, name), getattr(told, name)) for name in names}
    out |= {f.name: (getattr(found.settings, f.name), getattr(told.settings, f.name)) for f in fields(Settings)}
    return {name: pair for name, pair in out.items() if pair[0] != pair[1]}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Problem, Layout]:
    """A problem and a layout of it: any degrees, any form of the split, any recompute, some switches."""
    spec = MODELS[draw(st.sampled_from(sorted(MODELS)))]
    tp, pp, cp, dp = (draw(st.sampled_from([1, 2, 3, 4, 8])) for _ in range(4))
    gpus = tp * pp * cp * dp
    ep, etp = (draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([1, 2]))) if spec.is_moe else (1, tp)
    assume(gpus % (ep * etp * pp) == 0)
    vpp = draw(st.sampled_from([None, None, 1, 2, 4])) if pp > 1 else None
    mbs, count = draw(st.integers(1, 4)), draw(st.integers(1, 64))
    asked = problem(
        spec,
        gpus=gpus,
        seq_length=draw(st.sampled_from([4096, 8192])),
        precision=draw(st.sampled_from(PRECISIONS)),
    )
    answer = Layout(
        tp=tp,
        pp=pp,
        vpp=vpp,
        cp=cp,
        ep=ep,
        etp=etp,
        dp=dp,
        edp=gpus // (ep * etp * pp),
        sequence_parallel=tp > 1 and draw(st.booleans()),
        micro_batch_size=mbs,
        num_microbatches=count,
        global_batch_size=mbs * dp * count,
        gpus=gpus,
        split=draw(splits(spec, pp, vpp or 1)),
        recompute=draw(st.sampled_from(RECOMPUTES)),
        settings=draw(switches()),
    )
    return asked, answer


RECOMPUTES = [
    Recompute(),
    Recompute("full", "uniform", 1),
    Recompute("full", "block", 4),
    Recompute("selective"),
    Recompute("selective", modules=("core_attn",)),
    Recompute("selective", modules=("mlp", "layernorm", "moe_act")),
]


@st.composite
def splits(draw: st.DrawFn, spec: Any, pp: int, vpp: int) -> PipelineSplit:
    kind = draw(st.sampled_from(["even", "account", "first-last", "layout", "placed"]))
    if kind == "account":
        return PipelineSplit(account_for_embedding=draw(st.booleans()), account_for_loss=True)
    if kind == "first-last":
        return PipelineSplit(first=draw(st.integers(1, 9)), last=draw(st.one_of(st.none(), st.integers(1, 9))))
    placed = place(spec, pp, vpp) if kind in ("layout", "placed") else None
    if placed is None:
        return PipelineSplit()
    return placed[1] if kind == "placed" else PipelineSplit(layout=placed[0].text())


SWITCHES: dict[str, list[Any]] = {
    "cp_comm_type": ["a2a", "a2a+p2p", "all_gather", ("p2p", "a2a")],
    "hierarchical_context_parallel_sizes": [(4, 2)],
    "microbatch_group_size_per_vp_stage": [6],
    "num_distributed_optimizer_instances": [2],
    "moe_token_dispatcher_type": ["flex", "allgather"],
    "moe_flex_dispatcher_backend": ["deepep", "hybridep"],
    "moe_expert_capacity_factor": [1.0, 1.25],
    "cuda_graph_impl": ["transformer_engine"],
    "cuda_graph_modules": [("attn", "moe_router")],
    "cpu_offloading_num_layers": [3],
    "overlap_p2p_comm": [True, False],
    "batch_p2p_comm": [True, False],
    "packed_sequences": ["offline"],
    "data_parallel_sharding_strategy": ["optim_grads_params"],
    "wgrad_deferral_limit": [5],
    "num_layers_at_start_in_bf16": [0, 3],
    "optimizer": ["dist_muon"],
    "main_grads_dtype": ["bf16"],
    "main_params_dtype": ["fp16"],
    "exp_avg_dtype": ["bf16", "fp8"],
    "exp_avg_sq_dtype": ["bf16"],
    "optimizer_offload_fraction": [0.5],
    "cross_entropy_fusion_impl": ["native"],
    "attention_backend": ["unfused", "flash"],
    "hidden_dropout": [0.1],
    "attention_dropout": [0.1],
}


@st.composite
def switches(draw: st.DrawFn) -> Settings:
    """Up to four switches away from their defaults, each kind of value among them."""
    free = [f for f in fields(Settings) if f.name != "dataset_seq_length"]
    chosen = draw(st.lists(st.sampled_from(free), max_size=4, unique_by=lambda f: f.name))
    values: dict[str, Any] = {}
    for field in chosen:
        given_values = SWITCHES.get(field.name)
        if given_values is None and isinstance(field.default, bool | None):
            given_values = [True, False] if field.default is None else [not field.default]
        if given_values:
            values[field.name] = draw(st.sampled_from(given_values))
    if not values.get("cpu_offloading"):
        values.pop("cpu_offloading_num_layers", None)  # says nothing without it
    return Settings(**values)


@pytest.mark.parametrize("name", sorted(FORMATS))
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=layouts())
def test_every_format_is_read_back_as_the_same_layout(name, case, tmp_path):
    asked, layout = case
    text = FORMATS[name](asked, layout)
    found, of = read_back(text, asked, tmp_path)
    told = replace(layout, settings=TOLD[name](asked, layout)) if name in TOLD else layout
    assert difference(found, told) == {}, text
    assert (of.seq_length, of.precision, of.model) == (asked.seq_length, asked.precision, asked.model)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=layouts())
def test_json_of_solve_is_read_back_as_the_same_layout(case, tmp_path):
    asked, layout = case
    placed = place(asked.model, layout.pp, layout.chunks_per_rank)
    assume(placed is not None and layout.split == placed[1])
    answer = answer_of(asked, layout)
    assume(answer is not None)
    request = {"seq_length": {"value": asked.seq_length}, "precision": {"value": asked.precision}}
    text = json.dumps({"request": request, "layouts": [answer.to_mapping(1)]})
    found, of = read_back(text, asked, tmp_path)
    assert difference(found, layout) == {}
    assert (of.seq_length, of.precision) == (asked.seq_length, asked.precision)


_PRIMITIVE = re.compile(r'[A-Za-z_][A-Za-z0-9_]*|-?[0-9]+(\.[0-9]+)?|"[^"\\]*"')


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=layouts())
def test_bridge_overrides_are_words_of_hydras_grammar(case):
    for word in shell_words(bridge.emit(*case)):
        if word.startswith(
            (
                "model.",
                "train.",
                "ddp.",
                "dist.",
                "checkpoint.",
                "dataset.",
                "optimizer.",
                "rerun_state_machine.",
                "mixed",
            )
        ):
            value = word.split("=", 1)[1]
            items = value[1:-1].split(",") if value.startswith("[") else [value]
            assert all(_PRIMITIVE.fullmatch(item) for item in items if value != "[]"), word


@given(case=layouts())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_no_override_opens_a_container_that_a_recipe_may_leave_empty(case):
    sections = {path.split(".")[0] for path, _ in bridge_fields(*case)}
    assert sections <= {
        "model",
        "train",
        "ddp",
        "checkpoint",
        "dist",
        "dataset",
        "optimizer",
        "rerun_state_machine",
        "mixed_precision",
    }


def test_expert_tensor_parallelism_is_always_said_and_no_interleaving_is_null():
    asked, layout = problem(), Layout(tp=4, pp=2, dp=8, edp=8, etp=4, gpus=64, global_batch_size=8)
    for name, emit in FORMATS.items():
        text = emit(asked, layout)
        assert re.search(r"expert.tensor.parallel.size\W+4", text), name
        assert not re.search(r"virtual[^\n]*\b1\b", text), name
    assert "virtual_pipeline_model_parallel_size=null" in bridge.emit(asked, layout)
    assert "virtual" not in megatron_lm.emit(asked, layout)


def test_the_guides_smoke_run():
    """NVIDIA's guide: 4 GPUs, llama32_1b recipe, TP2 PP2 with sequence parallelism, global batch 8, micro-batch 1."""
    from models_catalog.loader import load_gpu, load_model

    asked = problem(load_model("llama-3.2-1b"), gpu=load_gpu("h100"), gpus=4, seq_length=4096)
    layout = Layout(
        tp=2,
        pp=2,
        etp=1,
        edp=2,
        sequence_parallel=True,
        micro_batch_size=1,
        num_microbatches=8,
        global_batch_size=8,
        gpus=4,
    )
    words = shell_words(bridge.emit(asked, layout))
    assert words[:9] == [
        "CUDA_DEVICE_MAX_CONNECTIONS=1",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        "python",
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=4",
        "scripts/training/run_recipe.py",
        "--recipe",
        "llama32_1b_pretrain_config",
    ]
    overrides = dict(word.split("=", 1) for word in words[9:])
    assert overrides == {
        "model.tensor_model_parallel_size": "2",
        "model.pipeline_model_parallel_size": "2",
        "model.virtual_pipeline_model_parallel_size": "null",
        "model.context_parallel_size": "1",
        "model.expert_model_parallel_size": "1",
        "model.expert_tensor_parallel_size": "1",
        "model.sequence_parallel": "true",
        "model.pipeline_model_parallel_layout": "null",
        "model.num_layers_in_first_pipeline_stage": "null",
        "model.num_layers_in_last_pipeline_stage": "null",
        "model.account_for_embedding_in_pipeline_split": "false",
        "model.account_for_loss_in_pipeline_split": "false",
        "model.recompute_granularity": "null",
        "model.recompute_method": "null",
        "model.recompute_num_layers": "null",
        "train.micro_batch_size": "1",
        "train.global_batch_size": "8",
        "model.seq_length": "4096",
        "dataset.seq_length": "4096",
        "mixed_precision": "bf16_mixed",
        "ddp.use_distributed_optimizer": "true",
        "ddp.num_distributed_optimizer_instances": "1",
        "ddp.use_megatron_fsdp": "false",
        "ddp.grad_reduce_in_fp32": "true",
        "model.cuda_graph_impl": "none",
        "model.cross_entropy_loss_fusion": "true",
        "model.cross_entropy_fusion_impl": "te",
        "optimizer.optimizer": "adam",
        "optimizer.optimizer_cpu_offload": "false",
        "optimizer.use_precision_aware_optimizer": "false",
        "optimizer.main_grads_dtype": "float32",
        "optimizer.main_params_dtype": "float32",
        "optimizer.exp_avg_dtype": "float32",
        "optimizer.exp_avg_sq_dtype": "float32",
    }


def test_several_nodes_are_numbered_by_the_shell_and_a_part_of_one_is_mentioned():
    asked, layout = problem(gpus=12), Layout(dp=12, edp=12, gpus=12, global_batch_size=12, num_microbatches=1)
    text = bridge.emit(asked, layout)
    assert "--nnodes=2 --node_rank=$NODE_RANK --master_addr=$MASTER_ADDR --nproc_per_node=8 " in text
    assert "# the last of 2 nodes runs 4 processes: start it with --nproc_per_node=4" in text


@pytest.mark.parametrize("task", ["pretrain", "sft", "lora"])
def test_recipes_are_those_of_catalog_models(task):
    named = [name for name in model_names() if recipe_of(name, task) != PLACEHOLDER]
    assert {"llama-3.1-70b", "qwen3-235b-a22b"} <= set(named)
    assert recipe_of("deepseek-v3", task) == (PLACEHOLDER if task != "pretrain" else "deepseek_v3_pretrain_config")


def test_overlap_switches_are_also_set_where_a_recipe_would_override_them():
    asked = problem()
    layout = Layout(pp=4, vpp=2, dp=16, edp=16, gpus=64, num_microbatches=8, global_batch_size=128)
    text = bridge_python.emit(asked, layout)
    assert "    if cfg.comm_overlap is not None:" in text
    assert "        cfg.comm_overlap.overlap_p2p_comm = True" in text
    assert "# a recipe with comm_overlap lays it over model.overlap_p2p_comm" in bridge.emit(asked, layout)
    compile(text, "layout.py", "exec")


def test_a_switch_without_a_flag_survives_in_a_comment():
    asked = problem(origins={"mtp_num_layers": Origin("flag", "--pin")})
    layout = Layout(
        dp=64,
        edp=64,
        gpus=64,
        global_batch_size=64,
        num_microbatches=1,
        settings=Settings(use_distributed_optimizer=False),
    )
    text = megatron_lm.emit(asked, layout)
    assert "# meshwright: use_distributed_optimizer=false\n" in text
    assert "# meshwright: mtp_num_layers=null\n" in text
