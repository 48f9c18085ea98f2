"""What Megatron Bridge mends, floors, warns of or never looks at is no violation; where it matters it is a warning."""

from __future__ import annotations

from typing import Any

import pytest

from constraints.reading import read_layout
from solver.request import Request
from solver.resolution import resolve
from tests.acceptance.judging import broken, judge

DENSE, MOE = "llama-3.1-8b", "qwen3-30b-a3b"

MENDED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("sequence parallelism without tensor parallelism is turned off", DENSE, "tp=1 sp=true", {}),
    ("any pipeline has a dtype: the parameters'", DENSE, "pp=4", {}),
    ("a padded vocabulary takes every tp", DENSE, "tp=8 sp=true", {"vocab_size": 50257}),
    (
        "heads that do not divide the hidden size are floored",
        DENSE,
        "tp=8 sp=true",
        {"hidden_size": 4100, "kv_channels": None},
    ),
    ("the hidden size is not split", DENSE, "tp=8 sp=true", {"hidden_size": 4100, "kv_channels": 128}),
    ("two pipeline ranks interleave without overlapped sends", DENSE, "pp=2 vpp=2", {}),
    ("fewer micro-batches than ranks run without interleaving", DENSE, "pp=8 dp=1 mbs=1 gbs=4", {}),
    (
        "virtual stages follow from the layout's chunks",
        DENSE,
        "pp=2 pipeline_model_parallel_layout=Et*8|(t*8|)*2t*8L",
        {},
    ),
    ("a rank may be without a layer", DENSE, "pp=4 pipeline_model_parallel_layout=E|t*16|t*16|L", {}),
    (
        "more layers than there are may be recomputed",
        DENSE,
        "recompute_granularity=full recompute_method=uniform recompute_num_layers=99",
        {},
    ),
    ("selective recompute may name a method", DENSE, "recompute_granularity=selective recompute_method=block", {}),
    ("tp_comm_overlap without tensor parallelism is turned off", DENSE, "tp=1 tp_comm_overlap=true", {}),
    ("flex without a backend falls back to alltoall", MOE, "ep=8 moe_token_dispatcher_type=flex", {}),
    ("experts without a width of their own take the dense one", MOE, "ep=8", {"moe_ffn_hidden_size": None}),
    ("expert groups may exceed dp and span tp", MOE, "tp=4 ep=8 sp=true", {}),
    ("expert groups may span cp", MOE, "cp=8 ep=8", {}),
    ("group-limited routing does not mind ep", MOE, "ep=16", {"moe_router_num_groups": 8, "moe_router_group_topk": 4}),
    ("topk need be no multiple of group_topk", MOE, "ep=8", {"moe_router_num_groups": 8, "moe_router_group_topk": 3}),
    ("a multiple of 2*tp*cp tokens is not asked for", DENSE, "tp=4 cp=2 sp=true", {}),
    ("one virtual stage counts as interleaving and is legal", DENSE, "pp=4 vpp=1", {}),
    ("the distributed optimizer switches itself on in both places", DENSE, "ddp.use_distributed_optimizer=true", {}),
    ("shards of the optimizer are padded, not divided", DENSE, "dp=7", {}),
    (
        "torch FSDP2 over a pipeline is refused by the Megatron-LM command line alone",
        DENSE,
        "pp=2 use_torch_fsdp2=true",
        {},
    ),
    (
        "overlap of the parameter gather with the step is advised against, not refused",
        DENSE,
        "overlap_param_gather=true overlap_param_gather_with_optimizer_step=true",
        {},
    ),
]

ASKED: dict[str, dict[str, Any]] = {
    "a multiple of 2*tp*cp tokens is not asked for": {"seq_length": 8200},
    "shards of the optimizer are padded, not divided": {"gpus": 7},
    "fewer micro-batches than ranks run without interleaving": {"gpus": 8},
}


@pytest.mark.parametrize(
    ("model", "words", "fields", "asked"),
    [(*case[1:], ASKED.get(case[0], {})) for case in MENDED],
    ids=[case[0] for case in MENDED],
)
def test_it_is_no_violation(model: str, words: str, fields: dict[str, Any], asked: dict[str, Any]) -> None:
    verdict = judge(model, words, fields=fields, **{"gpus": 32} | asked)
    assert broken(verdict) == set(), [found.fact.text for found in verdict.violations]


WARNED = [
    (DENSE, "tp=1 sp=true", "sequence_parallel with tp=1"),
    (DENSE, "pp=8", "pipeline.bubble"),
    (DENSE, "tp=4 sp=false", "sequence.sp-where-possible"),
    (DENSE, "tp=16 sp=true", "topology.tp-in-domain"),
    (DENSE, "pp=4 pipeline_model_parallel_layout=E|t*16|t*16|L", "pipeline.layer-on-every-rank"),
    (DENSE, "pp=16 gbs=4", "pipeline.fill"),
    (DENSE, "overlap_param_gather=true overlap_grad_reduce=false", "optimizer.overlap-pg"),
]


@pytest.mark.parametrize(("model", "words", "warning"), WARNED)
def test_it_is_a_warning_where_it_matters(model: str, words: str, warning: str) -> None:
    verdict = judge(model, words, gpus=64)
    assert any(text.startswith(warning) for text in verdict.warnings), verdict.warnings


@pytest.mark.parametrize(
    ("words", "etp", "edp"),
    [
        ({"tp": 4}, 4, 8),
        ({"tp": 4, "ep": 1}, 4, 8),
        ({"tp": 4, "ep": 8}, 1, 4),
        ({"tp": 4, "ep": 8, "etp": 4}, 4, 1),
    ],
)
def test_an_unset_etp_is_one_with_experts_spread_else_tp(words: dict[str, int], etp: int, edp: int) -> None:
    """Raw Megatron-Core takes tp in either case: the same configuration can be legal there and not here."""
    problem = resolve(Request(model=MOE, gpus=32, gpu="h100"))
    layout = read_layout(words, problem).layout
    assert (layout.etp, layout.edp) == (etp, edp)


def test_sequence_parallelism_is_dropped_and_not_merely_allowed() -> None:
    problem = resolve(Request(model=DENSE, gpus=8, gpu="h100"))
    reading = read_layout({"tp": 1, "sp": True}, problem)
    assert not reading.layout.sequence_parallel
    assert len(reading.warnings) == 1


def test_an_uneven_kv_channel_floors_as_megatron_does() -> None:
    problem = resolve(Request(model=DENSE, gpus=8, gpu="h100"))
    assert problem.model.head_dim * problem.model.num_attention_heads == problem.model.hidden_size
    verdict = judge(DENSE, "tp=8 sp=true", fields={"hidden_size": 4100, "kv_channels": None}, gpus=8)
    assert verdict.problem.model.head_dim == 128
    assert verdict.legal
