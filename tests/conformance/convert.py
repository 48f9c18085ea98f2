"""Turns the cases of a Megatron oracle into lines of ``meshwright check --batch``, each beside Megatron's verdict.

    python -m tests.conformance.convert ORACLE_CASES.json > tests/data/megatron_verdicts.jsonl

The oracle builds a Megatron Bridge ``ConfigContainer`` from each case and runs what a launched job would run up to the
first step, on a CPU, at the real world size: ``ConfigContainer.validate``, process groups, layer split, interleaving,
sequence slicing, layer build, router (megatron-core 0.19.2 and megatron-bridge 0.6.2; the checkouts of 22 August 2026
give the same). A case holds the provider's fields (``model``, then ``parallel`` over it), the other containers, and the
verdict. Nothing is judged here: fields are moved to where a batch line has them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SHORT = {
    "tp": "tensor_model_parallel_size",
    "pp": "pipeline_model_parallel_size",
    "vpp": "virtual_pipeline_model_parallel_size",
    "cp": "context_parallel_size",
    "ep": "expert_model_parallel_size",
    "etp": "expert_tensor_parallel_size",
    "sp": "sequence_parallel",
    "hcp": "hierarchical_context_parallel_sizes",
    "layout": "pipeline_model_parallel_layout",
    "first": "num_layers_in_first_pipeline_stage",
    "last": "num_layers_in_last_pipeline_stage",
}
"""The oracle's short names of a provider's fields."""

SECTIONS = ("ddp", "dist", "comm_overlap", "optimizer")


def batch_line(case: dict[str, Any]) -> dict[str, Any]:
    """The line that asks ``check --batch`` what the oracle was asked. Everything of the provider stays in ``model``."""
    provider = {**case["model"], **{SHORT.get(name, name): value for name, value in case["parallel"].items()}}
    provider |= {"vocab_size": case["vocab_size"]} | ({"multi_latent_attention": True} if case["mla"] else {})
    layout = {"train.micro_batch_size": case["mbs"], "train.global_batch_size": case["gbs"]}
    for section in SECTIONS:
        layout |= {f"{section}.{name}": value for name, value in case.get(section, {}).items()}
    if "mixed_precision" in case:
        layout["mixed_precision"] = case["mixed_precision"]
    layout["dataset.seq_length"] = case.get("dataset_seq_length", case["seq_length"])
    return {
        "name": case["name"],
        "gpus": case["world_size"],
        "gpu": "h100",
        "seq_length": case["seq_length"],
        "layout": layout,
        "model": _folded(provider),
    }


def _folded(provider: dict[str, Any]) -> dict[str, Any]:
    """Long lists in Megatron's short forms: a layer frequency as ``[0]*3+[1]*58``, chunks in the layout language."""
    folded = dict(provider)
    frequency = folded.get("moe_layer_freq")
    if isinstance(frequency, list):
        dense = frequency.index(1)
        assert frequency == [0] * dense + [1] * (len(frequency) - dense)
        folded["moe_layer_freq"] = f"[0]*{dense}+[1]*{len(frequency) - dense}"
    layout = folded.get("pipeline_model_parallel_layout")
    if isinstance(layout, list):
        tokens = {"embedding": "E", "decoder": "t", "mtp": "m", "loss": "L"}
        folded["pipeline_model_parallel_layout"] = "|".join("".join(tokens[name] for name in chunk) for chunk in layout)
    return folded


def main(path: str) -> None:
    for case in json.loads(Path(path).read_text(encoding="utf-8")):
        print(json.dumps({"accepted": case["expect"], "line": batch_line(case)}, separators=(",", ":")))


if __name__ == "__main__":
    main(sys.argv[1])
