"""The file of a certificate: canonical JSON with a digest over it, read with care because anybody may have written it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from constraints.layout import Layout
from constraints.refutation.encoding import canonical, digest
from constraints.refutation.partial import Space

__all__ = ["LARGEST_FILE", "SCHEMA", "BadFile", "Refuted", "layout_at", "read_certificate", "sealed", "written"]

SCHEMA = "meshwright-certificate/1"
SHARED = {"schema", "request", "request_digest", "digest", "fewer"}
KINDS = (SHARED | {"conflicts", "ways_out"}, SHARED | {"optimum"})
"""Keys of a certificate that there is no layout, and of one that there is no better."""
LARGEST_FILE = 4 << 20
DEEPEST = 60
"""Nesting of a certificate's JSON: thirteen decisions, two lists each, and what stands around them."""


class BadFile(ValueError):
    """It is no certificate: unreadable, too large, or of another form."""


class Refuted(Exception):
    """It is a certificate, and what it says is not so."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with its digest."""
    body = {name: value for name, value in content.items() if name != "digest"}
    return {**body, "digest": digest(body)}


def read_certificate(text: str) -> dict[str, Any]:
    """The certificate in ``text``, or in the report of ``solve`` that ``text`` is. Raises :class:`BadFile`."""
    if len(text) > LARGEST_FILE:
        raise BadFile(f"has more than {LARGEST_FILE >> 20} MiB: no certificate is so large")
    _not_too_deep(text)
    try:
        data = json.loads(text, parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"is not JSON: {str(error)[:100]}") from None
    if isinstance(data, dict) and isinstance(data.get("explanation"), dict):
        data = data["explanation"].get("certificate")
        if data is None:
            raise BadFile("is a report without a certificate")
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BadFile(f"is not a certificate: its schema is not {SCHEMA}")
    if set(data) not in KINDS:
        raise BadFile("has other keys than a certificate")
    return data


def _not_too_deep(text: str) -> None:
    depth = 0
    for character in text:
        if character in "[{":
            depth += 1
            if depth > DEEPEST:
                raise BadFile("is nested too deeply for a certificate")
        elif character in "]}":
            depth -= 1


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


def _integer(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 20 digits")
    return int(text)


def layout_at(space: Space, point: Any, what: str) -> Layout:
    """The layout that ``point`` says; ``what`` names it. Raises :class:`Refuted` if the space has none such."""
    if not isinstance(point, Mapping) or not all(
        type(value) is (str if name == "pipeline" else int) for name, value in point.items()
    ):
        raise Refuted(f"{what} is no layout")
    try:
        return space.layout(point)
    except ValueError as error:
        raise Refuted(f"{what} is not of the space: {error}") from None


def written(data: Mapping[str, Any]) -> str:
    """The certificate as a file holds it."""
    return canonical(data) + "\n"
