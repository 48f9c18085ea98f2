"""What a person can get wrong, as exceptions that carry the data; the command line prints them.

::

    MeshwrightError       exit code 2
    +-- RequestError      a request value: missing, of the wrong type, out of range, unknown, contradictory
    +-- LayoutError       a layout word, likewise
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from constraints.problem import Origin

__all__ = ["LayoutError", "MeshwrightError", "RequestError", "elsewhere"]


class MeshwrightError(Exception):
    """Base: bad input. ``field`` is the value's name, ``origin`` where it came from, ``message`` what is wrong."""

    exit_code = 2

    def __init__(self, field: str, value: Any, origin: Origin, message: str) -> None:
        shown = "" if value is None else f" {str(value)[:80]!r}" if isinstance(value, str) else f" {str(value)[:80]}"
        place = f" ({origin})" if str(origin) not in ("", field) else ""
        super().__init__(f"{field}{shown} {message}{place}")
        self.field, self.value, self.origin, self.message = field, value, origin, message


class RequestError(MeshwrightError):
    """A value of the request."""


class LayoutError(MeshwrightError):
    """A word of a layout."""


def elsewhere(other: Origin, here: Origin) -> str:
    """For a message about two values: the place of the other one, where it is another place."""
    return f" ({other})" if other != here else ""
