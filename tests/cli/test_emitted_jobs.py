"""What an emitted job runs with is what was judged: nothing is left to a recipe, to the environment or to a default."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest

from cli.emit import bridge, bridge_python, megatron_lm
from cli.emit.fields import bridge_fields
from cli.emit.launch import environment
from constraints.layout import Layout, Settings
from constraints.memory.overhead import margin_bytes
from constraints.precision_names import MIXED_PRECISION, PRECISIONS, RECIPE_SWITCHES
from constraints.problem import Problem
from models_catalog.loader import load_gpu
from tests.rules.builders import gpu, model, moe, problem

DATA_PARALLEL = Layout(dp=64, edp=64, gpus=64, global_batch_size=64, num_microbatches=1)
EXPERTS = replace(DATA_PARALLEL, ep=8, edp=8)


def with_switches(layout: Layout = DATA_PARALLEL, **switches: Any) -> Layout:
    return replace(layout, settings=Settings(**switches))


def told(layout: Layout, asked: Problem | None = None) -> dict[str, Any]:
    """The fields that Bridge is told."""
    return dict(bridge_fields(asked or problem(), layout))


def test_what_recipes_set_otherwise_is_said_at_its_default_too() -> None:
    """deepseek_v3_pretrain_config has bf16 moments and gradients, and overlaps its shared expert."""
    spec = moe(moe_shared_expert_intermediate_size=512)
    said = told(EXPERTS, problem(spec))
    assert said["optimizer.use_precision_aware_optimizer"] is False
    assert {said[f"optimizer.{name}_dtype"] for name in ("main_grads", "main_params", "exp_avg", "exp_avg_sq")} == {
        "fp32"
    }
    assert said["model.moe_shared_expert_overlap"] is False
    assert said["model.overlap_moe_expert_parallel_comm"] is False
    assert said["model.cross_entropy_fusion_impl"] == "te"
    assert "model.moe_shared_expert_overlap" not in told(DATA_PARALLEL)


def test_what_matters_only_with_a_degree_is_said_with_it() -> None:
    spread = replace(DATA_PARALLEL, cp=2, pp=2, vpp=2, dp=16, edp=32)
    assert told(spread)["model.cp_comm_type"] is None
    assert told(spread)["model.microbatch_group_size_per_vp_stage"] is None
    assert not {"model.cp_comm_type", "model.microbatch_group_size_per_vp_stage"} & told(DATA_PARALLEL).keys()
    per_token = with_switches(spread, calculate_per_token_loss=True)
    assert told(per_token)["ddp.average_in_collective"] is False


def test_number_formats_have_the_names_that_every_bridge_reads() -> None:
    """Before 0.6, Bridge looks the last part up in ``torch``: ``fp32`` would stay a word, and be refused."""
    text = bridge.emit(problem(), with_switches(use_precision_aware_optimizer=True, exp_avg_dtype="bf16"))
    assert "optimizer.exp_avg_dtype=bfloat16" in text
    assert "optimizer.main_params_dtype=float32" in text


def test_the_plain_optimizer_is_said_to_both_containers() -> None:
    """Bridge sets both where one of them is set (``_validate_and_sync_distributed_optimizer_settings``)."""
    said = told(with_switches(use_distributed_optimizer=False))
    for container in ("ddp", "optimizer"):
        assert said[f"{container}.use_distributed_optimizer"] is False
        assert said[f"{container}.overlap_param_gather"] is False


def test_fsdp_has_its_own_checkpoints() -> None:
    sharded = with_switches(use_megatron_fsdp=True, data_parallel_sharding_strategy="optim_grads_params")
    assert told(sharded)["checkpoint.ckpt_format"] == "fsdp_dtensor"
    assert "--ckpt-format fsdp_dtensor" in megatron_lm.emit(problem(), sharded)
    second = told(with_switches(use_megatron_fsdp=True, use_megatron_fsdp_v2=True))
    assert (second["checkpoint.save"], second["optimizer.clip_grad"]) == (None, 0.0)
    assert not [path for path in told(DATA_PARALLEL) if path.startswith("checkpoint.")]


def test_megatron_lm_offloads_by_the_precision_aware_optimizer() -> None:
    offloaded = with_switches(optimizer_cpu_offload=True, optimizer_offload_fraction=0.5)
    assert "--use-precision-aware-optimizer" in megatron_lm.emit(problem(), offloaded)
    assert "--use-precision-aware-optimizer" not in megatron_lm.emit(problem(), DATA_PARALLEL)
    assert told(offloaded)["optimizer.use_precision_aware_optimizer"] is False


@pytest.mark.parametrize(("said", "backend"), [(None, "deepep"), ("hybridep", "hybridep")])
def test_flex_names_the_backend_that_it_was_judged_with(said: str | None, backend: str) -> None:
    asked = problem(moe())
    flex = with_switches(EXPERTS, moe_token_dispatcher_type="flex", moe_flex_dispatcher_backend=said)
    assert told(flex, asked)["model.moe_flex_dispatcher_backend"] == backend
    named = replace(flex.settings, moe_flex_dispatcher_backend=backend)
    margins = [margin_bytes(replace(asked, settings=each), 1 << 30, 3) for each in (flex.settings, named)]
    assert margins[0] == margins[1]
    assert margins[0]["dispatcher"] > 0


def test_gradients_in_bf16_are_said_to_the_precision_that_would_undo_them() -> None:
    """``mixed_precision`` is laid over ddp when the job starts; only the object takes another value."""
    asked, layout = problem(), with_switches(grad_reduce_in_fp32=False)
    assert "# bf16_mixed sets its own grad_reduce_in_fp32=false" not in bridge.emit(asked, DATA_PARALLEL)
    assert "# bf16_mixed sets its own grad_reduce_in_fp32=false" in bridge.emit(asked, layout)
    text = bridge_python.emit(asked, layout)
    assert "precision.grad_reduce_in_fp32 = False" in text
    ast.parse(text)


def test_what_a_precisions_recipe_does_beside_is_mentioned() -> None:
    note = "fp8_param_gather=true, first_last_layers_bf16=true, which this layout was not judged with"
    for emit in (bridge.emit, bridge_python.emit):
        assert note in emit(problem(precision="fp8_cs"), DATA_PARALLEL)
        assert "not judged with" not in emit(problem(), DATA_PARALLEL)
        gathered = with_switches(fp8_param_gather=True, first_last_layers_bf16=True)
        assert "not judged with" not in emit(problem(precision="fp8_cs"), gathered)


def test_every_precision_has_its_recipes_switches() -> None:
    assert set(RECIPE_SWITCHES) == set(MIXED_PRECISION) == set(PRECISIONS)


@pytest.mark.parametrize(
    ("asked", "switches", "said"),
    [
        ({}, {}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        ({"expandable_segments": False}, {}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}),
        ({}, {"cuda_graph_impl": "transformer_engine"}, {"NCCL_GRAPH_REGISTER": "0"}),
        ({"gpu": load_gpu("mi355x"), "precision": "fp8_mx"}, {}, {"NVTE_ROCM_ENABLE_MXFP8": "1"}),
    ],
)
def test_the_environment_is_that_of_the_estimate(
    asked: dict[str, Any], switches: dict[str, Any], said: dict[str, str]
) -> None:
    case, layout = problem(**asked), with_switches(**switches)
    assert said.items() <= environment(case, layout).items()
    for text in (bridge.emit(case, layout), megatron_lm.emit(case, layout)):
        assert all(f"{name}={value} " in text for name, value in said.items())


@pytest.mark.parametrize(
    ("architecture", "one_queue"),
    [
        ("hopper", True),
        ("sm_90", True),
        ("8.0", True),
        ("blackwell", False),
        ("sm_120", False),
        ("cdna3", False),
        ("?", False),
    ],
)
def test_one_hardware_queue_is_for_nvidia_before_blackwell(architecture: str, one_queue: bool) -> None:
    split = replace(DATA_PARALLEL, tp=2, dp=32, edp=32, etp=2)
    found = environment(problem(gpu=gpu(architecture=architecture)), split)
    assert ("CUDA_DEVICE_MAX_CONNECTIONS" in found) == one_queue


EVIL = 'x"""\nimport os\rtouch /tmp/P #\x1b\u2028$(touch /tmp/P)`touch /tmp/P`\\'


def test_a_name_stays_in_its_comment_whatever_it_holds() -> None:
    """Names are refused where they are read; a library call may bring its own."""
    asked = problem(model(name=EVIL), gpu=gpu(name=EVIL))
    layout = with_switches(packed_sequences=EVIL)
    for emit in (bridge.emit, megatron_lm.emit):
        lines = emit(asked, layout).splitlines()
        first = next(place for place, line in enumerate(lines) if not line.startswith("#"))
        assert "torch.distributed.run" in lines[first]
        assert all(line.startswith("  ") for line in lines[first + 1 :])
        assert not any("touch" in line for line in lines[first:])
    tree = ast.parse(bridge_python.emit(asked, layout))
    assert [type(node) for node in tree.body] == [ast.Expr, ast.Import, ast.FunctionDef]
    assert [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names] == ["torch"]
