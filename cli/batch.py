"""``check --batch``: one JSON object a line in, one verdict a line out, in order, whatever becomes of single lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from cli.output import writer
from cli.read.files import take_mapping
from cli.read.words import Words, split_line, take_line
from constraints.asked import asked_of
from constraints.errors import MeshwrightError, RequestError
from constraints.problem import Origin
from constraints.spelling import spelling_of
from models_catalog.errors import CatalogError, InvalidEntry
from models_catalog.schema import GpuSpec, ModelSpec
from solver.judgement import judge
from solver.request import Request
from solver.request_schema import validated
from solver.resolution import find_gpu, find_model

__all__ = ["judge_file", "verdicts"]

LEGAL, ILLEGAL, UNREADABLE, INTERNAL = 0, 1, 2, 70
LONGEST_LINE = 4 << 20
DEEPEST = 20
DEFAULT_GPU = "h100"
ECHOED = ("id", "name")
"""Keys of a line that its verdict repeats."""

MOST_KEPT = 4096
"""Models and GPUs that are kept for lines to come."""


def judge_file(path: str, defaults: Request, output: str | None) -> int:
    """Judge every line of ``path`` (``-``: standard input); returns the exit code.

    ``defaults`` holds what lines do not say. Raises :class:`~models_catalog.errors.InvalidEntry` if the file cannot be read.
    """
    code = LEGAL
    answering = path == "-" and output is None
    with _opened(path) as file, writer(output) as write:
        for verdict, status in verdicts(file, path, defaults):
            write(json.dumps(verdict) + "\n")
            code = max(code, status)
            if answering:  # whoever writes the lines may wait for each verdict
                sys.stdout.flush()
    return code


def verdicts(file: BinaryIO, path: str, defaults: Request) -> Iterator[tuple[dict[str, Any], int]]:
    """(verdict, status) of each line that is not empty; ``status`` is what the exit code is at least."""
    bench = _Bench(defaults)
    for number, line in enumerate(_lines(file), start=1):
        if line is not None and not line.strip():
            continue
        yield bench.verdict(line, f"{path if path != '-' else 'standard input'}:{number}", number)


@dataclass
class _Bench:
    """Judges lines; models and GPUs that come again are not read again."""

    defaults: Request
    models: dict[str, tuple[ModelSpec, dict[str, Any], list[str]]] = field(default_factory=dict)
    gpus: dict[str, GpuSpec] = field(default_factory=dict)

    def verdict(self, line: bytes | None, place: str, number: int) -> tuple[dict[str, Any], int]:
        echo: dict[str, Any] = {"line": number}
        try:
            data = _object(line, place)
            echo |= {key: data[key] for key in ECHOED if isinstance(data.get(key), str | int)}
            return self._judged(data, place, echo)
        except (MeshwrightError, CatalogError) as error:
            return {**echo, "legal": None, "error": _placed(error, place)}, UNREADABLE
        except RecursionError:
            return {**echo, "legal": None, "error": f"{place}: is nested too deeply"}, UNREADABLE
        except Exception as error:  # a bug of ours spoils one line, not the file
            message = f"internal error: {type(error).__name__}: {error}"
            return {**echo, "legal": None, "error": message}, INTERNAL

    def _judged(self, data: dict[str, Any], place: str, echo: dict[str, Any]) -> tuple[dict[str, Any], int]:
        request, found = self._read(data, place)
        model, of_layout, notes = self._model(data.get("model"), request, place)
        _add_missing(found, of_layout, request, place)
        gpu = self._gpu(data.get("gpu"), request, place)
        if "layout" not in data and not found.raw:
            raise RequestError("layout", None, Origin("file", place), "is missing")
        verdict = judge(request, found.raw, found.origins, model=model, gpu=gpu)
        verdict = replace(verdict, notes=(*notes, *verdict.notes))
        return {**echo, **verdict.to_mapping()}, LEGAL if verdict.legal else ILLEGAL

    def _read(self, data: dict[str, Any], place: str) -> tuple[Request, Words]:
        """The request and the layout's words; decisions may also stand beside the request keys."""
        found = Words()
        _take_layout(data.get("layout"), place, found)
        rest: dict[str, Any] = {}
        for key, value in data.items():
            if key in ECHOED or key == "layout" or (key in ("model", "gpu") and not isinstance(value, str)):
                continue
            if spelling_of(key) is not None and key != "global_batch_size":
                found.add(key, value, Origin("file", place))
            else:
                rest[key] = value
        values, origins = validated(rest, place)
        given = {name: value for name, value in vars(self.defaults).items() if name not in ("origins", *values)}
        return Request(**{**given, **values}, origins={**self.defaults.origins, **origins}), found

    def _model(self, entry: Any, request: Request, place: str) -> tuple[ModelSpec, dict[str, Any], list[str]]:
        """(the model, what its entry says of the layout, warnings)."""
        key = entry if isinstance(entry, str) else json.dumps(entry) if entry is not None else str(request.model)
        if key not in self.models:
            if len(self.models) >= MOST_KEPT:
                self.models.clear()
            if isinstance(entry, dict):
                self.models[key] = _inline_model(entry, place)
            elif entry is None or isinstance(entry, str):
                self.models[key] = find_model(request), {}, []
            else:
                raise RequestError("model", entry, Origin("file", place), "must be a name, a path or an entry")
        return self.models[key]

    def _gpu(self, entry: Any, request: Request, place: str) -> GpuSpec:
        if isinstance(entry, dict):
            key = json.dumps(entry)
        elif entry is None or isinstance(entry, str):
            key = request.gpu or DEFAULT_GPU
        else:
            raise RequestError("gpu", entry, Origin("file", place), "must be a name, a path or an entry")
        if key not in self.gpus:
            if len(self.gpus) >= MOST_KEPT:
                self.gpus.clear()
            self.gpus[key] = (
                _inline_gpu(entry, place) if isinstance(entry, dict) else find_gpu(replace(request, gpu=key))
            )
        return self.gpus[key]


