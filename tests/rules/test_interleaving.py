"""Rules about virtual pipeline stages: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.interleaving import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

GROUP = "microbatch_group_size_per_vp_stage"

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("pipeline.vpp-needs-pp", model(), {"vpp": 2}, ("vpp=2", "pp=1", "virtual_pipeline_model_parallel_size=null")),
    ("pipeline.vpp-needs-pp", model(), {"vpp": 1}, ("vpp=1", "pp=1")),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 6}, ("6 mod 4 = 2", "pp=4")),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 2}, ("at least 4", "there are 2")),
    # vpp=1 is "virtual pipeline on": the interleaved schedule and its rules come with it.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 1, "num_microbatches": 6}, ("6 mod 4 = 2",)),
    (
        "pipeline.vpp-microbatches",
        model(),
        {"pp": 4, "vpp": 2, "num_microbatches": 9, GROUP: 6},
        ("9 mod 6 = 3", "pp=4"),
    ),
    (
        "pipeline.vpp-microbatches",
        model(),
        {"pp": 4, "vpp": 2, "num_microbatches": 8, GROUP: 2},
        (GROUP + "=2", "pp=4"),
    ),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 4, GROUP: 8}, ("at least 8",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("pipeline.vpp-needs-pp", model(), {"pp": 2, "vpp": 2}),
    ("pipeline.vpp-needs-pp", model(), {"pp": 2, "vpp": 1}),
    ("pipeline.vpp-needs-pp", model(), {}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 8}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 4}),
    # A group of its own takes counts that pp does not divide, and a remainder of at least pp.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 6, GROUP: 6}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "vpp": 2, "num_microbatches": 10, GROUP: 6}),
    # Without interleaving any count will do, fewer than ranks too.
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "num_microbatches": 6}),
    ("pipeline.vpp-microbatches", model(), {"pp": 4, "num_microbatches": 1}),
    # Two ranks with virtual stages are fine on Megatron Bridge (the Megatron-LM command line wants overlapped sends).
    ("pipeline.vpp-microbatches", model(), {"pp": 2, "vpp": 2, "num_microbatches": 2}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
