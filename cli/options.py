"""The request options that ``solve`` and ``check`` share, and how flags and a request file become one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from constraints.problem import Origin
from solver.request import REQUEST_KEYS, Request, read_request

__all__ = ["request_from", "request_options"]

F = TypeVar("F", bound=Callable[..., Any])

_REPEATED = ("pin", "limit", "relax")
_SWITCHES = ("allow_borderline", "allow_idle")

_OPTIONS = (
    click.option(
        "--request", "request_file", metavar="FILE", help="A YAML or JSON file with these same keys; flags win."
    ),
    click.option("--gpus", type=int, metavar="N", help="How many GPUs there are."),
    click.option("--gpu", metavar="NAME", help="Which GPU: h100, h200, b200, gb200, a100-80gb ..."),
    click.option("--gpus-per-node", type=int, metavar="N", help="GPUs of one node (default: the catalog's)."),
    click.option("--nvlink-domain", type=int, metavar="N", help="GPUs that NVLink joins (default: the catalog's)."),
    click.option("--memory-gib", type=float, metavar="X", help="Usable memory of one GPU in GiB."),
    click.option("--seq-length", type=int, metavar="S", help="Tokens in a sequence (default 4096)."),
    click.option("--global-batch-size", type=int, metavar="B", help="Sequences in a step; chosen if not given."),
    click.option("--precision", metavar="P", help="bf16 (default), fp8_cs, fp8_mx, nvfp4 ..."),
    click.option("--task", metavar="T", help="pretrain (default), sft or lora."),
    click.option("--optimizer", metavar="O", help="distributed (default) or plain."),
    click.option("--megatron", metavar="V", help="Megatron-Core generation that judges (default: the newest known)."),
    click.option("--pin", multiple=True, metavar="KEY=VALUE", help="Fix a decision or a switch; repeatable."),
    click.option("--allow-borderline", is_flag=True, default=None, help="Accept layouts that may or may not fit."),
    click.option("-o", "--output", metavar="FILE", help="Write the result to FILE, whole or not at all."),
)


def request_options(function: F) -> F:
    """Decorate a command with the shared options."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def request_from(flags: dict[str, Any]) -> Request:
    """One request from a file and flags; a flag wins over the file, and each value remembers where it came from."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    path = flags.get("request_file")
    if path:
        values, origins = read_request(path)
    for name in REQUEST_KEYS:
        value = flags.get(name)
        if value is None or (name in _REPEATED and not value):
            continue
        flag = "MODEL" if name == "model" else "--" + name.replace("_", "-")
        values[name] = (*values.get(name, ()), *value) if name in _REPEATED else value
        origins[name] = Origin("flag", flag)
    return Request(**values, origins=origins)
