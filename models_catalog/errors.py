"""What can be wrong with a catalog entry or its name.

::

    CatalogError
    +-- UnknownName     no model or GPU is called that
    +-- InvalidEntry    a file or mapping that is not a usable entry
"""

from __future__ import annotations

__all__ = ["CatalogError", "InvalidEntry", "UnknownName"]


class CatalogError(Exception):
    """Base: something asked of the catalog that it cannot give. ``exit_code`` is that of bad input."""

    exit_code = 2


class UnknownName(CatalogError):
    """No entry has that name; ``suggestions`` are the closest ones, best first."""

    def __init__(self, kind: str, name: str, suggestions: list[str]) -> None:
        hint = f" Did you mean {', '.join(suggestions)}?" if suggestions else ""
        super().__init__(
            f"there is no {kind} called {name!r} in the catalog.{hint} `meshwright catalog {kind}s` lists them."
        )
        self.kind, self.name, self.suggestions = kind, name, suggestions


class InvalidEntry(CatalogError):
    """``origin`` (a file, or file:line:column) holds something unusable; ``field`` names the key where one is at fault."""

    def __init__(self, origin: str, field: str | None, message: str) -> None:
        super().__init__(f"{origin}: {field} {message}" if field else f"{origin}: {message}")
        self.origin, self.field, self.message = origin, field, message
