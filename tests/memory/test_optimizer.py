"""What a parameter costs while training: 6 + 12/Z bytes with the distributed optimizer, Z the ranks of its own group."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.memory.optimizer import dense_shards, expert_shards, step_bytes, training_bytes
from constraints.memory.parameters import dense_parameters, embedding_parameters, expert_parameters
from models_catalog.schema import ModelSpec
from tests.memory.asking import DENSE, INTEGERS, MOE, ranks
from tests.rules.builders import gpu, model, moe, problem, said

BF16 = {"grad_reduce_in_fp32": False}
AWARE = {"use_precision_aware_optimizer": True}
MOMENTS = AWARE | {"exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "bf16"}
BLACKWELL = {"gpu": gpu(architecture="blackwell")}

COSTS: list[tuple[str, dict[str, Any], int, tuple[int, int, int]]] = [
    # 1000 weights of GEMMs and how many ranks share their state: parameter, gradient and optimizer bytes
    ("18 bytes on one rank", {}, 1, (2000, 4000, 12000)),
    ("6 + 12/4", {}, 4, (2000, 4000, 3000)),
    ("rounded up", {}, 7, (2000, 4000, 1715)),
    ("fp16", {"precision": "fp16"}, 4, (2000, 4000, 3000)),
    ("fine-tuning costs the same", {"task": "sft"}, 4, (2000, 4000, 3000)),
    ("fp32 parameters are their own master", {"precision": "fp32"}, 4, (4000, 4000, 2000)),
    ("bf16 gradients", BF16, 4, (2000, 2000, 3000)),
    ("two bf16 moments beside the fp32 master", MOMENTS, 4, (2000, 4000, 2000)),
    ("delayed fp8: the parameter is half of its master", MOMENTS | {"precision": "fp8_ds"}, 4, (4000, 4000, 1500)),
    (
        "half of the moments on the host",
        {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 0.5},
        4,
        (2000, 4000, 2000),
    ),
    ("Muon keeps one momentum", {"optimizer": "muon"}, 4, (2000, 4000, 2000)),
    ("fp8 on Hopper: a copy and its transpose", {"precision": "fp8_cs"}, 4, (4000, 4000, 3000)),
    ("fp8 on Blackwell: a copy", {"precision": "fp8_cs"} | BLACKWELL, 4, (3000, 4000, 3000)),
    ("mxfp8: rows and columns, each with scales", {"precision": "fp8_mx"}, 4, (4063, 4000, 3000)),
    ("fp4: half a byte twice, and scales", {"precision": "nvfp4"}, 4, (3125, 4000, 3000)),
    ("gathered in fp8: no bf16 parameter", {"precision": "fp8_cs", "fp8_param_gather": True}, 4, (2000, 4000, 3000)),
    ("Megatron FSDP splits everything", {"use_megatron_fsdp": True}, 4, (500, 1000, 3000)),
    (
        "sharded gradients only",
        {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads"},
        4,
        (2000, 1000, 3000),
    ),
]


@pytest.mark.parametrize(("words", "shards", "sizes"), [case[1:] for case in COSTS], ids=[case[0] for case in COSTS])
def test_a_thousand_weights(words: dict[str, Any], shards: int, sizes: tuple[int, int, int]) -> None:
    found = training_bytes(INTEGERS, problem(**words), 1000, 0, shards)
    assert found == dict(zip(("parameters", "gradients", "optimizer"), sizes, strict=True))


@pytest.mark.parametrize("precision", ["bf16", "fp8_cs", "fp8_mx", "nvfp4"])
def test_what_is_no_gemm_weight_has_no_low_precision_copy(precision: str) -> None:
    assert training_bytes(INTEGERS, problem(precision=precision), 0, 1000, 4)["parameters"] == 2000


def test_frozen_weights_have_neither_gradient_nor_optimizer_state() -> None:
    found = training_bytes(INTEGERS, problem(task="lora"), 1000, 0, 4)
    assert found == {"parameters": 2000, "gradients": 0, "optimizer": 0}


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({}, 0),
        (BF16, 1000),  # an fp32 copy of the owned gradients
        (BF16 | AWARE, 1000),  # Bridge's fp8_recipe is tensorwise in bf16 too: the trap
        (BF16 | MOMENTS | {"precision": "fp8_ds"}, 0),  # taken as they are
        (MOMENTS, 0),  # two bf16 moments are fused
        (AWARE | {"exp_avg_dtype": "bf16"}, 1000),  # a mixed pair is not
        (AWARE | {"exp_avg_dtype": "fp8", "exp_avg_sq_dtype": "fp16"}, 2000),
        ({"precision": "fp32"}, 0),
        (BF16 | {"task": "lora"}, 0),
    ],
)
def test_what_lives_only_during_the_step(words: dict[str, Any], size: int) -> None:
    assert step_bytes(INTEGERS, problem(**words), 1000, 4) == size


def test_dense_parameters_shard_over_dp_and_cp_and_experts_over_their_own_group() -> None:
    asked = said(moe(), gpus=64, tp=2, cp=4, ep=8)
    assert dense_shards(INTEGERS, *asked) == 8 * 4
    assert expert_shards(INTEGERS, *asked) == 8


def test_without_the_distributed_optimizer_nothing_is_split() -> None:
    asked = said(moe(), gpus=64, tp=2, cp=4, ep=8, use_distributed_optimizer=False)
    assert dense_shards(INTEGERS, *asked) == expert_shards(INTEGERS, *asked) == 1


def total(spec: ModelSpec, **words: Any) -> int:
    """Parameters, gradients and optimizer state of the only rank of a pipeline."""
    (parts,) = ranks(spec, **words)
    return parts["parameters"] + parts["gradients"] + parts["optimizer"]


@pytest.mark.parametrize(("tp", "cp", "shards"), [(1, 1, 64), (2, 1, 32), (8, 1, 8), (8, 2, 8), (8, 8, 8)])
def test_a_dense_model_costs_6_and_12_over_z_bytes_a_parameter(tp: int, cp: int, shards: int) -> None:
    asked = said(model(), tp=tp, cp=cp)
    elements = 32 * dense_parameters(INTEGERS, *asked, DENSE) + 2 * embedding_parameters(INTEGERS, *asked)
    assert total(model(), tp=tp, cp=cp) == pytest.approx(elements * (6 + 12 / shards), rel=1e-7)


def test_an_moe_model_has_two_such_sums() -> None:
    words = {"gpus": 64, "tp": 2, "ep": 16, "sequence_parallel": True}
    asked = said(moe(), **words)
    dense = 48 * dense_parameters(INTEGERS, *asked, MOE) + 2 * embedding_parameters(INTEGERS, *asked)
    experts = 48 * expert_parameters(INTEGERS, *asked, MOE)
    assert total(moe(), **words) == pytest.approx(dense * (6 + 12 / 32) + experts * (6 + 12 / 4), rel=1e-7)


def test_a_plain_optimizer_costs_18_bytes_a_parameter() -> None:
    asked = said(model())
    elements = 32 * dense_parameters(INTEGERS, *asked, DENSE) + 2 * embedding_parameters(INTEGERS, *asked)
    assert total(model(), use_distributed_optimizer=False) == 18 * elements
