"""Every entry at a glance, without parsing a hundred YAML files: ``index.json``, generated from them.

A row holds its entry and the checksum of the file it was made from. A file that has changed since, or is new, is parsed
instead of trusted: the index can be slow, never wrong. ``python -m models_catalog.index`` writes it again; a test keeps it
in step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

from models_catalog.names import HOME, PATTERNS, files_of

__all__ = ["INDEX", "entries", "index_text"]

INDEX = HOME / "index.json"


def entries(kind: str) -> dict[str, dict[str, Any]]:
    """Name to entry, as its YAML says it, in order of the names; ``kind`` is ``model`` or ``gpu``."""
    indexed = _indexed()
    return {name: _entry(path, indexed) for name, path in files_of(kind).items()}


def index_text() -> str:
    """What ``index.json`` should hold: one entry a line."""
    lines = [
        f"{json.dumps(_key(path))}: {json.dumps([crc32(path.read_bytes()), _parsed(path)], ensure_ascii=False)}"
        for kind in PATTERNS
        for path in files_of(kind).values()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _indexed() -> dict[str, tuple[int, dict[str, Any]]]:
    try:
        rows: dict[str, tuple[int, dict[str, Any]]] = json.loads(INDEX.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return rows


def _entry(path: Path, indexed: dict[str, tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    checksum, entry = indexed.get(_key(path), (None, {}))
    return entry if checksum == crc32(path.read_bytes()) else _parsed(path)


def _parsed(path: Path) -> dict[str, Any]:
    from models_catalog.documents import read_document

    entry: dict[str, Any] = read_document(str(path))
    return entry


def _key(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


if __name__ == "__main__":
    INDEX.write_text(index_text(), encoding="utf-8")
