"""``meshwright check``: judge a layout, or a file of them. Never imports ortools."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click

from cli.options import request_from, request_options
from cli.output import deliver

__all__ = ["command"]


@click.command("check", context_settings={"ignore_unknown_options": False})
@click.argument("words", nargs=-1, metavar="MODEL LAYOUT...")
@request_options
@click.option("--batch", metavar="FILE.jsonl", help="Judge one JSON object a line; one verdict a line, in order.")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(words: tuple[str, ...], batch: str | None, format_: str, output: str | None, **flags: Any) -> int:
    """Judge a LAYOUT that you already have: every broken rule in one pass, with the numbers.

    LAYOUT is `tp=8 pp=4 ...`, Megatron Bridge overrides (`model.tensor_model_parallel_size=8 ...`), Megatron-LM flags
    after `--`, or @FILE (what `solve` wrote, or YAML).

    \b
    meshwright check llama-3.1-70b --gpus 64 --gpu h100 tp=8 pp=4 vpp=5 gbs=128
    meshwright check deepseek-v3 --gpus 256 --gpu h100 tp=2 pp=16 ep=64
    """
    if batch is not None:
        from cli.batch import judge_file

        return judge_file(batch, request_from(flags), output)
    from constraints.reading import read_layout
    from solver.resolution import resolve
    from solver.verdict import check

    model, rest = _split(words, flags)
    request = request_from({**flags, "model": model})
    raw, origins = _read_words(rest)
    problem = resolve(request)
    reading = read_layout(raw, problem, origins)
    problem, notes = _with_request_words(problem, reading)
    verdict = check(problem, reading.layout, [*reading.warnings, *notes])
    if format_ == "json":
        text = json.dumps(verdict.to_mapping(), indent=1)
    else:
        from cli.text.judged import judged_text

        text = judged_text(verdict)
    deliver(text, output)
    return 0 if verdict.legal and verdict.fits else 1


def _split(words: tuple[str, ...], flags: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """The model is the first word, unless a request file names it and the first word is already a layout word."""
    if words and "=" not in words[0] and not words[0].startswith(("@", "-")):
        return words[0], words[1:]
    return None, words


def _read_words(words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    from cli.read.words import read_words

    return read_words(words)


def _with_request_words(problem: Any, reading: Any) -> tuple[Any, list[str]]:
    return replace(problem), []
