"""The same fields as assignments to a Bridge ``ConfigContainer`` called ``cfg``."""

from __future__ import annotations

from cli.emit.fields import bridge_fields
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """A Python function that changes a recipe's configuration in place."""
    fields = bridge_fields(problem, layout)
    lines = [
        f'"""Layout of {problem.model.name} on {layout.gpus} x {problem.gpu.name}, written by meshwright."""',
        "",
    ]
    overlap = any(path.startswith("comm_overlap.") for path, _ in fields)
    if overlap:
        lines += ["from megatron.bridge.training.comm_overlap import CommOverlapConfig", "", ""]
    lines += ["def apply_layout(cfg):", '    """Set every field of the layout on a Megatron Bridge ConfigContainer."""']
    if overlap:
        lines += [
            "    if cfg.comm_overlap is None:",
            f"        cfg.comm_overlap = CommOverlapConfig(tp_comm_overlap={layout.settings.tp_comm_overlap})",
        ]
    lines += [f"    cfg.{path} = {value!r}" for path, value in fields]
    lines.append("    return cfg")
    return "\n".join(lines) + "\n"
