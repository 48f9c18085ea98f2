"""Megatron Bridge overrides, one a line, after the command that takes them: paste the whole, or the overrides alone."""

from __future__ import annotations

import json
import shlex
from typing import Any

from cli.emit.fields import bridge_fields
from cli.emit.launch import launch_line, nodes
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["emit", "override"]


def emit(problem: Problem, layout: Layout) -> str:
    """A shell command: the launch line and the overrides as its continuation lines."""
    lines = [f"# {problem.model.name} on {layout.gpus} x {problem.gpu.name}, written by meshwright"]
    count, per_node = nodes(problem, layout)
    if layout.gpus % per_node:
        lines.append(
            f"# the last of {count} nodes runs {layout.gpus % per_node} processes: start it with that --nproc_per_node"
        )
    body = [launch_line(problem, layout), *(override(path, value) for path, value in bridge_fields(problem, layout))]
    return "\n".join([*lines, " \\\n  ".join(body)]) + "\n"


def override(path: str, value: Any) -> str:
    """One ``container.field=value`` word, quoted for a shell where it must be.

    >>> override("model.pipeline_model_parallel_layout", "Et*2|t*2L")
    "'model.pipeline_model_parallel_layout=\\"Et*2|t*2L\\"'"
    """
    return shlex.quote(f"{path}={_hydra(value)}") if _needs_quotes(value) else f"{path}={_hydra(value)}"


def _needs_quotes(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and not value.replace("_", "").isalnum())


def _hydra(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ",".join(_hydra(item) for item in value) + "]"
    if isinstance(value, str) and _needs_quotes(value):
        return json.dumps(value)
    return str(value)
