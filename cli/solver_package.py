"""The package that looks for layouts: most of what ``check``, ``rules`` and ``catalog`` do goes without it."""

from __future__ import annotations

__all__ = ["NAME", "ensure_installed", "is_missing"]

NAME = "ortools"


def is_missing(error: BaseException) -> bool:
    """True if ``error`` is that the package cannot be imported: it is not there, or not whole."""
    return isinstance(error, ImportError) and NAME in f"{error.name} {error}"


def ensure_installed() -> None:
    """Find out before the work is shared out. Raises ``ModuleNotFoundError``."""
    from importlib.util import find_spec

    if find_spec(NAME) is None:
        raise ModuleNotFoundError(f"No module named {NAME!r}", name=NAME)
