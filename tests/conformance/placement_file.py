"""Files of recorded groups: a head, then one mesh a line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from tests.conformance.verdict_file import FOLDER

__all__ = ["placement_files", "shape_count", "shapes"]


def placement_files() -> list[Path]:
    """Every file of recorded groups, oldest Megatron first."""
    return sorted(FOLDER.glob("placement_*.jsonl.gz"))


def shapes(path: Path) -> list[dict[str, Any]]:
    """Each mesh (``shape``) and every group of each kind in it (``groups``)."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file][1:]


def shape_count(path: Path) -> int:
    return len(shapes(path))
