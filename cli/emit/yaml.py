"""A YAML mapping of the layout, under Megatron's names; ``meshwright check MODEL ... @FILE`` reads it back."""

from __future__ import annotations

from typing import Any

from constraints.layout import Layout
from constraints.problem import Problem
from constraints.spelling import spelling_of

__all__ = ["emit"]


def emit(problem: Problem, layout: Layout) -> str:
    """The layout as YAML, a comment naming what it is for on top."""
    import yaml

    title = f"# {problem.model.name} on {layout.gpus} x {problem.gpu.name}, sequence length {problem.seq_length}\n"
    return title + yaml.safe_dump(_mapping(layout), sort_keys=False, default_flow_style=None, width=110)


def _mapping(layout: Layout) -> dict[str, Any]:
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
        **{name: list(v) if isinstance(v, tuple) else v for name, v in x.settings.changed().items()},
    }
    out = {}
    for name, value in values.items():
        spelling = spelling_of(name)
        assert spelling is not None
        if value is not None or name == "vpp":
            out[spelling.field if name != "dataset_seq_length" else name] = value
    return out
