"""Rules about sequence length and sequence parallelism: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.pins import Pin
from constraints.problem import Origin
from constraints.sequence import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

SP = {"sequence_parallel": True}
SAID = (Pin("sp", "sequence_parallel", False, Origin("flag", "--pin sp=false")),)

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("sequence.sp-needs-tp", model(), SP, ("sequence_parallel=True", "tp=1")),
    ("sequence.seq-tp", model(), SP | {"tp": 8, "seq_length": 8196}, ("8196", "8*1 = 8", "8196 mod 8 = 4")),
    ("sequence.seq-tp", model(), SP | {"tp": 4, "cp": 4, "seq_length": 8200}, ("4*4 = 16", "8200 mod 16 = 8")),
    ("sequence.sp-where-possible", model(), {"tp": 4, "seq_length": 4096}, ("tp=4", "set sequence_parallel=True")),
    ("sequence.seq-dataset", model(), {"dataset_seq_length": 4096}, ("8192", "4096")),
    (
        "sequence.max-positions",
        model(max_position_embeddings=8192),
        {"seq_length": 32768},
        ("32768", "8192 positions"),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("sequence.sp-needs-tp", model(), SP | {"tp": 2}),
    ("sequence.sp-needs-tp", model(), {}),
    # tp * cp divides 8200 where 2 * tp * cp does not.
    ("sequence.seq-tp", model(), SP | {"tp": 4, "cp": 2, "seq_length": 8200}),
    ("sequence.seq-tp", model(), {"tp": 8, "seq_length": 8196}),
    ("sequence.sp-where-possible", model(), {"tp": 4, "seq_length": 4098}),
    ("sequence.sp-where-possible", model(), {"tp": 4, "seq_length": 4096, "pins": SAID}),
    ("sequence.sp-where-possible", model(), {"seq_length": 4096}),
    ("sequence.sp-where-possible", model(), SP | {"tp": 4}),
    ("sequence.seq-dataset", model(), {"dataset_seq_length": 8192}),
    ("sequence.seq-dataset", model(), {}),
    ("sequence.max-positions", model(max_position_embeddings=32768), {"seq_length": 32768}),
    ("sequence.max-positions", model(), {"seq_length": 1_000_000}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
