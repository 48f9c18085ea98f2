"""``meshwright verify``: check a certificate without the solver that wrote it."""

from __future__ import annotations

import json
import os
import sys

import click

from cli.output import deliver
from cli.text.page import Page
from constraints.errors import RequestError
from constraints.problem import GIB, Origin
from constraints.refutation.certificate import (
    LARGEST_FILE,
    BadFile,
    Refuted,
    Verified,
    VerifiedOptimum,
    read_certificate,
    verify,
)
from constraints.refutation.space import DEGREES

__all__ = ["command"]


@click.command("verify")
@click.argument("file", metavar="CERTIFICATE")
@click.option("--format", "format_", type=click.Choice(("text", "json")), default="text", show_default=True)
def command(file: str, format_: str) -> int:
    """Check what CERTIFICATE says of the request in it: that it has no layout, or none better than the one it names.

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


def _print(format_: str, done: Verified | VerifiedOptimum | None, reason: str) -> None:
    if format_ == "json":
        deliver(json.dumps(_mapping(done, reason), indent=1))
        return
    page = Page()
    if done is None:
        page.line(click.style("refuted: ", fg="red", bold=True) + "the certificate does not prove what it says")
        page.entry("because", reason)
    else:
        _verified(page, done)
    deliver(page.text())


def _verified(page: Page, done: Verified | VerifiedOptimum) -> None:
    problem = done.problem
    what = "no layout" if isinstance(done, Verified) else f"no better layout ({problem.objective})"
    page.line(
        click.style("verified: ", fg="green", bold=True)
        + f"{what} of {problem.model.name} on {problem.gpus} x {problem.gpu.name}"
    )
    batch = f"global batch {problem.global_batch_size}" if problem.global_batch_size else "any global batch"
    if problem.target_batch is not None:
        batch = f"global batch within {problem.tolerance_percent} of {problem.target_batch}"
    words = [f"{problem.budget_bytes / GIB:.1f} GiB usable", f"sequence length {problem.seq_length}", batch]
    page.entry("request", ", ".join([*words, problem.precision, problem.task]))
    asked = ", ".join(str(getattr(pin, "text", pin.id)) for pin in problem.pins)
    if asked:
        page.entry("pinned", asked)
    if isinstance(done, VerifiedOptimum):
        words = [f"{name}={value}" for name, value in _degrees(done).items() if value is not None]
        page.entry("best", f"{' '.join(words)}: keeps every rule")
        page.entry("value", f"{_value(done)}; some layouts may be exactly as good")
    else:
        for rules in done.conflicts:
            page.entry("conflict", f"{', '.join(rules)}: none of them can be spared")
    page.entry("steps", ", ".join(f"{name} {count}" for name, count in done.leaves.items()))
    page.entry("proof", _proof(done))
    if done.fewer:
        counts = f"{done.fewer[0]} to {done.fewer[-1]}" if len(done.fewer) > 1 else str(done.fewer[0])
        page.entry("idle", f"no layout uses {counts} of the {problem.gpus} GPUs")
    elif problem.allow_idle and isinstance(done, Verified):
        page.entry("idle", "nothing is said of layouts that leave GPUs idle")
    for change in done.ways_out if isinstance(done, Verified) else ():
        page.entry("way out", f"{change}: its layout keeps every rule")


def _proof(done: Verified | VerifiedOptimum) -> str:
    """The level, and what it means here."""
    if done.level == "partition":
        steps, over = sum(done.leaves.values()), done.over_partitions
        return f"partition: {over} of the {steps} steps are over every partition of the layers"
    return "exhaustive: no step is about where the layers go"


def _degrees(done: VerifiedOptimum) -> dict[str, object]:
    """The decisions of the best layout, in the words that ``check`` reads."""
    x = done.layout
    words = {name: getattr(x, name) for name in DEGREES} | {"vpp": x.vpp, "mbs": x.micro_batch_size}
    return words | {"gbs": x.global_batch_size, "sp": x.sequence_parallel, "recompute": x.recompute.granularity}


def _value(done: VerifiedOptimum) -> str:
    value, per = done.value, "a step" if done.problem.global_batch_size is not None else "a sequence"
    if done.problem.objective == "memory":
        return f"{value / 100 / GIB:.3f} GiB on the fullest GPU, estimated high"
    if done.problem.objective == "data-parallel":
        return f"{-value} replicas" if value < -1 else "1 replica"
    return f"{value / 1e6:.3f} ms {per}"


def _mapping(done: Verified | VerifiedOptimum | None, reason: str) -> dict[str, object]:
    if done is None:
        return {"verified": False, "reason": reason}
    common = {
        "verified": True,
        "claim": "infeasible" if isinstance(done, Verified) else "optimal",
        "model": done.problem.model.name,
        "gpu": done.problem.gpu.name,
        "gpus": done.problem.gpus,
        "leaves": dict(done.leaves),
        "proof": done.level,
        "fewer_gpus": list(done.fewer),
    }
    if isinstance(done, VerifiedOptimum):
        objective = {"objective": done.problem.objective, "value": done.value}
        return common | objective | {"layout": _degrees(done) | {"gpus": done.layout.gpus}}
    return common | {
        "conflicts": [list(rules) for rules in done.conflicts],
        "witnesses": done.witnesses,
        "ways_out": list(done.ways_out),
    }
