"""Rules about the two meshes: each is broken by one layout and kept by a near twin."""

from __future__ import annotations

from typing import Any

from constraints.mesh import RULES
from models_catalog.schema import ModelSpec
from tests.rules.builders import model, moe
from tests.rules.twins import broken_and_kept

BY_ID = {rule.id: rule for rule in RULES}

ORDER = {"use_tp_pp_dp_mapping": True}

BROKEN: list[tuple[str, ModelSpec, dict[str, Any], tuple[str, ...]]] = [
    ("mesh.world-dense", model(), {"gpus": 100, "tp": 8, "pp": 4}, ("8*4*1 = 32", "100 mod 32 = 4")),
    ("mesh.world-dense", model(), {"gpus": 12, "tp": 2, "cp": 4}, ("2*1*4 = 8", "12 mod 8 = 4")),
    ("mesh.world-dense", model(), {"gpus": 16, "tp": 4, "dp": 8}, ("dp = 4", "16 GPUs", "not 8")),
    ("mesh.world-dense", model(), {"gpus": 4, "tp": 8}, ("= 8", "4 GPUs")),
    ("mesh.world-expert", moe(), {"gpus": 12, "ep": 8}, ("1*8*1 = 8", "12 mod 8 = 4", "smallest world")),
    ("mesh.world-expert", moe(), {"gpus": 8, "tp": 4, "ep": 4, "etp": 4}, ("4*4*1 = 16", "8 GPUs", "= 16")),
    ("mesh.world-expert", moe(), {"gpus": 16, "ep": 8, "edp": 1}, ("edp = 2", "not 1")),
    (
        "mesh.world-expert",
        moe(),
        {"gpus": 256, "tp": 2, "pp": 16, "ep": 64},
        ("1*64*16 = 1024", "256 GPUs", "pp*max(tp*cp, ep*etp) = 1024"),
    ),
    ("mesh.pp-order", moe(), ORDER | {"gpus": 16, "pp": 2, "ep": 4}, ("pp=2", "1*1 = 1", "1*4 = 4")),
    ("mesh.pp-order", model(), ORDER | {"gpus": 16, "pp": 2, "tp": 4, "etp": 2}, ("4*1 = 4", "2*1 = 2")),
]

KEPT: list[tuple[str, ModelSpec, dict[str, Any]]] = [
    ("mesh.world-dense", model(), {"gpus": 96, "tp": 8, "pp": 4}),
    ("mesh.world-dense", model(), {"gpus": 7}),
    ("mesh.world-dense", model(), {"gpus": 24, "tp": 2, "pp": 3, "cp": 4}),
    ("mesh.world-expert", moe(), {"gpus": 24, "ep": 8}),
    # Nothing ties ep to dp: it may exceed dp, span tp and cp, and need not divide either.
    ("mesh.world-expert", moe(), {"gpus": 8, "tp": 4, "ep": 8}),
    ("mesh.world-expert", moe(), {"gpus": 8, "cp": 8, "ep": 8}),
    ("mesh.world-expert", moe(), {"gpus": 12, "tp": 4, "ep": 3}),
    # cp is not in the expert mesh: 16 GPUs, not 64.
    ("mesh.world-expert", moe(), {"gpus": 16, "cp": 4, "ep": 8, "etp": 2}),
    # A dense model has ep = 1 and etp = tp: the dense mesh implies it.
    ("mesh.world-expert", model(), {"gpus": 16, "tp": 4, "pp": 2, "etp": 4}),
    ("mesh.pp-order", moe(), ORDER | {"gpus": 16, "pp": 2, "tp": 2, "cp": 2, "ep": 4}),
    ("mesh.pp-order", moe(), ORDER | {"gpus": 16, "pp": 1, "ep": 4}),
    ("mesh.pp-order", moe(), {"gpus": 16, "pp": 2, "ep": 4}),
]


test_broken, test_kept, test_every_rule_is_broken_and_kept = broken_and_kept(BY_ID, BROKEN, KEPT)
