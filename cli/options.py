"""The request options that commands share, and how flags and a request file become one request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from cli.completion import gpu_words, model_words, pin_words, rule_words, words_of
from constraints.errors import RequestError
from constraints.problem import Origin
from constraints.spelling import canonical_name
from solver.request import REPEATED, REQUEST_KEYS, Request, read_request

__all__ = ["Given", "model_argument", "request_and_layout", "request_from", "request_options", "search_options"]

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--request", "request_file", metavar="FILE", help="A YAML or JSON file with these same keys; flags win."
    ),
    click.option("--gpus", type=int, metavar="N", help="How many GPUs there are."),
    click.option("--gpu", metavar="NAME", help="Which GPU: h100, gb200 ... or a YAML entry.", shell_complete=gpu_words),
    click.option("--gpus-per-node", type=int, metavar="N", help="GPUs of one node (default: the catalog's)."),
    click.option("--nvlink-domain", type=int, metavar="N", help="GPUs that NVLink joins (default: the catalog's)."),
    click.option("--memory-gib", type=float, metavar="X", help="Usable memory of one GPU in GiB."),
    click.option("--seq-length", type=int, metavar="S", help="Tokens in a sequence (default 4096)."),
    click.option("--global-batch-size", type=int, metavar="B", help="Sequences in a step; chosen if not given."),
    click.option(
        "--precision",
        metavar="P",
        help="bf16 (default), fp8_cs, fp8_mx, nvfp4 ...",
        shell_complete=words_of("constraints.precision_names", "PRECISIONS"),
    ),
    click.option(
        "--task",
        metavar="T",
        help="pretrain (default), sft or lora.",
        shell_complete=words_of("solver.resolution", "TASKS"),
    ),
    click.option(
        "--optimizer",
        metavar="O",
        help="distributed (default), precision-aware or plain.",
        shell_complete=words_of("solver.memory_options", "OPTIMIZERS"),
    ),
    click.option(
        "--grad-dtype",
        metavar="T",
        help="Gradients in fp32 (default) or bf16.",
        shell_complete=words_of("solver.memory_options", "GRADIENT_TYPES"),
    ),
    click.option("--fsdp", is_flag=True, default=None, help="Megatron FSDP: parameters and gradients sharded too."),
    click.option("--offload-optimizer", metavar="P%", help="Share of the optimizer's moments kept in host memory."),
    click.option("--routing-imbalance", type=float, metavar="F", help="Busiest rank's expert rows over the mean (1)."),
    click.option("--packed", is_flag=True, default=None, help="Fine-tuning on sequences packed beforehand."),
    click.option(
        "--expandable-segments/--no-expandable-segments",
        default=None,
        help="PyTorch's allocator grows segments (default): less fragmentation.",
    ),
    click.option(
        "--megatron",
        metavar="V",
        help="Megatron-Core generation that judges (default: the newest known).",
        shell_complete=words_of("solver.resolution", "MEGATRON_VERSIONS"),
    ),
    click.option(
        "--stack",
        metavar="V",
        help="Software generation that times are predicted for, by NeMo container (default: the newest).",
        shell_complete=words_of("constraints.timing.calibration", "STACKS"),
    ),
    click.option(
        "--pin",
        multiple=True,
        metavar="KEY=VALUE",
        help="Fix a decision (tp, pp, mbs, recompute, recompute_method ...) or a switch; repeatable.",
        shell_complete=pin_words,
    ),
    click.option("--allow-borderline", is_flag=True, default=None, help="Accept layouts that may or may not fit."),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        help="Write the result to FILE, whole or not at all.",
        shell_complete=lambda ctx, param, incomplete: [click.shell_completion.CompletionItem(incomplete, type="file")],
    ),
)


_SEARCH_OPTIONS = (
    click.option(
        "--objective",
        metavar="NAME",
        help="step-time (default), communication, data-parallel or memory.",
        shell_complete=words_of("solver.resolution", "OBJECTIVE_NAMES"),
    ),
    click.option("--limit", multiple=True, metavar="'KEY<=N'", help="Bound a decision; repeatable."),
    click.option(
        "--relax",
        multiple=True,
        metavar="RULE",
        help="Do not insist on an advice rule; repeatable.",
        shell_complete=rule_words,
    ),
)


def request_options(function: F) -> F:
    """Decorate a command with the options that every command shares."""
    return _decorated(function, _OPTIONS)


def search_options(function: F) -> F:
    """Decorate a command with the options of those that search for layouts."""
    return _decorated(function, _SEARCH_OPTIONS)


def _decorated(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def model_argument(function: F) -> F:
    """Decorate a command with MODEL, completed from the catalog."""
    return click.argument("model", required=False, shell_complete=model_words)(function)


@dataclass(frozen=True)
class Given:
    """A request, and the layout that its file holds beside it, as it stands there."""

    request: Request
    layout: Any
    layout_origin: Origin


def request_from(flags: dict[str, Any]) -> Request:
    """One request from a file and flags; a flag wins over the file, and each value remembers where it came from.

    Raises :class:`~constraints.errors.RequestError` if the file holds a layout, which only ``check`` reads.
    """
    given = request_and_layout(flags)
    if given.layout is not None:
        raise RequestError("layout", None, given.layout_origin, "stands in the request: only check takes one")
    return given.request


def request_and_layout(flags: dict[str, Any]) -> Given:
    """:func:`request_from`, and the ``layout`` of the request file."""
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    path = flags.get("request_file")
    if path:
        values, origins = read_request(path)
    layout = values.pop("layout", None)
    for name in REQUEST_KEYS:
        value = flags.get(name)
        if value is None or (name in REPEATED and not value):
            continue
        flag = Origin("flag", "MODEL" if name == "model" else "--" + name.replace("_", "-"))
        if name in REPEATED:
            origins |= {f"{name} {word}": flag for word in value}
            value = (*_not_repeated(values.get(name, ()), value), *value)
        values[name] = value
        origins[name] = flag
    layout_origin = origins.pop("layout", Origin("file", path or ""))
    return Given(Request(**values, origins=origins), layout, layout_origin)


def _not_repeated(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The file's words about other keys than the flags': ``--pin tp=8`` takes the place of ``pin: {tp: 4}``."""
    taken = {_key(word) for word in flags}
    return [word for word in words if _key(word) not in taken]


def _key(word: str) -> str:
    for sign in ("<", ">", "="):
        head, found, _ = word.partition(sign)
        if found:
            return canonical_name(head.strip()) + (sign if sign in "<>" else "")
    return word
