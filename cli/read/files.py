"""``@FILE``: a report of ``solve``, a YAML or JSON mapping, or pasted overrides, flags and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cli.read.words import LONGEST_LINE, Words, split_line, take_line
from constraints.asked import asked_of
from constraints.errors import LayoutError
from constraints.problem import Origin
from constraints.spelling import flag_of, spelling_of
from models_catalog.documents import Places, parse_located, read_text

__all__ = ["MARK", "take_file", "take_mapping"]

MARK = "# meshwright: "
"""Before words that an emitted file says for ``check`` alone, because the program it is for has no word for them."""

_ASSIGNMENT = re.compile(r"^[ \t]*(?:cfg|config|recipe)\.([\w.]+)[ \t]*=[ \t]*([^=\s].*)$", re.MULTILINE)

LAUNCHERS = ("python", "python3", "torchrun", "bash", "sh")
SCRIPTS = (".py", ".sh")

_TORCH = re.compile(r"torch\.(\w+)")

WHOLE = ("recompute", "memory", "time", "communication", "pipeline_stages")
"""Keys whose value is a mapping and yet one word; any other mapping is a section, as in Bridge's own files."""

REPORTED = (
    "seq_length",
    "precision",
    "task",
    "model",
    "gpu",
    "gpus_per_node",
    "nvlink_domain",
    "memory_gib",
    "routing_imbalance",
    "expandable_segments",
    "megatron",
    "stack",
)
"""Values of a report's request that its layout does not say, and that a verdict on it depends on."""


def take_file(path: str, found: Words) -> None:
    """Add what stands in the file to ``found``.

    Raises :class:`~constraints.errors.LayoutError`, or :class:`~models_catalog.errors.InvalidEntry` if the file cannot be
    read at all.
    """
    if not path:
        raise LayoutError("@", None, Origin("layout", "command line"), "names no file: write @FILE")
    text = read_text(path)
    if not text.strip():
        raise LayoutError("@" + path, None, Origin("layout", "command line"), "is empty")
    if _ASSIGNMENT.search(text):
        _take_python(text, path, found)
        return
    if _is_pasted(text):
        for words, origin in _pasted_lines(text, path):
            take_line(words, origin, found)
        return
    data, places = parse_located(text, path)
    if isinstance(data, list) and all(isinstance(word, str) for word in data):
        take_line(data, Origin("file", path), found)
        return
    if not isinstance(data, dict):
        raise LayoutError("@" + path, None, Origin("file", path), "holds no mapping of layout words to values")
    if isinstance(data.get("layouts"), list):
        _take_report(data, path, found)
        return
    if isinstance(data.get("layout"), dict) and not places.keys() & {"tp", "tensor_model_parallel_size"}:
        data, places = data["layout"], {k.removeprefix("layout."): v for k, v in places.items() if k != "layout"}
    take_mapping(data, found, path, places)


def take_mapping(data: Mapping[str, Any], found: Words, source: str, places: Places | None = None) -> None:
    """Add a mapping of words, or of sections of words, to ``found``; ``source`` and ``places`` are named in errors."""
    for path, value in _flattened(data):
        place = (places or {}).get(path)
        origin = Origin("file", f"{source}:{place[0]}:{place[1]}" if place else source)
        word = flag_of(path.removeprefix("MODEL_ARGS."))
        if not _says_nothing(word, value):
            found.add(word, value, origin)


def _says_nothing(word: str, value: Any) -> bool:
    """True for a container that is not there, and for the class of one, as Bridge dumps them."""
    return word.startswith("_") or (value is None and spelling_of(word) is None and asked_of(word) is None)


def _flattened(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and key not in WHOLE:
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            yield str(key), value


def _take_report(data: Mapping[str, Any], path: str, found: Words) -> None:
    """The first layout of ``solve --format json``, and its request as what is asked where nobody asks otherwise."""
    origin = Origin("file", path)
    layouts = data["layouts"]
    if not layouts:
        raise LayoutError("layouts", None, origin, "is empty: that request had no layout")
    if not isinstance(layouts[0], dict):
        raise LayoutError("layouts", None, origin, "must be a list of layouts")
    take_mapping(layouts[0], found, path)
    request = data.get("request")
    items = request.items() if isinstance(request, dict) else ()
    said = [(name, item) for name, item in items if isinstance(item, dict) and item.get("value") is not None]
    values = {name: item["value"] for name, item in said if not str(item.get("origin")).startswith("catalog")}
    found.asked = {name: values[name] for name in REPORTED if name in values}
    used, idle = layouts[0].get("gpus_used"), layouts[0].get("gpus_idle")
    found.asked["gpus"] = used if used and idle else values.get("gpus")
    found.asked_at = origin
    if isinstance(values.get("mtp_num_layers"), int):
        found.add("mtp_num_layers", values["mtp_num_layers"], origin)


def _take_python(text: str, path: str, found: Words) -> None:
    """Assignments of literals to a Bridge configuration, as ``--format bridge-python`` writes them."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(MARK):
            origin = Origin("file", f"{path}:{number}")
            take_line(split_line(line.removeprefix(MARK), origin), origin, found)
        matched = _ASSIGNMENT.match(line)
        if matched is None or len(line) > LONGEST_LINE:
            continue
        try:
            named = _TORCH.fullmatch(matched[2].strip())
            value = named[1] if named else ast.literal_eval(matched[2])
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue  # an expression: somebody's own code
        found.add(matched[1], value, Origin("file", f"{path}:{number}"))


def _pasted_lines(text: str, path: str) -> Iterator[tuple[list[str], Origin]]:
    """Shell words of each logical line, comments left out. Where a line starts a script, what follows it there counts and
    the lines around it are the rest of somebody's shell script."""
    lines = list(_logical_lines(text, path))
    launches = any(_script(words) is not None for words, _, _ in lines)
    for words, origin, marked in lines:
        script = _script(words)
        if script is not None:
            yield words[script + 1 :], origin
        elif marked or not launches:
            yield [word for word in words if word != "export"], origin


def _logical_lines(text: str, path: str) -> Iterator[tuple[list[str], Origin, bool]]:
    """(words, place, said to ``check`` alone) of each line, continuation lines joined."""
    pending, first = "", 1
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        marked = line.startswith(MARK)
        line = line.removeprefix(MARK)
        if not pending:
            first = number
        if line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1] + " "
            continue
        origin = Origin("file", f"{path}:{first}")
        words = split_line(pending + line, origin)
        pending = ""
        yield words, origin, marked


def _script(words: list[str]) -> int | None:
    """The place of the script that a command line starts."""
    for ending in SCRIPTS:
        for place, word in enumerate(words):
            if word.endswith(ending) and not word.startswith("-") and "=" not in word:
                return place
    return None


def _is_pasted(text: str) -> bool:
    """True if some line starts a script, or the first one that says anything is an override or a flag."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if any(_starts_script(line) for line in lines):
        return True
    first = lines[0].split()[0] if lines else ""
    flag = first.startswith("-") and first.lstrip("-") != ""
    return flag or first == "export" or "=" in first.split(":")[0]


def _starts_script(line: str) -> bool:
    """True if the line runs a Python or shell script: itself, or through an interpreter among its first words."""
    words = line.split()
    if words[0].endswith(SCRIPTS):
        return True
    launched = next((place for place, word in enumerate(words) if word.rsplit("/", 1)[-1] in LAUNCHERS), None)
    plain = not words[0].endswith(":") and words[0][0] not in "{["
    return plain and launched is not None and any(word.endswith(SCRIPTS) for word in words[launched + 1 :])
