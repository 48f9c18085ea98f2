"""What an architecture is to the software: its compute capability, as CUDA reports it and ROCm's PyTorch does for AMD."""

from __future__ import annotations

import re

__all__ = ["AMD", "compute_capability"]

_OF = {
    "volta": (7, 0),
    "turing": (7, 5),
    "ampere": (8, 0),
    "ada": (8, 9),
    "hopper": (9, 0),
    "blackwell": (10, 0),
    "rubin": (10, 0),
    "cdna3": (9, 4),
    "cdna4": (9, 5),
}
"""By architecture, of its data-centre GPUs: the least where there are several (B300 is 10.3; nothing here tells them apart).

Sources: NVIDIA, "CUDA GPU Compute Capability" (developer.nvidia.com/cuda-gpus); AMD, gfx942 (MI300X, MI325X) and gfx950
(MI355X), as ROCm/TransformerEngine@030b792 ``transformer_engine/pytorch/utils.py`` reads them. Rubin counts as Blackwell.
"""

AMD = ("cdna",)
"""How the names of AMD's architectures begin."""


def compute_capability(architecture: str) -> tuple[int, int] | None:
    """(major, minor); ``None`` for an architecture that this file cannot read. A user's own GPU may say the number.

    >>> compute_capability("hopper"), compute_capability("sm_120"), compute_capability("8.9")
    ((9, 0), (12, 0), (8, 9))
    >>> compute_capability("unheard-of") is None
    True
    """
    text = architecture.lower()
    if number := re.fullmatch(r"(?:sm_?)?(\d+?)\.?(\d)[af]?", text):
        return int(number[1]), int(number[2])
    return next((found for name, found in _OF.items() if name in text), None)
