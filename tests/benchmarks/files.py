"""Published rows as the tests write them: a table's columns, a run that can be scored, a file of both."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

TIMED = {
    "source": "docs",
    "section": "26.04 NeMo Container",
    "provenance": "repo table",
    "model": "LLAMA3_70B",
    "task": "pretrain",
    "gpu": "H100",
    "num_gpus": "64",
    "precision": "fp8_cs",
    "seq_length": "8192",
    "gbs": "128",
    "mbs": "1",
    "tp": "4",
    "pp": "4",
    "cp": "1",
    "vp": "5",
    "ep": "1",
    "tokens_per_sec_per_gpu": "1600",
}
"""A run with a rate."""

MIXTURE = {
    "model": "Qwen3_30B_a3B",
    "gpu": "B200",
    "num_gpus": "8",
    "seq_length": "4096",
    "tp": "1",
    "pp": "1",
    "vp": "",
    "ep": "8",
}
"""What makes it one of a mixture of experts in one NVLink domain."""

MEASURED = {
    "id": "cluster",
    "model": "Llama-3.1-8B",
    "gpu": "H100-80GB",
    "num_gpus": "8",
    "tp": "2",
    "pp": "1",
    "mbs": "1",
    "gbs": "32",
    "seq": "4096",
    "recompute": "none",
    "precision": "bf16",
    "dist_opt": "1",
    "sp": "1",
    "peak_alloc_GiB": "40",
    "fits": "1",
}
"""A run with a measured peak."""


def timed(**changes: str) -> dict[str, str]:
    """A run with a rate, changed."""
    return TIMED | changes


def written(path: Path, rows: Iterable[Mapping[str, str]], **how: str) -> str:
    """``rows`` in a file at ``path``; ``encoding`` and ``lineterminator`` as files come."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding=how.get("encoding", "utf-8")) as file:
        table = csv.DictWriter(file, names, restval="", lineterminator=how.get("lineterminator", "\n"))
        table.writeheader()
        table.writerows(rows)
    return str(path)
