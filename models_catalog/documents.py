"""Reading YAML and JSON that somebody else wrote: data only, bounded in size, every key knowing its place.

JSON is a subset of YAML as far as these documents go, so one reader serves both. Refused, each with file and line: tags
that would build objects, anchors that multiply, duplicate keys, NaN and infinity, nesting deeper than any entry needs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from models_catalog.errors import InvalidEntry

__all__ = ["LARGEST_BYTES", "Places", "parse_document", "parse_located", "read_document", "read_located", "read_text"]

LARGEST_BYTES = 1 << 20
LARGEST_NODES = 100_000
DEEPEST = 20

PLACED = 4
"""Levels of keys whose places are kept."""

Places = dict[str, tuple[int, int]]
"""Keys to (line, column), both from 1; ``model.num_layers`` is a key of the second level, ``pin.0`` the first of a list."""


def read_document(path: str) -> Any:
    """The data of a YAML or JSON file. Raises :class:`~models_catalog.errors.InvalidEntry`."""
    return read_located(path)[0]


def read_located(path: str) -> tuple[Any, Places]:
    """The data of a YAML or JSON file and the place of each key of its first levels."""
    return _parse(read_text(path), path)


def read_text(path: str) -> str:
    """The text of a file of at most :data:`LARGEST_BYTES`. Raises :class:`~models_catalog.errors.InvalidEntry`."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise InvalidEntry(path, None, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a name with a NUL in it
        raise InvalidEntry(repr(path), None, f"cannot be read: {error}") from None
    if len(content) > LARGEST_BYTES:
        raise InvalidEntry(path, None, f"is larger than {LARGEST_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidEntry(path, None, "is not UTF-8 text") from None


def parse_document(text: str, origin: str) -> Any:
    """The data of YAML or JSON text; ``origin`` is named in errors."""
    return _parse(text, origin)[0]


def parse_located(text: str, origin: str) -> tuple[Any, Places]:
    """:func:`parse_document`, and the place of each key of the first levels."""
    return _parse(text, origin)


def _parse(text: str, origin: str) -> tuple[Any, Places]:
    import yaml

    loader_class = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_class(text)
        try:
            node = loader.get_single_node()
            places = _inspect(node, origin)
            data = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{origin}:{mark.line + 1}:{mark.column + 1}" if mark else origin
        problem = " ".join(str(error.problem or error.context or "is not YAML").split())
        raise InvalidEntry(where, None, f"is not readable YAML or JSON: {problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidEntry(origin, None, f"is not readable YAML or JSON: {reason}") from None
    _refuse_infinite(data, origin)
    return data, places


def _inspect(root: Any, origin: str) -> Places:
    """Walk the nodes before anything is built from them."""
    import yaml

    places: Places = {}
    stack: list[tuple[Any, int, str]] = [(root, 0, "")] if root is not None else []
    seen = 0
    while stack:
        node, depth, path = stack.pop()
        seen += 1
        where = f"{origin}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        if seen > LARGEST_NODES:
            raise InvalidEntry(where, None, "expands to more values than any entry holds")
        if depth > DEEPEST:
            raise InvalidEntry(where, None, f"is nested deeper than {DEEPEST} levels")
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise InvalidEntry(where, None, f"has the tag {node.tag}: only plain data is read")
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                name = getattr(key, "value", None)
                if not isinstance(name, str):
                    raise InvalidEntry(where, None, "has a key that is not a word")
                if name in keys:
                    raise InvalidEntry(f"{origin}:{key.start_mark.line + 1}", name, "is given twice")
                keys.add(name)
                if depth < PLACED:
                    places[path + name] = (key.start_mark.line + 1, key.start_mark.column + 1)
                stack.append((value, depth + 1, f"{path}{name}."))
        elif isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                if depth < PLACED:
                    places[f"{path}{index}"] = (child.start_mark.line + 1, child.start_mark.column + 1)
                stack.append((child, depth + 1, f"{path}{index}."))
    return places


def _refuse_infinite(data: Any, origin: str) -> None:
    stack = [data]
    while stack:
        value = stack.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidEntry(origin, None, "holds a number that is not finite")
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list):
            stack += value
