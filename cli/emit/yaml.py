"""A YAML mapping of the layout, under Megatron's names; ``meshwright check MODEL ... @FILE`` reads it back."""

from __future__ import annotations

from typing import Any

from cli.emit.fields import says_mtp, spelled, switches, title
from constraints.context import loss_as_said
from constraints.layout import Layout
from constraints.problem import Problem

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """The layout as YAML, a comment naming what it is for on top."""
    import yaml

    text: str = yaml.safe_dump(_mapping(problem, layout), sort_keys=False, width=110)
    return f"# {title(problem, layout)}\n{text}"


def _mapping(problem: Problem, layout: Layout) -> dict[str, Any]:
    x, split = layout, layout.split
    values: dict[str, Any] = {
        **{name: getattr(x, name) for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp", "edp")},
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
        "recompute_modules": list(x.recompute.modules) or None,
        **switches(loss_as_said(problem, x)),
    }
    out = {_key(name): value for name, value in values.items() if value is not None or name == "vpp"}
    out |= {"seq_length": problem.seq_length, "precision": problem.precision}
    if says_mtp(problem):
        out["mtp_num_layers"] = problem.model.mtp_num_layers
    return out


def _key(name: str) -> str:
    """Megatron's name, where it is not another word's too."""
    spelling = spelled(name)
    return name if name in ("dataset_seq_length", "use_megatron_fsdp_v2") else spelling.field
