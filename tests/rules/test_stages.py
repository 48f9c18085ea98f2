"""Rules about layers over pipeline ranks: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.layout import PipelineSplit
from constraints.stages import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import hybrid, model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

Case = tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]


def split(**said: Any) -> dict[str, Any]:
    return {"split": PipelineSplit(**said)}


def layout(text: str, **degrees: int) -> dict[str, Any]:
    return split(layout=text) | degrees


MTP = model(num_layers=8, mtp_num_layers=2)
EIGHT = model(num_layers=8)

EVEN: list[Case] = [
    ("pipeline.pp-even", model(num_layers=61), {"pp": 16}, ("61 layers", "pp=16", "61 mod 16 = 13")),
    ("pipeline.pp-even", model(), {"pp": 4, "vpp": 3}, ("pp=4 * vpp=3", "32 mod 12 = 8")),
    ("pipeline.pp-account", model(), split(account_for_embedding=True) | {"pp": 4}, ("= 33", "33 mod 4 = 1")),
    (
        "pipeline.pp-account",
        model(num_layers=30),
        split(account_for_embedding=True, account_for_loss=True) | {"pp": 4, "vpp": 3},
        ("30 layers + 2", "32 mod 12 = 8"),
    ),
    ("pipeline.pp-first-last", model(), split(first=7) | {"pp": 4}, ("first=7", "25 layers", "25 mod 3 = 1")),
    ("pipeline.pp-first-last", model(), split(first=6, last=8) | {"pp": 4, "vpp": 2}, ("18 layers", "18 mod 4 = 2")),
    ("pipeline.pp-first-last", model(), split(first=0, last=8) | {"pp": 4}, ("first=0", "must be positive")),
    ("pipeline.pp-first-last", model(), split(first=7, last=7) | {"pp": 4, "vpp": 2}, ("a multiple of vpp=2",)),
    ("pipeline.pp-first-last", model(), split(first=16, last=16) | {"pp": 4}, ("0 layers to 2 middle stages",)),
    ("pipeline.pp-first-last", model(), split(first=16, last=15) | {"pp": 2}, ("1 layers to 0 middle stages",)),
    (
        "pipeline.pp-first-last-sane",
        model(),
        split(first=20, last=20) | {"pp": 3},
        ("first=20 and last=20", "-8 of 32 layers"),
    ),
    ("pipeline.pp-first-last-sane", model(), split(first=16, last=16) | {"pp": 1}, ("pp=1",)),
    (
        "pipeline.pp-modes-excl",
        model(),
        split(first=7, account_for_loss=True) | {"pp": 4},
        ("first=7", "account_for_loss_in_pipeline_split=True"),
    ),
    (
        "pipeline.pp-modes-excl",
        model(),
        split(layout="Et*16|t*16L", last=16) | {"pp": 2},
        ("pipeline_model_parallel_layout=Et*16|t*16L", "last=16"),
    ),
]

LAYOUTS: list[Case] = [
    ("pipeline.layout-string", EIGHT, layout("Et*3|x*3L", pp=2), ("Et*3|x*3L", "'x'")),
    ("pipeline.layout-string", EIGHT, layout("E(t(t|)*2)*2L", pp=2), ("nested",)),
    ("pipeline.layout-count", EIGHT, layout("Et*3|t*3|t*2L", pp=4), ("3 chunks", "pp=4 * vpp=1 = 4")),
    ("pipeline.layout-count", EIGHT, layout("Et*2|t*2|t*2|t*2L", pp=2, vpp=3), ("4 chunks", "pp=2 * vpp=3 = 6")),
    ("pipeline.layout-content", EIGHT, layout("Et*4|t*3L", pp=2), ("7 t", "8 layers")),
    ("pipeline.layout-content", EIGHT, layout("t*4|t*4L", pp=2), ("0 E", "begins with 't'")),
    ("pipeline.layout-content", EIGHT, layout("tEt*3|t*4L", pp=2), ("1 E", "begins with 't'")),
    ("pipeline.layout-content", EIGHT, layout("Et*4|t*4", pp=2), ("0 L", "ends with 't'")),
    ("pipeline.layout-content", EIGHT, layout("Et*4L|t*4L", pp=2), ("2 L",)),
    ("pipeline.layout-content", EIGHT, layout("Et*4|t*4mL", pp=2), ("1 m", "0 MTP layers")),
    ("pipeline.layout-content", MTP, layout("Et*4|t*4mL", pp=2), ("1 m", "2 MTP layers")),
    ("pipeline.layout-content", MTP, layout("Et*4|t*3mmtL", pp=2), ("1 decoder layers come after an MTP layer",)),
    ("pipeline.layout-content", MTP, layout("Et*4|t*4m|mL", pp=3), ("spread over 2 chunks",)),
    # Chunk 1 is the first of the two virtual stages of rank 1.
    ("pipeline.layout-content", MTP, layout("Et*4|t*4mm||L", pp=2, vpp=2), ("virtual stage 0 of 2",)),
    (
        "pipeline.hybrid-layout",
        hybrid("M-M*M-M*"),
        layout("Et*4|t*4L", pp=2),
        ("hybrid", "pipeline_model_parallel_layout=Et*4|t*4L"),
    ),
]

ADVICE: list[Case] = [
    ("pipeline.layer-on-every-rank", model(), layout("E|t*16|t*16|L", pp=4), ("2 of 4 pipeline ranks", "0, 3")),
    ("pipeline.layer-on-every-rank", EIGHT, layout("E|t*8L", pp=2), ("1 of 2 pipeline ranks", "layer: 0")),
    ("pipeline.bubble", model(), {"pp": 8, "num_microbatches": 16}, ("pp=8", "7 of 23")),
    ("pipeline.bubble", model(), {"pp": 2, "vpp": 1, "num_microbatches": 8}, ("1 of 9",)),
    ("pipeline.fill", model(), {"pp": 16, "num_microbatches": 4}, ("pp=16", "4 micro-batches", "79%")),
    ("pipeline.fill", model(), {"pp": 16, "vpp": 2, "num_microbatches": 14}, ("14 micro-batches", "2 virtual stages")),
]

BROKEN: list[Case] = EVEN + LAYOUTS + ADVICE

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("pipeline.pp-even", model(num_layers=64), {"pp": 16}),
    ("pipeline.pp-even", model(), {"pp": 4, "vpp": 4}),
    # One form is active: layout before first/last before account before even.
    ("pipeline.pp-even", model(num_layers=61), layout("Et*30|t*31L", pp=2)),
    ("pipeline.pp-even", hybrid("M-M*M-M*M"), {"pp": 2}),
    ("pipeline.pp-account", model(num_layers=31), split(account_for_embedding=True) | {"pp": 4}),
    ("pipeline.pp-account", model(), {"pp": 3}),
    # A chunk without a layer is legal.
    ("pipeline.pp-account", model(num_layers=2), split(account_for_embedding=True, account_for_loss=True) | {"pp": 4}),
    ("pipeline.pp-account", model(num_layers=3), split(account_for_embedding=True, account_for_loss=True)),
    ("pipeline.pp-first-last", model(), split(first=5) | {"pp": 4}),
    ("pipeline.pp-first-last", model(), split(first=6, last=10) | {"pp": 4, "vpp": 2}),
    ("pipeline.pp-first-last", model(), split(first=15, last=17) | {"pp": 2}),
    ("pipeline.pp-first-last-sane", model(), split(first=10, last=10) | {"pp": 3}),
    ("pipeline.pp-first-last-sane", model(), split(first=32)),
    ("pipeline.pp-modes-excl", model(), split(first=7, last=7) | {"pp": 4}),
    ("pipeline.pp-modes-excl", model(), split(account_for_embedding=True, account_for_loss=True) | {"pp": 2}),
    ("pipeline.layout-string", EIGHT, layout("E, t*3 | (t|)*5 L", pp=7)),
    ("pipeline.layout-count", EIGHT, layout("Et*2|t*2|t*2|t*2L", pp=2, vpp=2)),
    ("pipeline.layout-content", EIGHT, layout("Et*4|t*4L", pp=2)),
    ("pipeline.layout-content", EIGHT, layout("E||t*8|L", pp=2, vpp=2)),
    ("pipeline.layout-content", MTP, layout("Et*4|t*4mmL", pp=2)),
    ("pipeline.layout-content", MTP, layout("Et*4|t*4|mm|L", pp=4)),
    ("pipeline.layout-content", MTP, layout("Et*3|t*3|t*2|mmL", pp=2, vpp=2)),
    # In the last virtual stage of rank 0 an MTP layer is where it may be.
    ("pipeline.layout-content", MTP, layout("Et*4|t*4|mm|L", pp=2, vpp=2)),
    ("pipeline.layout-content", MTP, layout("Et*8mm|L", pp=2)),
    ("pipeline.hybrid-layout", hybrid("M-M*M-M*"), split(first=3) | {"pp": 2}),
    ("pipeline.hybrid-layout", model(), layout("Et*16|t*16L", pp=2)),
    ("pipeline.layer-on-every-rank", model(), layout("Et|t*15|t*15|tL", pp=4)),
    ("pipeline.layer-on-every-rank", EIGHT, layout("E|t*4|t*4|L", pp=2, vpp=2)),
    ("pipeline.bubble", model(), {"pp": 8, "vpp": 2}),
    ("pipeline.bubble", model(num_layers=8), {"pp": 8}),
    ("pipeline.bubble", hybrid("M-M*M-M*"), {"pp": 2}),
    ("pipeline.bubble", model(), {}),
    ("pipeline.fill", model(), {"pp": 16, "num_microbatches": 30}),
    ("pipeline.fill", model(), {"pp": 16, "vpp": 2, "num_microbatches": 16}),
    ("pipeline.fill", moe(), {"num_microbatches": 1}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
