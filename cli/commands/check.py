"""``meshwright check``: judge a layout, or a file of them. The verdict never imports ortools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from cli import solver_package
from cli.completion import model_words
from cli.options import Given, request_and_layout, request_from, request_options
from cli.output import deliver, ensure_writable
from cli.streams import remark
from constraints.errors import RequestError
from constraints.problem import Origin
from constraints.spelling import flag_of, spelling_of
from solver.request import Request

if TYPE_CHECKING:  # a layout that is fine does without it
    from solver.nearest import Nearest
    from solver.single_changes import SingleChange
    from solver.verdict import Verdict

__all__ = ["command"]


MACHINE = ("gpus_per_node", "nvlink_domain", "memory_gib")
"""What is said of one kind of GPU and means nothing for another."""


class CheckCommand(click.Command):
    """Tells somebody who forgot the ``--`` before Megatron-LM's flags."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if spelling_of(flag_of(error.option_name)) is None:
                raise
            message = f"{error.option_name} is a flag of Megatron-LM: write the layout's flags after a -- of their own"
            raise click.UsageError(message, ctx) from None


@click.command("check", cls=CheckCommand)
@click.argument("words", nargs=-1, metavar="MODEL LAYOUT...", shell_complete=model_words)
@request_options
@click.option("--batch", metavar="FILE", help="Judge one JSON object a line (- is standard input), in order.")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(words: tuple[str, ...], batch: str | None, format_: str, output: str | None, **flags: Any) -> int:
    """Judge a LAYOUT that you already have: every broken rule in one pass, with the numbers.

    LAYOUT is `tp=8 pp=4 ...`, Megatron Bridge overrides (`model.tensor_model_parallel_size=8 ...`), Megatron-LM flags
    after `--`, or @FILE (what `solve` wrote, a shell command or YAML with any of these words).

    With --batch each line holds request keys, `layout`, and `model` (a name, a path, or an entry of Megatron's fields).

    \b
    meshwright check llama-3.1-70b --gpus 64 --gpu h100 tp=8 pp=4 vpp=5 gbs=128
    meshwright check deepseek-v3 --gpus 256 --gpu h100 tp=2 pp=16 ep=64
    meshwright check llama-3.1-70b --gpus 64 --gpu h100 -- --tensor-model-parallel-size 8
    """
    ensure_writable(output)
    if batch is not None:
        if words:
            raise click.UsageError(f"--batch takes models and layouts from its file, not {words[0]!r}")
        from cli.batch import judge_file

        return judge_file(batch, request_from(flags), output)
    from cli.read.words import read_words

    model, rest = _split(words)
    given = request_and_layout({**flags, "model": model})
    found = read_words(rest)
    _take_layout(given, found)
    from solver.judgement import judge

    request = _asked(given.request, found.asked, found.asked_at)
    verdict = judge(request, found.raw, found.origins)
    if not found.raw:
        raise RequestError("layout", None, Origin("request", "layout"), "is missing: give words such as tp=8, or @FILE")
    fine = verdict.legal and verdict.fits
    nearest = None
    single: tuple[SingleChange, ...] = ()
    if not fine:
        from solver.single_changes import single_changes

        nearest, single = _nearest(verdict), single_changes(verdict)
    if format_ == "json":
        mapping = verdict.to_mapping(relief=True) | {"nearest": nearest.to_mapping() if nearest else None}
        mapping["single_changes"] = [one.to_mapping() for one in single]
        text = json.dumps(mapping, indent=1)
    else:
        from cli.text.judged import judged_text

        text = judged_text(verdict, nearest, single)
    deliver(text, output)
    return 0 if fine else 1


def _nearest(verdict: Verdict) -> Nearest | None:
    """The nearest legal layout; where the solver is not installed, none that is further away than one change."""
    from solver.nearest import nearest_legal

    try:
        return nearest_legal(verdict)
    except ImportError as error:
        if not solver_package.is_missing(error):
            raise
        remark(f"the nearest legal layout was not looked for: {solver_package.NAME} is not installed")
        return None


def _split(words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
    """The model is the first word, unless a file names it and the first word is already a layout word."""
    if words and "=" not in words[0] and not words[0].startswith(("@", "-")):
        return words[0], words[1:]
    return None, words


def _take_layout(given: Given, found: Any) -> None:
    """Add the layout that the request file holds; the command line's words go before it."""
    layout, origin = given.layout, given.layout_origin
    if layout is None:
        return
    from cli.read.files import take_mapping
    from cli.read.words import Words, split_line, take_line

    theirs = Words()
    if isinstance(layout, Mapping):
        take_mapping(layout, theirs, str(origin))
    elif isinstance(layout, str) or (isinstance(layout, list) and all(isinstance(word, str) for word in layout)):
        take_line(split_line(layout, origin) if isinstance(layout, str) else layout, origin, theirs)
    else:
        raise RequestError("layout", None, origin, "must be a mapping, a list of words, or one line of them")
    names = {spelling.name for word in found.raw if (spelling := spelling_of(word))}
    for word, value in theirs.raw.items():
        spelling = spelling_of(word)
        if word not in found.raw and (spelling is None or spelling.name not in names):
            found.add(word, value, theirs.origins[word])


def _asked(request: Request, asked: Mapping[str, Any], origin: Origin) -> Request:
    """What a report of ``solve`` says of its request, where neither flags nor a request file say otherwise."""
    values = {name: value for name, value in asked.items() if getattr(request, name) is None}
    if request.gpu not in (None, asked.get("gpu")):
        values = {name: value for name, value in values.items() if name not in MACHINE}
    return replace(request, **values, origins={**dict.fromkeys(values, origin), **request.origins})
