"""Random problems and layouts for the property that holds for every rule.

A case is drawn around one rule: the values that the rule says it reads vary often, everything else now and then.
"""

from __future__ import annotations

from dataclasses import fields, replace
from random import Random

from constraints.batch_choice import chosen_microbatches
from constraints.layout import Layout, PipelineSplit, Recompute, Settings
from constraints.pins import Pin
from constraints.pipeline.assignment import from_sizes
from constraints.problem import Origin, Problem
from constraints.rule import Rule
from models_catalog.schema import ModelSpec
from tests.rules.builders import gpu
from tests.rules.varied import CALM, VARIED, some

__all__ = ["DECISIONS", "random_layout", "random_problem", "random_word", "telling_problem", "with_decision"]

DECISIONS = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "etp",
    "dp",
    "edp",
    "sequence_parallel",
    "micro_batch_size",
    "num_microbatches",
    "global_batch_size",
    "recompute",
    "split",
)
"""What a layout decides. ``split`` is part of the pipeline shape, which rules name as ``pp`` and ``vpp``."""

SETTINGS = {f.name for f in fields(Settings)}
MODEL = {f.name for f in fields(ModelSpec)}
MODULES = ("core_attn", "moe_act", "layernorm", "mla_up_proj", "mlp", "moe", "shared_experts", "gdn_norm_out", "mhc")

OFTEN, SELDOM = 0.85, 0.04


def telling_problem(rng: Random, rule: Rule) -> Problem:
    """One of a handful of random problems: half of the time one in which some layout breaks ``rule``, else keeps it."""
    wanted = rng.random() < 0.5
    problem = random_problem(rng, rule)
    for _ in range(20):
        if any(rule.holds(problem, random_layout(rng, problem)) == wanted for _ in range(4)):
            break
        problem = random_problem(rng, rule)
    return problem


def random_problem(rng: Random, rule: Rule, *, pins: tuple[Rule, ...] | None = None) -> Problem:
    """A small problem in which what ``rule`` reads varies. Each value of the request and the model has an origin.

    Unless ``pins`` are given, one of the decisions in its scope is pinned now and then: the solver then considers values
    that it would not otherwise, such as ``ep=2`` for a dense model.
    """
    drawn = dict(CALM)
    if rng.random() < (0.9 if any("moe" in name for name in rule.reads) else 0.5):
        drawn |= {"num_moe_experts": 8, "moe_shared_expert_intermediate_size": rng.choice([None, 512])}
    for name, draw in VARIED.items():
        if rng.random() < (OFTEN if name in rule.reads else SELDOM):
            drawn[name] = draw(rng, drawn)
    if rng.random() < 0.3:
        drawn["gpus"] = VARIED["gpus"](rng, drawn)
    if rng.random() < 0.5:
        drawn["global_batch_size"] = VARIED["global_batch_size"](rng, drawn)
    if drawn.get("target_batch"):
        drawn["global_batch_size"] = None
    if "E" in (drawn.get("hybrid_override_pattern") or ""):  # the catalog refuses such layers without experts
        drawn["num_moe_experts"] = drawn.get("num_moe_experts") or 8
    if not drawn.get("num_moe_experts") and "moe_ffn_hidden_size" not in rule.reads:
        drawn["moe_ffn_hidden_size"] = None
    model = ModelSpec(name="random", gated_linear_unit=True, **{k: v for k, v in drawn.items() if k in MODEL})
    switches = {k: v for k, v in drawn.items() if k in SETTINGS}
    asked = {k: v for k, v in drawn.items() if k not in MODEL | SETTINGS}
    domain = asked["nvlink_domain"]
    asked.setdefault(
        "gpu", gpu(name=rng.choice(["h100", "gb200-nvl72"]), architecture=rng.choice(["hopper", "blackwell"]))
    )
    return Problem(
        model=model,
        gpus_per_node=min(8, domain),
        settings=Settings(**switches),
        pins=_pins(rng, rule) if pins is None else pins,
        origins={name: Origin("flag", f"--{name}") for name in asked} | {"model": Origin("file", "model.yaml:1")},
        **asked,
    )


