"""Rules about the machine: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.topology import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

RACK = {"gpus_per_node": 4, "nvlink_domain": 72}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("topology.tp-in-domain", model(), {"tp": 16}, ("16 consecutive ranks", "16 is larger than 8", "h100")),
    ("topology.tp-in-domain", model(), {"gpus": 12, "tp": 6}, ("6 does not divide 8",)),
    # 64-71 | 72-79: the fifth group of sixteen straddles two racks.
    ("topology.tp-in-domain", model(), RACK | {"gpus": 144, "tp": 16}, ("16 does not divide 72",)),
    ("topology.tp-in-domain", model(), {"gpus": 12, "tp": 12}, ("12 is larger than 8",)),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("topology.tp-in-domain", model(), {"tp": 8}),
    ("topology.tp-in-domain", model(), {"gpus": 12, "tp": 4}),
    ("topology.tp-in-domain", model(), RACK | {"gpus": 144, "tp": 18}),
    # One rack has no boundary: sixteen of its 64 or 72 GPUs stay inside, whatever they divide.
    ("topology.tp-in-domain", model(), RACK | {"gpus": 64, "tp": 16}),
    ("topology.tp-in-domain", model(), {"gpus": 6, "tp": 6}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
