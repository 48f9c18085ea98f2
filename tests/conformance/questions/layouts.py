"""A layout that should be legal for a model: degrees that divide what they must, and a world that they fill."""

from __future__ import annotations

from math import lcm
from random import Random
from typing import Any

__all__ = ["Question", "sound_question"]

Question = dict[str, Any]
"""A line of ``check --batch``: ``gpus``, ``gpu``, ``seq_length``, ``model``, ``layout`` (Bridge overrides)."""

MODEL = "model."
MOST_GPUS = 128


def divisors(number: int, most: int) -> list[int]:
    return [d for d in range(1, min(number, most) + 1) if number % d == 0]


def sound_question(model: dict[str, Any], draw: Random) -> Question:
    """Most rules are respected on purpose; the others (token counts, groups, windows) are met by chance."""
    moe, hybrid = bool(model.get("num_moe_experts")), model.get("hybrid_override_pattern") is not None
    tp = draw.choice(_tensor_degrees(model))
    pp, form = _pipeline(model, draw)
    cp = draw.choice((1, 1, 1, 2, 4, 3)) if not hybrid else draw.choice((1, 1, 2))
    ep, etp = 1, None
    if moe:
        ep = draw.choice(divisors(model["num_moe_experts"], 32))
        etp = draw.choice((None, 1, 1, draw.choice(divisors(model["moe_ffn_hidden_size"], 4))))
    wide = lcm(tp * cp, ep * (etp or (1 if ep > 1 else tp)))
    dp_unit = draw.choice((1, 1, 2, 3, 4))
    while wide * dp_unit * pp > MOST_GPUS and wide * pp > MOST_GPUS and ep > 1:
        ep, wide = 1, lcm(tp * cp, etp or tp)
    gpus = wide * (dp_unit if wide * dp_unit * pp <= MOST_GPUS else 1) * pp
    layout: dict[str, Any] = {MODEL + "tensor_model_parallel_size": tp, MODEL + "pipeline_model_parallel_size": pp}
    layout |= {MODEL + "context_parallel_size": cp, MODEL + "expert_model_parallel_size": ep}
    if etp is not None:
        layout[MODEL + "expert_tensor_parallel_size"] = etp
    if tp > 1 and (moe or draw.random() < 0.7):
        layout[MODEL + "sequence_parallel"] = True
    layout |= form
    interleaved = layout.get(MODEL + "virtual_pipeline_model_parallel_size") is not None or "|" in str(
        layout.get(MODEL + "pipeline_model_parallel_layout", "")
    )
    micro, count = draw.choice((1, 1, 2)), draw.choice((1, 2, 4, 8))
    if interleaved:
        count *= pp
    layout["train.micro_batch_size"] = micro
    layout["train.global_batch_size"] = micro * count * max(1, gpus // (tp * pp * cp))
    if cp > 1:
        layout |= _exchange(model, tp, cp, draw)
    unit = lcm(2 * cp, tp * cp)
    length = draw.choice((2048, 4096, 4096, 8192, 3000))
    length = max(unit, length // unit * unit)
    return {
        "gpus": gpus,
        "gpu": draw.choice(("h100", "h100", "h100", "b200", "gb200-nvl72", "a100-80gb")),
        "seq_length": length,
        "model": model,
        "layout": layout,
    }


def _tensor_degrees(model: dict[str, Any]) -> list[int]:
    heads, groups = model["num_attention_heads"], model.get("num_query_groups") or model["num_attention_heads"]
    found = []
    for tp in (1, 1, 2, 2, 3, 4, 4, 5, 8, 16):
        widths = [heads, model["ffn_hidden_size"], model.get("moe_shared_expert_intermediate_size") or 0]
        if model.get("hybrid_override_pattern"):
            widths += [model["mamba_num_heads"], model["mamba_num_groups"]]
        if all(width % tp == 0 for width in widths) and (groups % tp == 0 or tp % groups == 0):
            found.append(tp)
    return found


def _pipeline(model: dict[str, Any], draw: Random) -> tuple[int, dict[str, Any]]:
    layers = model["num_layers"]
    if model.get("hybrid_override_pattern"):
        return draw.choice([pp for pp in (1, 2, 3, 4) if layers % pp == 0]), {}
    form = draw.choice(("even", "even", "vpp", "account", "ends", "layout", "layout"))
    name = {
        "vpp": MODEL + "virtual_pipeline_model_parallel_size",
        "embedding": MODEL + "account_for_embedding_in_pipeline_split",
        "loss": MODEL + "account_for_loss_in_pipeline_split",
        "first": MODEL + "num_layers_in_first_pipeline_stage",
        "last": MODEL + "num_layers_in_last_pipeline_stage",
        "layout": MODEL + "pipeline_model_parallel_layout",
    }
    if form == "vpp":
        pairs = [(pp, v) for pp in (2, 3, 4, 6, 8) for v in (1, 2, 3, 4) if layers % (pp * v) == 0]
        if pairs:
            pp, v = draw.choice(pairs)
            return pp, {name["vpp"]: v}
    if form == "account":
        kinds = draw.choice((("embedding",), ("loss",), ("embedding", "loss")))
        pairs = [
            (pp, v) for pp in (2, 3, 4, 8, 16) for v in (None, 2, 3) if (layers + len(kinds)) % (pp * (v or 1)) == 0
        ]
        if pairs:
            pp, v = draw.choice(pairs)
            return pp, {name[kind]: True for kind in kinds} | ({name["vpp"]: v} if v else {})
    if form == "ends":
        pp, v = draw.choice((2, 3, 4, 6)), draw.choice((None, None, 2))
        unit = v or 1
        first, last = draw.choice((None, unit, 2 * unit, 3 * unit)), draw.choice((None, unit, 2 * unit))
        given = [n for n in (first, last) if n is not None]
        rest, stages = layers - sum(given), pp - len(given)
        if given and ((stages > 0 and rest > 0 and rest % (stages * unit) == 0) or (stages == 0 and rest == 0)):
            ends = {name["first"]: first, name["last"]: last} | ({name["vpp"]: v} if v else {})
            return pp, {key: value for key, value in ends.items() if value is not None}
    if form == "layout":
        pp, v = draw.choice((2, 3, 4, 8)), draw.choice((1, 1, 2, 3))
        text = layout_string(layers, model.get("mtp_num_layers") or 0, pp * v, draw)
        return pp, {name["layout"]: text} | ({name["vpp"]: v} if v > 1 and draw.random() < 0.5 else {})
    return draw.choice([pp for pp in (1, 1, 2, 3, 4, 5, 6, 8) if layers % pp == 0]), {}


def layout_string(layers: int, predicted: int, chunks: int, draw: Random) -> str:
    """A whole assignment: layers dealt at random around even shares, MTP layers in the last chunk."""
    sizes = [layers // chunks] * chunks
    for _ in range(layers - sum(sizes)):
        sizes[draw.randrange(chunks)] += 1
    for _ in range(draw.randint(0, 2)):
        giver, taker = draw.randrange(chunks), draw.randrange(chunks)
        if sizes[giver] > 0:
            sizes[giver] -= 1
            sizes[taker] += 1
    parts = ["t" * size if draw.random() < 0.5 or size < 2 else f"t*{size}" for size in sizes]
    parts[0] = "E" + parts[0]
    parts[-1] += "m" * predicted + "L"
    return "|".join(parts)


def _exchange(model: dict[str, Any], tp: int, cp: int, draw: Random) -> dict[str, Any]:
    name = MODEL + "cp_comm_type"
    heads = model["num_attention_heads"] // tp
    groups = max((model.get("num_query_groups") or model["num_attention_heads"]) // tp, 1)
    if model.get("window_size") or model.get("softmax_type"):
        return {name: draw.choice(("a2a", "a2a", "all_gather"))}
    kind = draw.choice((None, "p2p", "all_gather", "a2a", "a2a+p2p", "list"))
    if kind is None:
        return {}
    if kind == "list":
        return {name: ["p2p", "all_gather"] * (model["num_layers"] // 2) + ["p2p"] * (model["num_layers"] % 2)}
    if kind == "a2a+p2p" and cp == 4 and heads % 2 == 0 and groups % 2 == 0:
        return {name: kind, MODEL + "hierarchical_context_parallel_sizes": [2, 2]}
    if kind == "a2a" and heads % cp == 0 and groups % cp == 0:
        return {name: kind}
    return {name: "p2p"}
