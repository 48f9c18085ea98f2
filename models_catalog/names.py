"""Which entry a name means: its own name, an alias or its Hugging Face id, however it is punctuated.

Names are compared by letters and digits. ``LLAMA3_70B``, ``llama3-70b`` and ``llama-3-70b`` are one name; ``qwen2.5-7b`` and
``qwen2-57b`` are two, because digits that are apart stay apart. Nothing here parses YAML: a name that is no file's own is
looked for in the lines ``hf_id:`` and ``aliases:`` of each file, which costs milliseconds for the whole catalog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

__all__ = ["close_names", "files_of", "resolve", "spelling", "words_of"]

HOME = Path(__file__).parent
PATTERNS = {"model": "models/*/*.yaml", "gpu": "gpus/*.yaml"}

_RUNS = re.compile(r"[a-z]+|[0-9]+")
_HF_ID = re.compile(r"^hf_id: *(\S+)", re.MULTILINE)
_ALIASES = re.compile(r"^aliases: *\[([^\]]*)\]", re.MULTILINE)
_BLOCK = re.compile(r"^aliases: *\n((?:[ -].*\n?)+)", re.MULTILINE)


@cache
def files_of(kind: str) -> dict[str, Path]:
    """Entry name to file, in order of the names; a file is named after its entry. ``kind`` is ``model`` or ``gpu``."""
    return {path.stem: path for path in sorted(HOME.glob(PATTERNS[kind]), key=lambda path: path.stem)}


def spelling(name: str) -> str:
    """Letters and digits of ``name`` in lower case; digit runs that were apart are kept apart by a dot.

    >>> spelling("LLAMA3.1_405B") == spelling("llama-3.1-405b") == "llama3.1.405b"
    True
    >>> spelling("DeepSeekV3") == spelling("deepseek-v3")
    True
    """
    out = ""
    for run in _RUNS.findall(name.lower()):
        out += f".{run}" if out[-1:].isdigit() and run.isdigit() else run
    return out


def resolve(kind: str, name: str) -> str | None:
    """The name of the entry that ``name`` means, or ``None``. An entry's own name wins over another's alias.

    An organisation in front counts only where the whole is a known Hugging Face id: copies under other organisations, and
    variants that are aliases, mean the same entry.
    """
    files = files_of(kind)
    plain = name.strip().lower()
    if plain in files:
        return plain
    for words in (name, name.rpartition("/")[2]):
        wanted = spelling(words)
        if known := _own_spellings(kind).get(wanted) or _other_spellings(kind).get(wanted):
            return known
    return None


def close_names(kind: str, name: str) -> list[str]:
    """Up to three entries with names like ``name``, best first."""
    import difflib

    wanted = spelling(name)
    known: Mapping[str, str] = _other_spellings(kind) | _own_spellings(kind)
    words = difflib.get_close_matches(wanted, list(known), n=6, cutoff=0.6)
    words += sorted(word for word in known if wanted and wanted in word)
    return list(dict.fromkeys(known[word] for word in words))[:3]


def words_of(text: str) -> list[str]:
    """The aliases in the text of an entry, and its Hugging Face id with and without the organisation."""
    words: list[str] = []
    flow, block = _ALIASES.search(text), _BLOCK.search(text)
    if flow:
        words += flow[1].split(",")
    elif block:
        words += block[1].replace("- ", " ").split("\n")
    if hub := _HF_ID.search(text):
        words += [hub[1], hub[1].rpartition("/")[2]]
    return [word for word in (word.strip().strip("\"'") for word in words) if word]


@cache
def _own_spellings(kind: str) -> dict[str, str]:
    return {spelling(name): name for name in files_of(kind)}


@cache
def _other_spellings(kind: str) -> dict[str, str]:
    known: dict[str, str] = {}
    for name, path in files_of(kind).items():
        for word in words_of(path.read_text(encoding="utf-8")):
            known.setdefault(spelling(word), name)
    return known
