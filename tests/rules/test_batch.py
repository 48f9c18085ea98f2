"""Rules about the global batch: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.batch import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    (
        "batch.gbs",
        model(),
        {"gpus": 12, "global_batch_size": 512, "num_microbatches": 42},
        ("512", "dp 12", "512 mod 12 = 8"),
    ),
    ("batch.gbs", model(), {"gpus": 8, "global_batch_size": 4, "num_microbatches": 0}, ("4 < 8",)),
    (
        "batch.gbs",
        model(),
        {"gpus": 8, "micro_batch_size": 3, "global_batch_size": 128, "num_microbatches": 5},
        ("micro-batch 3 * dp 8 = 24", "128 mod 24 = 8"),
    ),
    ("batch.requested", model(), {"asked_batch": 1024, "global_batch_size": 512}, ("1024", "512")),
    (
        "batch.tolerance",
        model(),
        {"target_batch": 1000, "batch_tolerance": 250, "global_batch_size": 1026},
        ("within 2.5% of 1000", "from 975 to 1025", "1026: 2.6% more"),
    ),
    (
        "batch.tolerance",
        model(),
        {"target_batch": 1000, "batch_tolerance": 1, "global_batch_size": 999},
        ("from 1000 to 1000", "0.1% less"),
    ),
    (
        "batch.near-target",
        model(),
        {"gpus": 1536, "pp": 8, "vpp": 2, "micro_batch_size": 4, "seq_length": 4096},
        ("6144 sequences", "1024", "--global-batch-size"),
    ),
    (
        "batch.near-target",
        model(),
        {"gpus": 8, "micro_batch_size": 8, "seq_length": 1 << 20},
        ("64 sequences", "the target is 4"),
    ),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("batch.gbs", model(), {"gpus": 12, "global_batch_size": 504, "num_microbatches": 42}),
    ("batch.gbs", model(), {"gpus": 8, "global_batch_size": 8, "num_microbatches": 1}),
    (
        "batch.gbs",
        model(),
        {"gpus": 8, "micro_batch_size": 4, "global_batch_size": 128, "num_microbatches": 4},
    ),
    ("batch.requested", model(), {"asked_batch": 512, "global_batch_size": 512}),
    ("batch.requested", model(), {"global_batch_size": 512}),
    ("batch.tolerance", model(), {"target_batch": 1000, "batch_tolerance": 250, "global_batch_size": 1025}),
    ("batch.tolerance", model(), {"target_batch": 1000, "batch_tolerance": 250, "global_batch_size": 975}),
    ("batch.tolerance", model(), {"target_batch": 1000, "batch_tolerance": 10_000, "global_batch_size": 1}),
    ("batch.tolerance", model(), {"global_batch_size": 1026}),
    (
        "batch.near-target",
        model(),
        {"gpus": 8, "micro_batch_size": 8, "seq_length": 1 << 20, "target_batch": 64, "global_batch_size": 64},
    ),
    (
        "batch.near-target",
        model(),
        {"gpus": 1536, "pp": 8, "vpp": 2, "micro_batch_size": 1, "seq_length": 4096},
    ),
    # Not interleaved, the batch need not be a multiple of pp.
    ("batch.near-target", model(), {"gpus": 1536, "pp": 8, "micro_batch_size": 4, "seq_length": 4096}),
    # dp alone may exceed the target where GPUs are many; and a batch that is asked for has no target.
    ("batch.near-target", model(), {"gpus": 4096, "seq_length": 8192}),
    (
        "batch.near-target",
        model(),
        {"gpus": 8, "micro_batch_size": 8, "seq_length": 1 << 20, "asked_batch": 64, "global_batch_size": 64},
    ),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
