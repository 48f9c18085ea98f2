"""Megatron Bridge overrides, one a line, after the command that takes them: paste the whole, or the overrides alone."""

from __future__ import annotations

import json
import re
import shlex
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
from cli.emit.launch import launch_line, partial_node_note
from constraints.layout import Layout
from constraints.precision_names import MIXED_PRECISION
from constraints.problem import Problem

__all__ = ["emit", "override"]

_UNQUOTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Words that Hydra's grammar reads as they are; ``|`` and ``*`` would pass too, parentheses and commas would not."""


def emit(problem: Problem, layout: Layout) -> str:
    """A shell command: the launch line and the overrides as its continuation lines."""
    fields = bridge_fields(problem, layout)
    notes = [title(problem, layout), *partial_node_note(problem, layout)]
    overlaid = [path for path, _ in fields if path.rsplit(".", 1)[-1] in OVERLAID]
    if overlaid:
        notes.append(f"a recipe with comm_overlap lays it over {', '.join(overlaid)}: set them there too")
    other = [f"{spelled(name).field}={_hydra(value)}" for name, value in laid_over(problem, layout).items()]
    if other:
        notes.append(
            f"{MIXED_PRECISION[problem.precision]} sets its own {', '.join(other)}: say it to cfg.mixed_precision"
        )
    lines = [*(f"# {note}" for note in notes), *remarks(problem, layout)]
    body = [launch_line(problem, layout), *(shlex.quote(override(path, value)) for path, value in fields)]
    return "\n".join([*lines, " \\\n  ".join(body)]) + "\n"


def override(path: str, value: Any) -> str:
    """One ``container.field=value`` in Hydra's override grammar, not yet quoted for a shell.

    >>> override("model.pipeline_model_parallel_layout", "Et*2|t*2L")
    'model.pipeline_model_parallel_layout="Et*2|t*2L"'
    """
    return f"{path}={_hydra(TORCH_NAMES[value] if is_dtype(path) else value)}"


def _hydra(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_hydra(item) for item in value) + "]"
    if isinstance(value, str) and not _UNQUOTED.fullmatch(value):
        return json.dumps(value)
    return str(value)
