"""``meshwright counts``: which GPU counts of a range can be used, the best layout on each, and why the gaps are gaps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import click

from cli.options import model_argument, request_from, request_options, search_options
from cli.output import deliver, ensure_writable
from constraints.errors import RequestError
from constraints.problem import Origin

__all__ = ["command"]

MOST_COUNTS = 10_000


@click.command("counts")
@model_argument
@request_options
@search_options
@click.option("--between", type=int, nargs=2, metavar="A B", help="The counts from A to B, both included.")
@click.option("--whole-nodes", is_flag=True, help="Only counts that fill their nodes.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Give up on one count after this long (default 60).")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(between: tuple[int, int] | None, whole_nodes: bool, format_: str, output: str | None, **flags: Any) -> int:
    """Say which GPU counts have a layout of MODEL, the best one on each, and why there is none on the others.

    \b
    meshwright counts llama-3.1-70b --gpu h100 --between 90 130
    meshwright counts deepseek-v3 --gpu h100 --gpus 1000 --whole-nodes

    With --gpus N and no range: the counts from a node below N to a node above it.
    """
    from solver.resolution import resolve

    ensure_writable(output)
    request = request_from(flags)
    asked = request.gpus
    problem = resolve(request if asked is not None else replace(request, gpus=1))
    counts = _counts(between, asked, problem.gpus_per_node, whole_nodes)
    from solver.counts import counts_between

    with _progress(len(counts)) as tell:
        found = counts_between(problem, counts, seconds=request.time_limit, progress=tell)
    if format_ == "json":
        text = json.dumps(found.to_mapping(asked), indent=1)
    else:
        from cli.text.counts import counts_text

        text = counts_text(found, asked)
    deliver(text, output)
    return found.exit_code


def _counts(between: tuple[int, int] | None, asked: int | None, per_node: int, whole_nodes: bool) -> range:
    from solver.resolution import LARGEST

    if between is None and asked is None:
        raise RequestError("between", None, Origin("request", "between"), "is missing: give --between A B, or --gpus N")
    first, last = between or (max(1, (asked or 1) - per_node), (asked or 1) + per_node)
    flag = Origin("flag", "--between")
    for value in (first, last):
        if not 1 <= value <= LARGEST["gpus"]:
            raise RequestError("between", value, flag, f"must be from 1 to {LARGEST['gpus']}")
    if last < first:
        raise RequestError("between", f"{first} {last}", flag, "goes down: the smaller count comes first")
    counts = range(-(-first // per_node) * per_node, last + 1, per_node) if whole_nodes else range(first, last + 1)
    if not counts:
        raise RequestError("between", f"{first} {last}", flag, f"holds no multiple of the {per_node} GPUs of a node")
    if len(counts) > MOST_COUNTS:
        message = f"holds {len(counts):,} counts, more than {MOST_COUNTS:,}: give a shorter range, or --whole-nodes"
        raise RequestError("between", f"{first} {last}", flag, message)
    return counts


@contextmanager
def _progress(counts: int) -> Iterator[Any]:
    """What tells a person at a terminal how far it is; ``None`` elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("counts", total=counts)
        yield lambda count: bar.update(task, advance=1, description=f"{count.gpus} GPUs: {count.status}")
