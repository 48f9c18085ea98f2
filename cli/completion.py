"""What the shell may complete: models, GPUs, rules and the words of options. Nothing here imports ortools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module

import click
from click.shell_completion import CompletionItem

__all__ = ["gpu_words", "model_words", "pin_words", "rule_words", "words_of"]

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _starting(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def model_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the catalog; a path is left to the shell."""
    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    from models_catalog.loader import model_names

    return _starting(model_names(), incomplete)


def gpu_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """GPUs of the catalog."""
    from models_catalog.loader import gpu_names

    return _starting(gpu_names(), incomplete)


def rule_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of all rules; for ``--relax`` those that can be relaxed."""
    from constraints.registry import RULES

    wanted = RULES
    if param.name == "relax":
        wanted = tuple(rule for rule in RULES if rule.relaxable)
    return _starting((rule.id for rule in wanted), incomplete)


def pin_words(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``KEY=`` for everything that can be pinned."""
    from solver.pinned import PINNABLE

    return _starting((f"{name}=" for name in PINNABLE), incomplete)


def words_of(module: str, name: str) -> Completer:
    """A completer for the words of a tuple, imported when asked."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _starting(getattr(import_module(module), name), incomplete)

    return complete