def _pins(rng: Random, rule: Rule) -> tuple[Rule, ...]:
    sizes = {name: WORDS[name] for name in ("tp", "pp", "vpp", "cp", "ep", "etp") if name in rule.scope}
    if not sizes or rng.random() < 0.5:
        return ()
    name = rng.choice(list(sizes))
    value = rng.choice([size for size in sizes[name] if isinstance(size, int) and size > 1])
    return (Pin(name, name, value, Origin("flag", f"--pin {name}={value}")),)


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def random_layout(rng: Random, problem: Problem) -> Layout:
    """A layout as a person may write it: half of the time the meshes cover the GPUs, else degrees are anything small.

    ``vpp=1`` is left out: the solver has no such decision.
    """
    degrees = _covering(rng, problem.gpus) if rng.random() < 0.5 else _anything(rng)
    vpp = rng.choice([None, None, 2, 3, 4])
    mbs = rng.choice([1, 1, 2, 3, 4])
    group = problem.settings.microbatch_group_size_per_vp_stage or degrees["pp"]
    batch = problem.global_batch_size
    count = rng.choice([1, 2, 3, 4, 6, 8, 12, 16, 25])
    if batch is None and rng.random() < 0.7:
        multiple = group if vpp and degrees["pp"] > 1 else 1
        count = chosen_microbatches(problem.target_sequences, degrees["dp"], mbs, multiple)
    elif batch is not None and rng.random() < 0.7:
        count = max(1, batch // (mbs * degrees["dp"]))
    total = count * mbs * degrees["dp"] if batch is None or rng.random() < 0.3 else batch
    return Layout(
        **degrees,
        vpp=vpp,
        sequence_parallel=rng.random() < 0.5,
        micro_batch_size=mbs,
        num_microbatches=count,
        global_batch_size=total,
        gpus=problem.gpus,
        split=_split(rng, problem.model, degrees["pp"], vpp or 1),
        recompute=_recompute(rng, problem),
        settings=problem.settings,
    )


def _covering(rng: Random, gpus: int) -> dict[str, int]:
    pp = rng.choice(divisors(gpus))
    stage = gpus // pp
    tp = rng.choice(divisors(stage))
    cp = rng.choice(divisors(stage // tp))
    etp = rng.choice(divisors(stage))
    ep = rng.choice(divisors(stage // etp))
    return {"tp": tp, "pp": pp, "cp": cp, "ep": ep, "etp": etp, "dp": stage // (tp * cp), "edp": stage // (etp * ep)}


def _anything(rng: Random) -> dict[str, int]:
    sizes = [1, 1, 1, 2, 2, 3, 4, 5, 6, 8, 12, 16]
    return {name: rng.choice(sizes) for name in ("tp", "pp", "cp", "ep", "etp", "dp", "edp")}


def _split(rng: Random, model: ModelSpec, pp: int, vpp: int) -> PipelineSplit:
    form = rng.choice(["even", "account", "first-last", "layout", "layout", "layout", "both"])
    counts = [None, 1, 2, 3, 5, 9, -1, 0]
    first, last = rng.choice(counts), rng.choice(counts)
    embedding, loss = rng.random() < 0.5, rng.random() < 0.5
    match form:
        case "account":
            return PipelineSplit(account_for_embedding=embedding, account_for_loss=loss)
        case "first-last":
            return PipelineSplit(first=first, last=last)
        case "layout":
            return PipelineSplit(layout=_layout_text(rng, model, pp, vpp))
        case "both":
            return PipelineSplit(first=first, account_for_loss=loss, layout=rng.choice([None, "Et|tL"]))
    return PipelineSplit()


def _layout_text(rng: Random, model: ModelSpec, pp: int, vpp: int) -> str:
    """A layout string that comes out, or one with a single slip in it."""
    chunks = pp * vpp
    cuts = sorted(rng.choices(range(model.num_layers + 1), k=chunks - 1))
    sizes = tuple(b - a for a, b in zip([0, *cuts], [*cuts, model.num_layers], strict=True))
    text = from_sizes(model, pp, sizes).text()
    slip = rng.choice(["none", "none", "token", "token", "drop", "chunk", "mtp"])
    where = rng.randrange(len(text))
    match slip:
        case "token":
            return text[:where] + rng.choice("xxEtmL|(*") + text[where:]
        case "drop":
            return text[:where] + text[where + 1 :]
        case "chunk":
            return text + "|"
        case "mtp":
            return text.replace("m", "", 1) if "m" in text else text.replace("t", "mt", 1)
    return text


def _recompute(rng: Random, problem: Problem) -> Recompute:
    if rng.random() < 0.5:
        return rng.choice(problem.recompute_options)
    if rng.random() < 0.4:
        return Recompute("full", rng.choice(["uniform", "block"]), rng.choice([0, 1, 2, 3]))
    return Recompute(
        rng.choice([None, "selective", "selective", "full", "full", "some"]),
        rng.choice([None, None, "uniform", "block", "all"]),
        rng.choice([None, None, 1, 2, 99]),
        some(rng, (*MODULES, "attn"), 3),
    )


def with_decision(layout: Layout, decision: str, other: Layout) -> Layout:
    """``layout`` with one decision taken from ``other``."""
    return replace(layout, **{decision: getattr(other, decision)})


WORDS = {
    "tp": (1, 2, 3, 4, 8),
    "pp": (1, 2, 3, 4),
    "vpp": ("null", 1, 2, 3),
    "cp": (1, 2, 4),
    "ep": (1, 2, 4),
    "etp": (1, 2),
    "dp": (1, 2, 3, 6),
    "edp": (1, 2, 3),
    "mbs": (1, 2, 4, 5),
    "m": (1, 4, 8, 12),
    "sp": ("true", "false"),
    "recompute": ("none", "selective", "full"),
    "tensor_model_parallel_size": (2, 4),
    "sequence_parallel": ("true", "false"),
    "virtual_pipeline_model_parallel_size": (2, "null"),
}


def random_word(rng: Random) -> str:
    """A pin or a limit as typed, in any of its spellings: ``tp=4``, ``m<=8``."""
    name = rng.choice(list(WORDS))
    value = rng.choice(WORDS[name])
    sizes = [size for size in WORDS[name] if isinstance(size, int)]
    if sizes and rng.random() < 0.5:
        return f"{name}{rng.choice(['<=', '>=', '<', '>'])}{rng.choice(sizes)}"
    return f"{name}={value}"
