"""Names of folders: what a person recognises, and what no file system takes for anything but one name in one folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from constraints.problem import GIB, Problem

__all__ = ["label", "machine_label", "unique_labels"]

LONGEST = 64
_OTHER = re.compile(r"[^a-z0-9.+-]+")


def label(text: str) -> str:
    """``text`` in lower case with only letters, digits, dots, pluses and dashes; it begins with a letter or digit.

    >>> label("../../etc/My_Model v2"), label("COM\\n"), label("//")
    ('etc-my-model-v2', 'com', 'unnamed')
    """
    plain = _OTHER.sub("-", text.lower())
    while ".." in plain:
        plain = plain.replace("..", ".")
    return plain.strip(".-+")[:LONGEST].rstrip(".-+") or "unnamed"


def machine_label(problem: Problem) -> str:
    """The GPU's name, and what of the machine is not the catalog's."""
    gpu = problem.gpu
    parts = [label(gpu.name)]
    if problem.gpus_per_node != gpu.gpus_per_node:
        parts.append(f"node{problem.gpus_per_node}")
    if problem.nvlink_domain != gpu.nvlink_domain:
        parts.append(f"domain{problem.nvlink_domain}")
    if problem.budget_bytes != int(gpu.usable_gib * GIB):
        parts.append(f"mem{problem.budget_bytes / GIB:g}")
    return "-".join(parts)


def unique_labels(named: Iterable[tuple[str, str]]) -> list[str]:
    """A label for each (label, fingerprint): where several fingerprints share a label, all but the first get a suffix.

    >>> unique_labels([("h100", "a"), ("h100", "b"), ("h200", "c"), ("h100", "a")])
    ['h100', 'h100-3e23e816', 'h200', 'h100']
    """
    owners: dict[str, str] = {}
    labels = []
    for plain, fingerprint in named:
        owner = owners.setdefault(plain, fingerprint)
        suffix = "" if owner == fingerprint else f"-{hashlib.sha256(fingerprint.encode()).hexdigest()[:8]}"
        labels.append(plain + suffix)
    return labels
