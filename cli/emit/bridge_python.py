"""The same fields as assignments to a Bridge ``ConfigContainer`` called ``cfg``."""

from __future__ import annotations

from typing import Any

from cli.emit.fields import (
    OVERLAID,
    TORCH_NAMES,
    bridge_fields,
    is_dtype,
    laid_over,
    remarks,
    spelled,
    title,
)
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """A Python function that changes a recipe's configuration in place."""
    fields = bridge_fields(problem, layout)
    words = f"Layout of {title(problem, layout)}.".replace("\\", "\\\\").replace('"', '\\"')
    lines = [f'"""{words}"""', ""]
    if any(is_dtype(path) for path, _ in fields):
        lines += ["import torch", ""]
    lines += remarks(problem, layout)
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
    if other := laid_over(problem, layout):
        lines += [
            "    from megatron.bridge.training.mixed_precision import get_mixed_precision_config",
            "",
            "    precision = get_mixed_precision_config(cfg.mixed_precision)  # it is laid over the fields above",
        ]
        lines += [f"    precision.{spelled(name).field} = {value!r}" for name, value in other.items()]
        lines.append("    cfg.mixed_precision = precision")
    lines.append("    return cfg")
    return "\n".join(lines) + "\n"


def _python(path: str, value: Any) -> str:
    """``value`` as Python writes it; a number format is PyTorch's object, where an override may be its name."""
    return f"torch.{TORCH_NAMES[value]}" if is_dtype(path) else repr(value)
