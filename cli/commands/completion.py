"""``meshwright completion``: the script that lets a shell complete commands, models, GPUs and rules."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.output import deliver

__all__ = ["command"]

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print the completion script of SHELL.

    \b
    eval "$(meshwright completion bash)"          # in ~/.bashrc
    eval "$(meshwright completion zsh)"           # in ~/.zshrc
    meshwright completion fish | source           # in ~/.config/fish/config.fish
    """
    from cli.main import COMPLETE, NAME, cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete for {shell}")
    deliver(kind(cli, {}, NAME, COMPLETE).source())
    return 0
