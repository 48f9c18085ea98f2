"""One thing made wrong, or at least unusual: each fault aims at one rule, and some of them turn out to be legal.

A fault changes a question in place and returns ``False`` where it has nothing to aim at.
"""

from __future__ import annotations

from collections.abc import Callable
from math import lcm
from random import Random
from typing import Any

from tests.conformance.questions.layouts import MODEL, Question

__all__ = ["FAULTS"]

Fault = Callable[[Question, Random], bool]


def _get(question: Question, name: str, default: Any = None) -> Any:
    return question["layout"].get(MODEL + name, default)


def _put(question: Question, **fields: Any) -> bool:
    question["layout"] |= {MODEL + name: value for name, value in fields.items()}
    return True


def _degrees(question: Question) -> tuple[int, int, int, int]:
    names = ("tensor_model", "pipeline_model", "context", "expert_model")
    tp, pp, cp, ep = (_get(question, f"{name}_parallel_size", 1) for name in names)
    return tp, pp, cp, ep


def _rescaled(question: Question, gpus: int) -> bool:
    """Another world, with a global batch that still comes out."""
    tp, pp, cp, _ = _degrees(question)
    before, after = max(1, question["gpus"] // (tp * pp * cp)), max(1, gpus // (tp * pp * cp))
    layout = question["layout"]
    layout["train.global_batch_size"] = layout["train.global_batch_size"] // before * after
    question["gpus"] = gpus
    return True


def _of_model(**choices: tuple[Any, ...]) -> Fault:
    """Fields of the model take one of the given values."""

    def fault(question: Question, draw: Random) -> bool:
        question["model"] |= {name: draw.choice(values) for name, values in choices.items()}
        return True

    return fault


def _of_experts(**choices: tuple[Any, ...]) -> Fault:
    change = _of_model(**choices)
    return lambda question, draw: bool(question["model"].get("num_moe_experts")) and change(question, draw)


def _of_layout(**choices: tuple[Any, ...]) -> Fault:
    """Fields of the layout take one of the given values; ``None`` leaves them unsaid."""

    def fault(question: Question, draw: Random) -> bool:
        drawn = {name: draw.choice(values) for name, values in choices.items()}
        return _put(question, **{name: value for name, value in drawn.items() if value is not None})

    return fault


def _where(condition: Callable[[Question], Any], fault: Fault) -> Fault:
    return lambda question, draw: bool(condition(question)) and fault(question, draw)


def _tp(question: Question) -> bool:
    return _degrees(question)[0] > 1


def _cp(question: Question) -> bool:
    return _degrees(question)[2] > 1


def _moe(question: Question) -> bool:
    return bool(question["model"].get("num_moe_experts"))


def _mamba(question: Question) -> bool:
    return question["model"].get("hybrid_override_pattern") is not None


def _world_dense(question: Question, draw: Random) -> bool:
    return _rescaled(question, max(1, question["gpus"] + draw.choice((-1, 1, 2, 3))))


def _world_without_context(question: Question, draw: Random) -> bool:
    """GPUs for tp, pp and the experts, but not for cp."""
    tp, pp, cp, ep = _degrees(question)
    etp = _get(question, "expert_tensor_parallel_size") or (1 if ep > 1 else tp)
    unit = lcm(tp, ep * etp) * pp
    counts = [unit * k for k in (1, 2, 3, 4, 5, 6, 7) if unit * k % (tp * pp * cp)]
    if not counts or max(counts) > 2048:
        return False
    question["gpus"] = draw.choice(counts)
    dp = max(1, question["gpus"] // (tp * pp * cp))
    question["layout"]["train.global_batch_size"] = question["layout"]["train.micro_batch_size"] * dp * pp * 2
    return True


def _world_expert(question: Question, draw: Random) -> bool:
    if not _moe(question):
        return False
    tp, pp, cp, _ = _degrees(question)
    _put(
        question, expert_model_parallel_size=draw.choice((2, 4, 8, 16)), expert_tensor_parallel_size=draw.choice((1, 2))
    )
    return _rescaled(question, tp * pp * cp * draw.choice((1, 2, 3, 5)))


def _rank_order(question: Question, draw: Random) -> bool:
    question["layout"]["dist.use_tp_pp_dp_mapping"] = True
    return True


def _groups(question: Question, draw: Random) -> bool:
    heads = question["model"]["num_attention_heads"]
    question["model"]["num_query_groups"] = draw.choice([g for g in (2, 3, 4, 5, 6, 7, 8, 12) if g <= heads])
    return True


def _uneven_groups(question: Question, draw: Random) -> bool:
    """Groups that neither divide tp nor are divided by it, and heads for both."""
    tp = _degrees(question)[0]
    groups = [g for g in (3, 4, 5, 6, 7) if g % tp and tp % g]
    if not groups:
        return False
    chosen = draw.choice(groups)
    question["model"] |= {"num_query_groups": chosen, "num_attention_heads": 2 * lcm(chosen, tp)}
    return True


def _split_experts(question: Question, draw: Random) -> bool:
    """Experts whose width does not split over the expert tensor ranks that there are."""
    tp, pp, cp, _ = _degrees(question)
    if not _moe(question):
        return False
    etp = draw.choice((2, 3, 4))
    _put(question, expert_model_parallel_size=1, expert_tensor_parallel_size=etp)
    question["model"]["moe_ffn_hidden_size"] = draw.choice((769, 770, 1025, 1538))
    return _rescaled(question, lcm(tp * cp, etp) * pp)


def _narrow_projection(question: Question, draw: Random) -> bool:
    if question["model"].get("multi_latent_attention"):
        return False
    question["model"] |= {"kv_channels": draw.choice((5, 7, 9, 10)), "num_query_groups": 1}
    return True


def _tensor(question: Question, draw: Random) -> bool:
    """Another tensor degree, in a world that fits it."""
    _, pp, cp, ep = _degrees(question)
    tp = draw.choice((2, 3, 4, 5, 6, 7, 8, 12, 16))
    if ep > 1 or _get(question, "expert_tensor_parallel_size"):
        return False
    _put(question, tensor_model_parallel_size=tp, sequence_parallel=True)
    unit = 2 * tp * cp
    question["seq_length"] = max(unit, question["seq_length"] // unit * unit)
    layout = question["layout"]
    question["gpus"] = tp * pp * cp
    layout["train.global_batch_size"] = layout["train.micro_batch_size"] * pp * draw.choice((1, 2))
    return True


def _pipeline(question: Question, draw: Random) -> bool:
    """Another pipeline degree, in a world that fits it."""
    tp, _, cp, ep = _degrees(question)
    pp = draw.choice((2, 3, 4, 5, 7, 8))
    if ep > 1:
        return False
    _put(question, pipeline_model_parallel_size=pp)
    layout = question["layout"]
    question["gpus"] = tp * pp * cp * 2
    layout["train.global_batch_size"] = layout["train.micro_batch_size"] * pp * 2
    return True


def _ends(question: Question, draw: Random) -> bool:
    name = "num_layers_in_%s_pipeline_stage"
    for end in draw.choice((("first",), ("last",), ("first", "last"))):
        _put(question, **{name % end: draw.choice((0, -1, 1, 2, 3, 4, 5, 7, 20))})
    return True


def _layout_edit(question: Question, draw: Random) -> bool:
    text = _get(question, "pipeline_model_parallel_layout")
    if text is None:
        return False
    spot = draw.randrange(len(text))
    edited = draw.choice(
        (
            text[:spot] + draw.choice("tmEL|x") + text[spot:],
            text[:spot] + text[spot + 1 :],
            text + "|",
            text.replace("E", "", 1),
            text.replace("L", "", 1),
            text.replace("|", "|m", 1),
            "t|" + text,
            "".join(sorted(text)),
        )
    )
    return _put(question, pipeline_model_parallel_layout=edited)


def _unreadable_layout(question: Question, draw: Random) -> bool:
    text = _get(question, "pipeline_model_parallel_layout")
    if text is None:
        return False
    edited = draw.choice(
        (text.replace("t", "x", 1), text.replace("t", "(", 1), text + "*", "((" + text + ")", text.lower())
    )
    return _put(question, pipeline_model_parallel_layout=edited)


def _mtp(question: Question, draw: Random) -> bool:
    question["model"]["mtp_num_layers"] = draw.choice((1, 2, 3))
    return True


def _batch(question: Question, draw: Random) -> bool:
    layout = question["layout"]
    layout["train.global_batch_size"] = max(1, layout["train.global_batch_size"] + draw.choice((-1, 1, 2, 3, 7)))
    return True


def _few_microbatches(question: Question, draw: Random) -> bool:
    if _get(question, "virtual_pipeline_model_parallel_size") is None:
        return False
    tp, pp, cp, _ = _degrees(question)
    layout = question["layout"]
    unit = layout["train.micro_batch_size"] * max(1, question["gpus"] // (tp * pp * cp))
    layout["train.global_batch_size"] = unit * draw.choice((1, 2, 3, 5, 6, 7, 9, 10, 11))
    if draw.random() < 0.5:
        _put(question, microbatch_group_size_per_vp_stage=draw.choice((1, 2, 3, 4, 5, 6, 8)))
    return True


def _length(question: Question, draw: Random) -> bool:
    question["seq_length"] += draw.choice((1, 2, 4, 6, 8, 10, 12))
    return True


def _dataset_length(question: Question, draw: Random) -> bool:
    question["layout"]["dataset.seq_length"] = question["seq_length"] * 2
    return True


def _exchange(question: Question, draw: Random) -> bool:
    if not _cp(question):
        return False
    kinds = ("p2p", "all_gather", "a2a", "a2a+p2p", "allgather", "ring", ["p2p"] * draw.choice((3, 7)))
    _put(question, cp_comm_type=draw.choice(kinds))
    if draw.random() < 0.4:
        cp = _degrees(question)[2]
        _put(question, hierarchical_context_parallel_sizes=draw.choice(([2, cp // 2 or 1], [cp], [2, 2, 2], [1, cp])))
    return True


def _levels(question: Question, draw: Random) -> bool:
    """Hierarchical sizes that do not multiply to cp, or that a2a+p2p misses."""
    cp = _degrees(question)[2]
    if cp == 1 and draw.random() < 0.5:
        return False
    _put(question, cp_comm_type=draw.choice(("p2p", "p2p", "a2a+p2p")))
    sizes = draw.choice((None, [2, 3], [cp, 2], [2, cp], [3]))
    question["layout"].pop(MODEL + "hierarchical_context_parallel_sizes", None)
    return sizes is None or _put(question, hierarchical_context_parallel_sizes=sizes)


def _fine_tuning(question: Question, draw: Random) -> bool:
    question["task"] = "sft"
    if draw.random() < 0.5:
        _put(question, calculate_per_token_loss=True)
    if draw.random() < 0.5:
        question["layout"]["ddp.average_in_collective"] = draw.choice((True, False))
    return True


def _recompute(question: Question, draw: Random) -> bool:
    granularity = draw.choice(("full", "selective", "selective", None, "some"))
    _put(question, recompute_granularity=granularity)
    if draw.random() < 0.6:
        _put(question, recompute_method=draw.choice(("uniform", "block", "all", None)))
    if draw.random() < 0.5:
        _put(question, recompute_num_layers=draw.choice((1, 2, 99, None)))
    if draw.random() < 0.6:
        modules = ("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts", "attn")
        _put(question, recompute_modules=draw.sample(modules, draw.choice((1, 1, 2))))
    return True


def _foreign_module(question: Question, draw: Random) -> bool:
    """A module that the model or the precision does not have."""
    module = draw.choice(("mla_up_proj", "moe_act", "gdn_norm_out", "layernorm", "mhc"))
    if module == "layernorm":
        question["precision"] = "fp8_ds"
    return _put(question, recompute_granularity="selective", recompute_modules=[module])


def _offload(question: Question, draw: Random) -> bool:
    most = question["model"]["num_layers"]
    return _put(
        question, cpu_offloading=True, cpu_offloading_num_layers=draw.choice((0, 1, 2, most - 1, most, most + 3))
    )


def _precision(question: Question, draw: Random) -> bool:
    question["precision"] = draw.choice(("fp8_cs", "fp8_ds", "fp8_mx", "fp8_sc", "fp16"))
    if draw.random() < 0.6 and question["precision"] != "fp16":
        question["layout"] |= {
            "mixed_precision.first_last_layers_bf16": True,
            "mixed_precision.num_layers_at_start_in_bf16": draw.choice((0, 1, 2, 5, 9)),
            "mixed_precision.num_layers_at_end_in_bf16": draw.choice((0, 1, 2, 5, 9)),
        }
    return True


def _graphs(question: Question, draw: Random) -> bool:
    modules = ("attn", "mlp", "moe", "moe_router", "moe_preprocess", "mamba")
    _put(question, cuda_graph_impl=draw.choice(("transformer_engine", "transformer_engine", "local", "full_iteration")))
    _put(question, cuda_graph_modules=draw.sample(modules, draw.choice((0, 1, 1, 2))), use_te_rng_tracker=True)
    question["layout"]["rng.te_rng_tracker"] = True
    question["layout"]["rerun_state_machine.check_for_nan_in_loss"] = draw.choice((True, False))
    if draw.random() < 0.3:
        _put(question, moe_expert_capacity_factor=1.0, moe_pad_expert_input_to_capacity=True)
    return True


def _of_ddp(**choices: tuple[Any, ...]) -> Fault:
    def fault(question: Question, draw: Random) -> bool:
        question["layout"] |= {name.replace("__", "."): draw.choice(values) for name, values in choices.items()}
        return True

    return fault


def _overlap(question: Question, draw: Random) -> bool:
    _put(question, overlap_moe_expert_parallel_comm=True)
    if draw.random() < 0.3:
        _put(question, delay_wgrad_compute=True)
    if draw.random() < 0.3:
        return _recompute(question, draw)
    return True


def _sends(question: Question, draw: Random) -> bool:
    """Overlapped and batched sends at once, under interleaving."""
    if _get(question, "virtual_pipeline_model_parallel_size") is None:
        return False
    if draw.random() < 0.2:
        _put(question, overlap_p2p_comm_warmup_flush=True)
    return _put(
        question, overlap_p2p_comm=True, **draw.choice(({}, {"batch_p2p_comm": True}, {"batch_p2p_comm": False}))
    )


def _segments(question: Question, draw: Random) -> bool:
    """Pipes in a hybrid pattern: as many segments as ranks, or one more."""
    if not _mamba(question):
        return False
    pp = _degrees(question)[1]
    pattern = question["model"]["hybrid_override_pattern"]
    cuts = sorted(draw.sample(range(1, len(pattern)), min(len(pattern) - 1, pp - 1 + draw.choice((0, 1, 1)))))
    parts = [pattern[a:b] for a, b in zip([0, *cuts], [*cuts, len(pattern)], strict=True)]
    question["model"]["hybrid_override_pattern"] = "|".join(parts)
    return True


def _mamba_context(question: Question, draw: Random) -> bool:
    """Context ranks that Mamba's heads or groups may not divide by, in a world and a sequence that fit them."""
    if not _mamba(question):
        return False
    tp, pp, _, _ = _degrees(question)
    cp = draw.choice((2, 3, 4, 6))
    _put(question, context_parallel_size=cp, expert_model_parallel_size=1, expert_tensor_parallel_size=1)
    question["layout"].pop(MODEL + "cp_comm_type", None)
    question["model"]["mamba_num_groups"] = tp * draw.choice((1, 2, 3))
    question["model"]["mamba_num_heads"] = question["model"]["mamba_num_groups"] * draw.choice((2, 4, 5, 6))
    unit = 2 * tp * cp
    question["seq_length"] = max(unit, question["seq_length"] // unit * unit)
    return _rescaled(question, tp * pp * cp)


def _mamba_groups(question: Question, draw: Random) -> bool:
    """Groups that do not split over tensor ranks, or that heads do not split over."""
    if not _mamba(question):
        return False
    tp = _degrees(question)[0]
    groups = draw.choice((1, 2, 3, 5, 6))
    heads = groups * tp * draw.choice((1, 2, 4)) + draw.choice((0, 0, tp))
    question["model"] |= {"mamba_num_groups": groups, "mamba_num_heads": heads}
    return True


def _versioned(question: Question, draw: Random) -> bool:
    """Switches that only the newest generation has."""
    draw.choice(
        (
            lambda: (
                question["layout"].__setitem__("ddp.use_megatron_fsdp", True)
                or question["layout"].__setitem__("ddp.megatron_fsdp_version", 2)
            ),
            lambda: _put(question, tensor_parallel_num_weight_shards=draw.choice((2, 3, 4, 8))),
            lambda: question["model"].__setitem__("enable_mhc_connections", True),
        )
    )()
    return True


def _pattern(question: Question, draw: Random) -> bool:
    if not _mamba(question):
        return False
    text = question["model"]["hybrid_override_pattern"]
    spot = draw.randrange(1, len(text))
    cut = text[:spot] + "|" + text[spot:]
    question["model"]["hybrid_override_pattern"] = draw.choice(
        (cut, cut, text + "/M*", text + "X", text[1:], cut + "|M")
    )
    return True


_saved_activations = _where(
    _tp,
    _of_layout(
        distribute_saved_activations=(True,),
        recompute_granularity=("full", "selective", None),
        recompute_method=("uniform",),
        recompute_num_layers=(1, None),
    ),
)

FAULTS: dict[str, Fault] = {
    "world-dense": _world_dense,
    "world-dense alone": _where(_cp, _world_without_context),
    "world-expert": _world_expert,
    "world-expert again": _world_expert,
    "pp-order": _rank_order,
    "heads-tp": _where(_tp, _of_model(num_attention_heads=(9, 10, 14, 15, 21, 22, 25, 28, 30), num_query_groups=(1,))),
    "tensor": _tensor,
    "groups": _groups,
    "groups-tp": _where(_tp, _uneven_groups),
    "groups-tp again": _where(_tp, _uneven_groups),
    "heads-groups": _where(lambda q: not _tp(q), _of_model(num_query_groups=(3, 5, 7))),
    "qkv-tp": _where(lambda q: _degrees(q)[0] > 2, _narrow_projection),
    "qkv-tp again": _where(lambda q: _degrees(q)[0] > 2, _narrow_projection),
    "mla": _where(
        lambda q: q["model"].get("multi_latent_attention"),
        lambda q, draw: _of_model(**{draw.choice(("rotary_interleaved", "attention_output_gate")): (True,)})(q, draw),
    ),
    "mla once more": _where(
        lambda q: q["model"].get("multi_latent_attention"),
        lambda q, draw: _of_model(**{draw.choice(("rotary_interleaved", "attention_output_gate")): (True,)})(q, draw),
    ),
    "mla a third time": _where(
        lambda q: q["model"].get("multi_latent_attention"),
        lambda q, draw: _of_model(**{draw.choice(("rotary_interleaved", "attention_output_gate")): (True,)})(q, draw),
    ),
    "ffn-tp": _where(_tp, _of_model(ffn_hidden_size=(4097, 4098, 4100, 4104))),
    "ffn-tp again": _where(_tp, _of_model(ffn_hidden_size=(4097, 4098, 4100, 4104))),
    "vocab": _where(_tp, _of_model(should_pad_vocab=(False,), vocab_size=(50257, 50258, 50260, 50264))),
    "vocab again": _where(_tp, _of_model(should_pad_vocab=(False,), vocab_size=(50257, 50258, 50260, 50264))),
    "ep-needs-moe": _where(lambda q: not _moe(q) and q["gpus"] % 2 == 0, _of_layout(expert_model_parallel_size=(2,))),
    "experts-ep": _where(
        lambda q: _degrees(q)[3] > 1, _of_experts(num_moe_experts=(7, 9, 10, 11, 13, 15, 18, 20, 25, 30))
    ),
    "experts-ep again": _where(
        lambda q: _degrees(q)[3] > 1, _of_experts(num_moe_experts=(7, 9, 10, 11, 13, 15, 18, 20, 25, 30))
    ),
    "moeffn-etp": _split_experts,
    "moeffn-etp again": _split_experts,
    "etp": _where(_moe, _of_layout(expert_tensor_parallel_size=(2, 3, 4, 8))),
    "shared-tp": _where(_tp, _of_experts(moe_shared_expert_intermediate_size=(769, 770, 772, 1025))),
    "shared-tp again": _where(_tp, _of_experts(moe_shared_expert_intermediate_size=(769, 770, 772, 1025))),
    "moe-sp": _where(lambda q: _tp(q), _of_layout(sequence_parallel=(False,))),
    "moe-sp again": _where(lambda q: _tp(q), _of_layout(sequence_parallel=(False,))),
    "moe-ffn": _where(lambda q: not _moe(q), _of_model(moe_ffn_hidden_size=(1024,))),
    "topk": _of_experts(moe_router_topk=(1, 9, 12, 16, 33, 300)),
    "topk alone": _of_experts(moe_router_topk=(300, 500), moe_router_num_groups=(None,), moe_router_group_topk=(None,)),
    "topk alone again": _of_experts(
        moe_router_topk=(300, 500), moe_router_num_groups=(None,), moe_router_group_topk=(None,)
    ),
    "shared-bias": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size") and not _get(q, "expert_tensor_parallel_size"),
        _of_experts(add_bias_linear=(True,)),
    ),
    "shared-bias again": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size") and _degrees(q)[3] > 1,
        lambda q, draw: _put(q, expert_tensor_parallel_size=None) and _of_experts(add_bias_linear=(True,))(q, draw),
    ),
    "comm-type": _where(_cp, _of_layout(cp_comm_type=("ring", "allgather", ["p2p"] * 3, "P2P"))),
    "comm-type again": _where(_cp, _of_layout(cp_comm_type=("ring", "allgather", ["p2p"] * 3, "P2P"))),
    "fp8-param": lambda q, draw: q["layout"].__setitem__("mixed_precision.fp8_param_gather", True) is None,
    "versioned": _versioned,
    "versioned again": _versioned,
    "topk-presoftmax": _of_model(moe_router_topk=(1,), moe_router_pre_softmax=(False,)),
    "group-routing": _of_experts(
        moe_router_num_groups=(None, 2, 3, 5, 7, 8, 16), moe_router_group_topk=(1, 2, 3, 4, 9)
    ),
    "group-runtime": _of_experts(moe_router_num_groups=(8, 4), moe_router_group_topk=(1,), moe_router_topk=(4, 8)),
    "group-runtime once more": _of_experts(
        moe_router_num_groups=(8, 4), moe_router_group_topk=(1,), moe_router_topk=(4, 8)
    ),
    "group-runtime a third time": _of_experts(
        moe_router_num_groups=(8, 4), moe_router_group_topk=(1,), moe_router_topk=(4, 8)
    ),
    "expert-bias": _of_experts(
        moe_router_enable_expert_bias=(True,), moe_router_score_function=("softmax", "sigmoid", "sqrtsoftplus")
    ),
    "expert-bias alone": _of_experts(moe_router_enable_expert_bias=(True,), moe_router_score_function=("softmax",)),
    "expert-bias alone once more": _of_experts(
        moe_router_enable_expert_bias=(True,), moe_router_score_function=("softmax",)
    ),
    "expert-bias alone a third time": _of_experts(
        moe_router_enable_expert_bias=(True,), moe_router_score_function=("softmax",)
    ),
    "bias": _of_model(add_bias_linear=(True,)),
    "bias-etp": _where(
        _moe,
        lambda q, draw: (
            _of_model(add_bias_linear=(True,), moe_shared_expert_intermediate_size=(None,))(q, draw)
            and _of_layout(expert_tensor_parallel_size=(1, 2))(q, draw)
        ),
    ),
    "moe-freq": _of_experts(moe_layer_freq=([1] * 5, [0, 1] * 6, 2, 3)),
    "latent-size": _of_experts(moe_latent_size=(0, 256)),
    "pipeline": _pipeline,
    "layers": _of_model(num_layers=(7, 11, 13, 17, 23, 33)),
    "ends": _where(lambda q: True, _ends),
    "account": lambda q, draw: _put(q, **{f"account_for_{draw.choice(('embedding', 'loss'))}_in_pipeline_split": True}),
    "vpp": _of_layout(virtual_pipeline_model_parallel_size=(1, 2, 3, 4, 5)),
    "layout-edit": _layout_edit,
    "layout-edit again": _layout_edit,
    "layout-string": _unreadable_layout,
    "layout-string again": _unreadable_layout,
    "mtp": _mtp,
    "mtp-tp": _where(_tp, _of_model(mtp_num_layers=(1,), hidden_size=(1022, 1028, 1036))),
    "vpp-needs-pp": _where(lambda q: _degrees(q)[1] == 1, _of_layout(virtual_pipeline_model_parallel_size=(1, 2))),
    "vpp-needs-pp once more": _where(
        lambda q: _degrees(q)[1] == 1, _of_layout(virtual_pipeline_model_parallel_size=(1, 2))
    ),
    "vpp-needs-pp a third time": _where(
        lambda q: _degrees(q)[1] == 1, _of_layout(virtual_pipeline_model_parallel_size=(1, 2))
    ),
    "batch": _batch,
    "microbatches": _few_microbatches,
    "microbatches once more": _few_microbatches,
    "microbatches a third time": _few_microbatches,
    "length": _length,
    "length again": _length,
    "dataset": _dataset_length,
    "exchange": _exchange,
    "exchange again": _exchange,
    "cp-hier": _levels,
    "cp-hier again": _levels,
    "window": _where(_cp, _of_model(window_size=(128,), window_attn_skip_freq=(None, 2, 4))),
    "sinks": _where(_cp, _of_model(softmax_type=("learnable", "off-by-one"))),
    "sft": _where(_cp, _fine_tuning),
    "recompute": _recompute,
    "recompute again": _recompute,
    "rc-mod": _foreign_module,
    "rc-mod again": _foreign_module,
    "rc-dist": _saved_activations,
    "rc-dist once more": _saved_activations,
    "rc-dist a third time": _saved_activations,
    "offload": _offload,
    "precision": _precision,
    "precision again": _precision,
    "graphs": _graphs,
    "dispatcher": _where(
        _moe,
        _of_layout(
            moe_token_dispatcher_type=("flex", "flex", "allgather", "alltoall", "ring"),
            moe_flex_dispatcher_backend=(None, "deepep", "hybridep", "mystery"),
            moe_pad_expert_input_to_capacity=(False, False, True),
            moe_expert_capacity_factor=(None, 1.0),
        ),
    ),
    "capacity alone": _where(_moe, _of_layout(moe_pad_expert_input_to_capacity=(True,))),
    "capacity balancing": _where(
        _moe,
        lambda q, draw: (
            _of_model(moe_router_load_balancing_type=("sinkhorn",))(q, draw) and _put(q, moe_expert_capacity_factor=1.0)
        ),
    ),
    "dispatcher unsaid": _where(_moe, _of_layout(moe_token_dispatcher_type=("flex",))),
    "capacity": _where(
        _moe,
        _of_layout(moe_expert_capacity_factor=(None, 1.0, -1.0), moe_pad_expert_input_to_capacity=(True, False)),
    ),
    "balancing": _of_experts(moe_router_load_balancing_type=("sinkhorn", "none", "seq_aux_loss", "aux_loss")),
    "shared-overlap": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        lambda q, draw: _put(q, moe_shared_expert_overlap=True) and (draw.random() < 0.4 or _recompute(q, draw)),
    ),
    "shared-overlap once more": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        lambda q, draw: _put(q, moe_shared_expert_overlap=True) and (draw.random() < 0.4 or _recompute(q, draw)),
    ),
    "shared-overlap a third time": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        lambda q, draw: _put(q, moe_shared_expert_overlap=True) and (draw.random() < 0.4 or _recompute(q, draw)),
    ),
    "shared-overlap kind": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        _of_layout(moe_shared_expert_overlap=(True,), moe_token_dispatcher_type=("allgather", "alltoall")),
    ),
    "shared-overlap kind once more": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        _of_layout(moe_shared_expert_overlap=(True,), moe_token_dispatcher_type=("allgather", "alltoall")),
    ),
    "shared-overlap kind a third time": _where(
        lambda q: q["model"].get("moe_shared_expert_intermediate_size"),
        _of_layout(moe_shared_expert_overlap=(True,), moe_token_dispatcher_type=("allgather", "alltoall")),
    ),
    "a2a-overlap": _where(_moe, _overlap),
    "a2a-overlap again": _where(_moe, _overlap),
    "delay-wgrad": _of_layout(delay_wgrad_compute=(True,)),
    "quant-pad": _where(_moe, _of_layout(moe_router_padding_for_quantization=(True,))),
    "p2p": _of_layout(overlap_p2p_comm=(True, False), batch_p2p_comm=(True, False)),
    "p2p alone": _sends,
    "p2p alone once more": _sends,
    "p2p alone a third time": _sends,
    "p2p alone again": _sends,
    "sp-needs-tp": _where(lambda q: not _tp(q), _of_layout(sequence_parallel=(True,))),
    "do-instances": _of_ddp(ddp__num_distributed_optimizer_instances=(2, 3, 4)),
    "fsdp": _of_ddp(
        ddp__use_megatron_fsdp=(True,), dist__use_torch_fsdp2=(False, True), dist__use_tp_pp_dp_mapping=(False, True)
    ),
    "embed-wgrad": _of_layout(
        defer_embedding_wgrad_compute=(True,),
        gradient_accumulation_fusion=(True, True, False),
        wgrad_deferral_limit=(0, 2),
    ),
    "pattern": _pattern,
    "pattern again": _pattern,
    "segments": _segments,
    "segments again": _segments,
    "mamba heads": _where(_mamba, _of_model(mamba_num_heads=(24, 36, 40, 50), mamba_num_groups=(1, 2, 4, 8))),
    "mamba groups": _mamba_groups,
    "mamba groups again": _mamba_groups,
    "mamba cp": _mamba_context,
    "mamba cp again": _mamba_context,
    "hybrid mtp": _where(
        _mamba,
        lambda q, draw: _of_model(
            hybrid_override_pattern=tuple(
                q["model"]["hybrid_override_pattern"] + tail for tail in ("/M*/MM", "/M*/M*", "/*")
            )
        )(q, draw),
    ),
    "hybrid vpp": _where(_mamba, _of_layout(virtual_pipeline_model_parallel_size=(1, 2))),
    "hybrid pp": _where(_mamba, _pipeline),
    "hybrid pp again": _where(_mamba, _pipeline),
    "hybrid fp8": _where(
        _mamba,
        lambda q, draw: (
            _of_model(mamba_num_heads=(36, 44, 50, 52, 20), mamba_num_groups=(1, 2))(q, draw)
            and q.__setitem__("precision", "fp8_cs") is None
        ),
    ),
    "hybrid fp8 once more": _where(
        _mamba,
        lambda q, draw: (
            _of_model(mamba_num_heads=(36, 44, 50, 52, 20), mamba_num_groups=(1, 2))(q, draw)
            and q.__setitem__("precision", "fp8_cs") is None
        ),
    ),
    "hybrid fp8 a third time": _where(
        _mamba,
        lambda q, draw: (
            _of_model(mamba_num_heads=(36, 44, 50, 52, 20), mamba_num_groups=(1, 2))(q, draw)
            and q.__setitem__("precision", "fp8_cs") is None
        ),
    ),
    "hybrid layout": _where(
        _mamba, lambda q, draw: _put(q, pipeline_model_parallel_layout="E" + "t" * q["model"]["num_layers"] + "L")
    ),
    "hybrid ends": _where(_mamba, _ends),
}
"""Every fault by name."""
