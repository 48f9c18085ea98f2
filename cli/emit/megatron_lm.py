"""Megatron-LM command-line flags."""

from __future__ import annotations

import shlex
from typing import Any

from cli.emit.launch import environment, nodes
from constraints.layout import Layout
from constraints.problem import Problem
from constraints.spelling import SPELLINGS, spelling_of

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """A shell command for ``pretrain_gpt.py``: only what the layout decides; the model's own flags go with it."""
    count, per_node = nodes(problem, layout)
    variables = "".join(f"{name}={value} " for name, value in environment(problem, layout).items())
    several = f"--nnodes={count} " if count > 1 else ""
    head = f"{variables}torchrun {several}--nproc_per_node={per_node} pretrain_gpt.py"
    title = f"# {problem.model.name} on {layout.gpus} x {problem.gpu.name}, written by meshwright"
    return title + "\n" + " \\\n  ".join([head, *_flags(problem, layout)]) + "\n"


def _flags(problem: Problem, layout: Layout) -> list[str]:
    x, split = layout, layout.split
    values: dict[str, Any] = {
        "tp": x.tp,
        "pp": x.pp,
        "vpp": x.vpp if split.layout is None else None,  # a layout string says it; Megatron-LM takes one of the two
        "cp": x.cp,
        "ep": x.ep,
        "etp": x.etp,
        "sp": x.sequence_parallel,
        "mbs": x.micro_batch_size,
        "gbs": x.global_batch_size,
        "layout": split.layout,
        "first": split.first,
        "last": split.last,
        "account_for_embedding": split.account_for_embedding,
        "account_for_loss": split.account_for_loss,
        "recompute_granularity": x.recompute.granularity,
        "recompute_method": x.recompute.method,
        "recompute_num_layers": x.recompute.num_layers,
        "recompute_modules": x.recompute.modules,
        "use_distributed_optimizer": x.settings.use_distributed_optimizer,
    }
    if problem.model.is_moe:
        values["moe_token_dispatcher_type"] = x.settings.moe_token_dispatcher_type
    values |= {name: value for name, value in x.settings.changed().items() if name != "use_distributed_optimizer"}
    order = {spelling.name: place for place, spelling in enumerate(SPELLINGS)}
    flags = [f"--seq-length {problem.seq_length}"]
    for name in sorted(values, key=lambda name: order[name]):
        flags += _flag(name, values[name])
    return flags


def _flag(name: str, value: Any) -> list[str]:
    spelling = spelling_of(name)
    assert spelling is not None
    if value is None or value is False or value == () or not spelling.flag:
        return []
    if value is True:
        return [spelling.flag]
    if isinstance(value, tuple):
        return [" ".join([spelling.flag, *(shlex.quote(str(item)) for item in value)])]
    return [f"{spelling.flag} {shlex.quote(str(value))}"]
