"""``meshwright solve``: the best layouts of a request, or the rules that forbid one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from cli.options import model_argument, request_from, request_options, search_options
from cli.output import deliver, ensure_writable
from cli.rendering import FORMATS, rendered

__all__ = ["command"]

EXIT_CODES = {"optimal": 0, "feasible": 0, "infeasible": 1, "unknown": 3}


@click.command("solve")
@model_argument
@request_options
@search_options
@click.option(
    "--allow-idle", is_flag=True, default=None, help="Leave GPUs unused where fewer are faster, or all cannot be used."
)
@click.option("--top", type=int, metavar="K", help="The K best layouts (default 1).")
@click.option("--pareto", is_flag=True, default=None, help="The layouts that no other beats in both time and memory.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="Give up, undecided, after this long (default 60).")
@click.option(
    "--certificate", metavar="FILE", help="Write the proof to FILE: that there is no layout, or none that is better."
)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
def command(format_: str, output: str | None, certificate: str | None, **flags: Any) -> int:
    """Synthesize the best layout of MODEL: a catalog name, a config.json (or its folder), or a YAML entry.

    \b
    meshwright solve llama-3.1-70b --gpus 96 --gpu h100
    meshwright solve deepseek-v3 --gpus 1016 --gpu h100 --global-batch-size 8128 --format bridge
    """
    from solver.resolution import resolve

    ensure_writable(output)
    ensure_writable(certificate)
    request = request_from(flags)
    problem = resolve(request)  # bad input is reported before half a second goes into ortools

    from solver.synthesis import solve_problem

    report = solve_problem(
        problem, top=request.top, pareto=request.pareto, seconds=request.time_limit, progress=_progress(problem)
    )
    proved, why = None, ""
    if certificate is not None:  # before anything is printed: the report says what the certificate proves by
        report, proved, why = _certified(report)
    deliver(rendered(report, format_), output)
    if certificate is not None:
        _deliver_certificate(report, proved, why, certificate)
    return EXIT_CODES[report.status]


def _progress(problem: Any) -> Any:
    """What tells a person at a terminal of each point of a front as it is found; ``None`` elsewhere."""
    import sys

    if not sys.stderr.isatty():
        return None
    from solver.answer import answer_of

    def tell(layout: Any) -> None:
        from cli.text.solved import one_line
        from constraints.problem import GIB

        answer = answer_of(problem, layout)
        if answer is not None:
            gib = answer.memory.high_bytes / GIB
            click.echo(f"found: {answer.timing.step_seconds:.2f} s, {gib:.1f} GiB: {one_line(answer)}", err=True)

    return tell


def _certified(report: Any) -> tuple[Any, Any, str]:
    """(the report, the certificate that there is no layout, or none that is better, or ``None``, and why there is none)."""
    if report.refutation is not None:
        return report, report.refutation.certificate, "the proof is too large, or nothing was proved"
    if report.status != "optimal":
        return report, None, "nothing was proved in the time given"
    done, why = _optimum(report)
    return (report, None, why) if done is None else (replace(report, certified=done.proof), done.certificate, "")


def _optimum(report: Any) -> tuple[Any, str]:
    """(the certificate that no layout is better than the first, "") or (``None``, why there is none)."""
    from constraints.refutation.tree import TooLarge
    from solver.certificate import LeftAside, certified_optimum
    from solver.idle import excluded

    asked, best = report.asked, report.answers[0].layout
    larger = excluded(asked, range(best.gpus + 1, asked.gpus + 1))
    if larger is None and best.gpus < asked.gpus:
        return None, f"the proof that more than {best.gpus} of the GPUs cannot be used is too large"
    try:
        return certified_optimum(asked, best, larger), ""
    except TooLarge as error:
        return None, f"the proof that no layout is better has {error}"
    except LeftAside as error:
        return None, f"the proof that no layout is better {error}"


def _deliver_certificate(report: Any, certificate: Any, why: str, path: str) -> None:
    """Write the certificate, or say why there is none."""
    from constraints.refutation.certificate import written

    if certificate is None:
        click.echo(f"no certificate: {why}", err=True)
        return
    if report.certified is not None:
        from cli.text.proof import best_words

        click.echo(f"certificate: {best_words(report.certified)}", err=True)
    deliver(written(certificate), path)
