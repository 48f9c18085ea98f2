"""``meshwright verify``: check a certificate without the solver that wrote it."""

from __future__ import annotations

import json
import os
import sys

import click

from cli.text.page import Page
from constraints.errors import RequestError
from constraints.problem import GIB, Origin
from constraints.refutation.certificate import LARGEST_FILE, BadFile, Refuted, Verified, read_certificate, verify

__all__ = ["command"]


@click.command("verify")
@click.argument("file", metavar="CERTIFICATE")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(file: str, format_: str) -> int:
    """Check that the request in CERTIFICATE has no layout: every step, every witness, every way out.

    CERTIFICATE is what `solve --certificate FILE` wrote, or a report of `solve --format json`; - is standard input. Neither
    the solver nor ortools takes part. Exit 0: verified; 1: refuted; 2: not a certificate.
    """
    try:
        done = verify(read_certificate(_text(file)))
    except BadFile as error:
        raise RequestError("CERTIFICATE", file, Origin("flag", "CERTIFICATE"), str(error)) from None
    except Refuted as error:
        _print(format_, None, str(error))
        return 1
    _print(format_, done, "")
    return 0


def _text(file: str) -> str:
    """The file's text, read no further than a certificate can be long."""
    try:
        if file == "-":
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            if os.path.isdir(file):
                raise IsADirectoryError("is a folder")
            with open(file, "rb") as handle:
                data = handle.read(LARGEST_FILE + 1)
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadFile("is not text") from None
    except (OSError, ValueError) as error:
        raise BadFile(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _print(format_: str, done: Verified | None, reason: str) -> None:
    if format_ == "json":
        click.echo(json.dumps(_mapping(done, reason), indent=1))
        return
    page = Page()
    if done is None:
        page.line(click.style("refuted: ", fg="red", bold=True) + "the certificate does not prove what it says")
        page.entry("because", reason)
        click.echo(page.text(), nl=False)
        return
    problem = done.problem
    page.line(
        click.style("verified: ", fg="green", bold=True)
        + f"no layout of {problem.model.name} on {problem.gpus} x {problem.gpu.name}"
    )
    batch = f"global batch {problem.global_batch_size}" if problem.global_batch_size else "any global batch"
    words = [f"{problem.budget_bytes / GIB:.1f} GiB usable", f"sequence length {problem.seq_length}", batch]
    page.entry("request", ", ".join([*words, problem.precision, problem.task]))
    asked = ", ".join(str(getattr(pin, "text", pin.id)) for pin in problem.pins)
    if asked:
        page.entry("pinned", asked)
    for rules in done.conflicts:
        page.entry("conflict", f"{', '.join(rules)}: none of them can be spared")
    page.entry("steps", ", ".join(f"{name} {count}" for name, count in done.leaves.items()))
    for change in done.ways_out:
        page.entry("way out", f"{change}: its layout keeps every rule")
    click.echo(page.text(), nl=False)


def _mapping(done: Verified | None, reason: str) -> dict[str, object]:
    if done is None:
        return {"verified": False, "reason": reason}
    return {
        "verified": True,
        "model": done.problem.model.name,
        "gpu": done.problem.gpu.name,
        "gpus": done.problem.gpus,
        "conflicts": [list(rules) for rules in done.conflicts],
        "leaves": dict(done.leaves),
        "witnesses": done.witnesses,
        "ways_out": list(done.ways_out),
    }
