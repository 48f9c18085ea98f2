"""The same fields as assignments to a Bridge ``ConfigContainer`` called ``cfg``."""

from __future__ import annotations

from cli.emit.fields import OVERLAID, bridge_fields, title, unspeakable
from cli.read.files import MARK
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """A Python function that changes a recipe's configuration in place."""
    fields = bridge_fields(problem, layout)
    lines = [f'"""Layout of {title(problem, layout)}."""', ""]
    lines += [f"{MARK}{name}={value}" for name, value in unspeakable(layout).items()]
    lines += [
        "",
        "def apply_layout(cfg):",
        '    """Set every field of the layout on a Megatron Bridge ConfigContainer."""',
    ]
    lines += [f"    cfg.{path} = {value!r}" for path, value in fields]
    overlaid = [(name, value) for path, value in fields if (name := path.rsplit(".", 1)[-1]) in OVERLAID]
    if overlaid:
        lines.append("    if cfg.comm_overlap is not None:  # it is laid over the fields above")
        lines += [f"        cfg.comm_overlap.{name} = {value!r}" for name, value in overlaid]
    lines.append("    return cfg")
    return "\n".join(lines) + "\n"
