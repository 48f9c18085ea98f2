"""The ``meshwright`` command: exit codes, errors, and commands that are loaded only when they are called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from cli import solver_package
from cli.interrupts import Interrupts
from cli.streams import remark, silence

__all__ = ["main"]

FOUND, NONE, USAGE, UNDECIDED, INTERNAL = 0, 1, 2, 3, 70
"""Exit codes: found or legal; infeasible or illegal, proved; bad input; undecided; internal disagreement."""

INTERRUPTED, READER_LEFT = 130, 141
"""As shells have them: Ctrl-C, and a reader of standard output that left before the answer was whole."""

NAME, COMPLETE = "meshwright", "_MESHWRIGHT_COMPLETE"

COMMANDS = {
    "solve": "Synthesize the best layout, or say which rules forbid one.",
    "check": "Judge a layout: every broken rule in one pass, and the memory.",
    "verify": "Check a certificate that no layout exists, without the solver.",
    "counts": "Which GPU counts can be used, how well, and why others cannot.",
    "zoo": "A layout for every model, cluster and sequence length of a file.",
    "catalog": "List and show the models and GPUs that are known.",
    "rules": "List the rules, or show one with its source in Megatron.",
    "completion": "Print what a shell needs to complete commands, models, GPUs and rules.",
}


class Lazy(click.Group):
    """A group that imports a command's module when it is called: ``--help`` stays instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cli.commands.{name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="meshwright", prog_name=NAME)
def cli() -> None:
    """Parallelism layouts for Megatron, synthesized by a constraint solver, or the reason why there is none.

    \b
    meshwright solve llama-3.1-70b --gpus 96 --gpu h100
    meshwright check llama-3.1-70b --gpus 96 --gpu h100 tp=8 pp=4
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit; errors are one clear message on standard error, never a traceback."""
    with Interrupts() as interrupts:
        try:
            code = _run(args)
        except BrokenPipeError:
            silence(sys.stdout)
            code = READER_LEFT
        except KeyboardInterrupt:
            code = INTERRUPTED
        except Exception as error:  # the last line of defence: a bug of ours is never an answer
            if os.environ.get("MESHWRIGHT_TRACEBACK"):
                raise
            code = INTERRUPTED if interrupts.came else _failed(error)
    if code == INTERRUPTED:
        exec("")  # CPython notes an interrupt that passes through another exec, and would end by the signal
        remark("interrupted")
    sys.exit(code)


def _run(args: list[str] | None) -> int:
    from constraints.errors import MeshwrightError
    from models_catalog.errors import CatalogError

    try:
        return _invoked(sys.argv[1:] if args is None else args)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        _complain(error.format_message(), context.command_path if context else None)
        return error.exit_code
    except (MeshwrightError, CatalogError) as error:
        _complain(str(error))
        return USAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        from cli.output import lost

        _complain(str(lost(error)))  # click's own pages: what a command prints says so itself
        return USAGE


def _invoked(args: list[str]) -> int:
    """The command's exit code. Click's own ``main`` would make 1, "proved", of a reader that leaves."""
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, NAME, COMPLETE, instruction)
    try:
        with cli.make_context(NAME, list(args), color=False if os.environ.get("NO_COLOR") else None) as context:
            result = cli.invoke(context)
    except click.exceptions.Exit as left:
        return left.exit_code
    return result if isinstance(result, int) else FOUND


def _failed(error: Exception) -> int:
    """Say what is missing, or that it is a bug."""
    if solver_package.is_missing(error):
        name = solver_package.NAME
        _complain(f"{name}, which looks for layouts, cannot be imported ({error}): pip install {name}")
        return USAGE
    remark(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a bug in meshwright, not an answer. Set MESHWRIGHT_TRACEBACK=1 and run again for a report."
    )
    return INTERNAL


def _complain(message: str, command: str | None = None) -> None:
    """One error, its control characters made visible; ``command`` is the one whose help may help."""
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in message)
    remark(f"{click.style('error', fg='red', bold=True)}: {shown}")
    if command:
        remark(f"Try '{command} --help' for help.")


if __name__ == "__main__":
    main()
