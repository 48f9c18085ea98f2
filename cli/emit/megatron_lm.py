"""Megatron-LM command-line flags."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

from cli.emit.fields import remark, says_mtp, spelled, switches, title
from cli.emit.launch import launcher, partial_node_note
from constraints.context import loss_as_said
from constraints.layout import Layout, Settings
from constraints.precision_names import FP8_RECIPES
from constraints.problem import Problem
from constraints.spelling import SPELLINGS

__all__ = ["emit", "emitted_settings"]


def emit(problem: Problem, layout: Layout) -> str:
    """A shell command for ``pretrain_gpt.py``: only what the layout decides; the model's own flags go with it.

    What Megatron-LM has no flag for stands in a comment that ``check`` reads.
    """
    flags, unsaid = _flags(problem, layout)
    notes = [title(problem, layout), *partial_node_note(problem, layout)]
    lines = [*(f"# {note}" for note in notes), *(remark(name, value) for name, value in unsaid)]
    head = f"{launcher(problem, layout)} pretrain_gpt.py"
    return "\n".join([*lines, " \\\n  ".join([head, *flags])]) + "\n"


def _flags(problem: Problem, layout: Layout) -> tuple[list[str], list[tuple[str, Any]]]:
    """(flags, words that no flag says with their values), in the order of the table of words."""
    values = _values(problem, layout)
    order = {spelling.name: place for place, spelling in enumerate(SPELLINGS)}
    flags = [f"--seq-length {problem.seq_length}", *_precision(problem.precision)]
    unsaid: list[tuple[str, Any]] = []
    if problem.model.mtp_num_layers:
        flags.append(f"--mtp-num-layers {problem.model.mtp_num_layers}")
    elif says_mtp(problem):
        unsaid.append(("mtp_num_layers", None))
    for name in sorted(values, key=lambda name: order[name]):
        if values[name] is not None:
            flag = _flag(name, values[name])
            if flag:
                flags.append(flag)
            else:
                unsaid.append((name, values[name]))
    if layout.settings.use_megatron_fsdp and not layout.settings.use_megatron_fsdp_v2:
        flags.append("--ckpt-format fsdp_dtensor")
    return flags, unsaid


def emitted_settings(problem: Problem, layout: Layout) -> Settings:
    """The switches that Megatron-LM is told: offloading the optimizer goes by the precision-aware one's code, which its
    command line insists on (NVIDIA/Megatron-LM@d98e8a6 ``megatron/training/arguments.py::validate_args``)."""
    settings = loss_as_said(problem, layout)
    return replace(settings, use_precision_aware_optimizer=True) if settings.optimizer_cpu_offload else settings


def _values(problem: Problem, layout: Layout) -> dict[str, Any]:
    x, split = layout, layout.split
    values: dict[str, Any] = {
        "tp": x.tp,
        "pp": x.pp,
        "vpp": x.vpp,
        "cp": x.cp,
        "ep": x.ep,
        "etp": x.etp,
        "sp": x.sequence_parallel or None,
        "mbs": x.micro_batch_size,
        "gbs": x.global_batch_size,
        "layout": split.layout,
        "first": split.first,
        "last": split.last,
        "account_for_embedding": split.account_for_embedding or None,
        "account_for_loss": split.account_for_loss or None,
        "recompute_granularity": x.recompute.granularity,
        "recompute_method": x.recompute.method,
        "recompute_num_layers": x.recompute.num_layers,
        "recompute_modules": list(x.recompute.modules) or None,
        **switches(emitted_settings(problem, x)),
        "use_distributed_optimizer": x.settings.use_distributed_optimizer,
    }
    if problem.model.is_moe:
        values["moe_token_dispatcher_type"] = x.settings.moe_token_dispatcher_type
    if split.layout is not None and x.vpp != 1:
        del values["vpp"]  # the layout string says it, and Megatron-LM takes one of the two
    if x.settings.cpu_offloading and x.settings.cpu_offloading_num_layers > 0:
        del values["cpu_offloading"]  # the number of layers switches it on
    else:
        values.pop("cpu_offloading_num_layers", None)
    return values


def _flag(name: str, value: Any) -> str | None:
    """The flag that says exactly this, or ``None`` if there is none."""
    spelling = spelled(name)
    if value is False:
        return spelling.unflag or None
    if (name, value) == ("vpp", 1):
        return None  # Megatron-LM reads it as "not interleaved"
    if not spelling.flag:
        return None
    if value is True:
        return f"{spelling.flag} 2" if spelling.kind == "version 2" else spelling.flag
    items = value if isinstance(value, list) else [value]
    return " ".join([spelling.flag, *(shlex.quote(str(item)) for item in items)])


def _precision(precision: str) -> list[str]:
    """Megatron-LM's flags for a precision; mxfp8 is e4m3 throughout, the other fp8 recipes are hybrid."""
    if precision == "fp16":
        return ["--fp16"]
    if precision == "nvfp4":
        return ["--bf16", "--fp4-format e2m1"]
    if precision in FP8_RECIPES:
        kind = "e4m3" if precision == "fp8_mx" else "hybrid"
        return ["--bf16", f"--fp8-format {kind}", f"--fp8-recipe {FP8_RECIPES[precision]}"]
    return ["--bf16"]