def _placed(error: MeshwrightError | CatalogError, place: str) -> str:
    """What is wrong and where: what a line leaves out has no place of its own."""
    missing = isinstance(error, MeshwrightError) and error.origin.kind == "request"
    return f"{error} ({place})" if missing else str(error)


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Lines one by one; ``None`` for one that is longer than any sensible object, of which no more is held."""
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)
        yield None


def _object(line: bytes | None, place: str) -> dict[str, Any]:
    if line is None:
        raise InvalidEntry(place, None, f"is longer than {LONGEST_LINE >> 20} MiB")
    try:
        data = json.loads(line, object_pairs_hook=_without_duplicates, parse_constant=_refused)
    except UnicodeDecodeError:
        raise InvalidEntry(place, None, "is not UTF-8 text") from None
    except ValueError as error:
        raise InvalidEntry(place, None, f"is not readable JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(data, dict):
        raise InvalidEntry(place, None, "is not an object")
    return data


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return data


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number")


def _take_layout(layout: Any, place: str, found: Words) -> None:
    origin = Origin("file", place)
    if isinstance(layout, Mapping):
        take_mapping(layout, found, place)
    elif isinstance(layout, str) or (isinstance(layout, list) and all(isinstance(word, str) for word in layout)):
        take_line(split_line(layout, origin) if isinstance(layout, str) else layout, origin, found)
    elif layout is not None:
        raise RequestError("layout", layout, origin, "must be a mapping, a list of words, or one line of them")


def _inline_model(entry: dict[str, Any], place: str) -> tuple[ModelSpec, dict[str, Any], list[str]]:
    """A provider's fields may be those of the layout or the request too: they are told apart here."""
    from models_catalog.validation import model_from_mapping

    of_layout = {key: value for key, value in entry.items() if _is_of_layout(key)}
    own = {key: value for key, value in entry.items() if key not in of_layout}
    model, warnings = model_from_mapping(own, f"{place}: model")
    return model, of_layout, warnings


def _is_of_layout(key: str) -> bool:
    if spelling_of(key) is not None:
        return True
    asked = asked_of(key)
    return asked is not None and asked[0] != "model"


def _inline_gpu(entry: dict[str, Any], place: str) -> GpuSpec:
    from models_catalog.validation import validated_gpu

    return validated_gpu(entry, f"{place}: gpu")


def _add_missing(found: Words, of_model: Mapping[str, Any], request: Request, place: str) -> None:
    """What the model's entry says of the layout and the request counts where these do not say it."""
    if not of_model:
        return
    said = {_name(word) for word in found.raw}
    if "recompute" in said:
        said |= {"recompute_granularity", "recompute_method", "recompute_num_layers", "recompute_modules"}
    for word, value in of_model.items():
        name = _name(word)
        if value is not None and name not in said and getattr(request, name, None) is None:
            found.add(word, value, Origin("file", f"{place}: model"))


def _name(word: str) -> str:
    spelling = spelling_of(word)
    if spelling is not None:
        return spelling.name
    asked = asked_of(word)
    return asked[1] if asked else word


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except (OSError, ValueError) as error:
            raise InvalidEntry(path, None, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
        yield file
