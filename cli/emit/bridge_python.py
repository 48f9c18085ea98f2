"""The same fields as assignments to a Bridge ``ConfigContainer`` called ``cfg``."""

from __future__ import annotations

from typing import Any

from cli.emit.fields import OVERLAID, bridge_fields, title, unspeakable
from cli.read.files import MARK
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.spelling import spelling_of
from constraints.values import DTYPES

__all__ = ["emit"]

TORCH_NAMES = {name: torch_name for torch_name, name in DTYPES.items()}
"""Number formats as PyTorch calls them; the last of several names counts, so fp8 is uint8."""


def emit(problem: Problem, layout: Layout) -> str:
    """A Python function that changes a recipe's configuration in place."""
    fields = bridge_fields(problem, layout)
    lines = [f'"""Layout of {title(problem, layout)}."""', ""]
    if any(_is_dtype(path) for path, _ in fields):
        lines += ["import torch", ""]
    lines += [f"{MARK}{name}={value}" for name, value in unspeakable(layout).items()]
    lines += [
        "",
        "def apply_layout(cfg):",
        '    """Set every field of the layout on a Megatron Bridge ConfigContainer."""',
    ]
    lines += [f"    cfg.{path} = {_python(path, value)}" for path, value in fields]
    overlaid = [(name, value) for path, value in fields if (name := path.rsplit(".", 1)[-1]) in OVERLAID]
    if overlaid:
        lines.append("    if cfg.comm_overlap is not None:  # it is laid over the fields above")
        lines += [f"        cfg.comm_overlap.{name} = {value!r}" for name, value in overlaid]
    lines.append("    return cfg")
    return "\n".join(lines) + "\n"


def _is_dtype(path: str) -> bool:
    spelling = spelling_of(path)
    return spelling is not None and spelling.kind == "dtype"


def _python(path: str, value: Any) -> str:
    """``value`` as Python writes it; a number format is PyTorch's object, where an override may be its name."""
    return f"torch.{TORCH_NAMES[value]}" if _is_dtype(path) else repr(value)
