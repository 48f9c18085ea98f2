"""Reading a zoo file: which models, clusters, sequence lengths and objectives, and what all of its requests share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constraints.errors import RequestError
from constraints.problem import Origin
from models_catalog.documents import parse_located, read_text
from models_catalog.schema import GpuSpec, ModelSpec
from solver.request import REQUEST_KEYS, Request
from solver.request_schema import validated
from solver.zoo.models import chosen_models

__all__ = ["Cluster", "Zoo", "read_zoo"]

AXES = ("models", "clusters", "sequence_lengths", "objectives")
OF_A_CLUSTER = ("gpu", "gpus", "gpus_per_node", "nvlink_domain", "memory_gib")
NOT_SHARED = (*OF_A_CLUSTER, "model", "seq_length", "objective", "top", "pareto")
SHARED = tuple(name for name in REQUEST_KEYS if name not in NOT_SHARED)
ELSEWHERE = {
    **{name: f"belongs in clusters, as in `clusters: [{{gpu: h100, gpus: 8, {name}: ...}}]`" for name in OF_A_CLUSTER},
    **{"gpu": "belongs in clusters, as in `clusters: [{gpu: h100, gpus: 8}]`"},
    **{"gpus": "belongs in clusters, as in `clusters: [{gpu: h100, gpus: 8}]`"},
    **{"model": "is called models here", "seq_length": "is called sequence_lengths here"},
    **{"objective": "is called objectives here", "top": "is not of a zoo: each job keeps its best layout"},
    **{"pareto": "is not of a zoo: each job keeps its best layout"},
}
MOST_VALUES = 100_000
LONGEST_NAME = 60


@dataclass(frozen=True)
class Cluster:
    """One entry of ``clusters``: a GPU, how many of them, and other request keys; ``name`` is the user's word for it."""

    name: str | None
    gpu: GpuSpec
    counts: tuple[tuple[int, Origin], ...]
    request: Mapping[str, Any]
    origins: Mapping[str, Origin]


@dataclass(frozen=True)
class Zoo:
    """What a zoo file asks for. ``seq_lengths`` and ``objectives`` hold ``None`` where the default is meant.

    ``request`` is what every job shares, model and machine left out; places in the file are its origins.
    """

    path: str
    models: tuple[ModelSpec, ...]
    clusters: tuple[Cluster, ...]
    seq_lengths: tuple[tuple[int | None, Origin], ...]
    objectives: tuple[tuple[str | None, Origin], ...]
    request: Request


def read_zoo(path: str) -> Zoo:
    """The zoo that a YAML file describes; paths in it are relative to its folder.

    Raises :class:`~constraints.errors.RequestError` and :class:`~models_catalog.errors.CatalogError`, naming the key and its
    line, for anything that is not plain data of the right form.
    """
    data, places = parse_located(read_text(path), path)
    return _Reader(path, places).read(data)


class _Reader:
    def __init__(self, path: str, places: Mapping[str, tuple[int, int]]) -> None:
        self.path, self.places = path, places

    def read(self, data: Any) -> Zoo:
        if not isinstance(data, Mapping):
            raise RequestError("zoo", None, Origin("file", self.path), f"must be a mapping of {', '.join(AXES)}")
        keys = {name.replace("-", "_"): name for name in data}
        if len(keys) < len(data):
            raise RequestError("zoo", None, Origin("file", self.path), "gives a key with a dash and with an underscore")
        for name, written in keys.items():
            self._known(name, written, (*AXES, *SHARED), ELSEWHERE)
        for name in ("models", "clusters"):
            if data.get(name) is None:
                raise RequestError(name, None, Origin("file", self.path), "is missing")
        shared = {written: data[written] for name, written in keys.items() if name in SHARED}
        values, origins = validated(shared, self.path, self.places)
        return Zoo(
            path=self.path,
            models=chosen_models(self._items(data, "models", str, "a name, a glob or a path"), Path(self.path).parent),
            clusters=self._clusters(data["clusters"]),
            seq_lengths=self._axis(data, keys, "sequence_lengths", int, "a whole number"),
            objectives=self._axis(data, keys, "objectives", str, "a word"),
            request=Request(**values, origins=origins),
        )

    def _axis(self, data: Mapping[str, Any], keys: Mapping[str, str], name: str, kind: type, wanted: str) -> Any:
        written = keys.get(name)
        if written is None or data[written] is None:
            return ((None, Origin("default", "default")),)
        return tuple(self._items(data, written, kind, wanted))

    def _items(
        self, data: Mapping[str, Any], key: str, kind: type, wanted: str, at: str = ""
    ) -> list[tuple[Any, Origin]]:
        """The values of a list, or of a single value, each with its place and each once."""
        value, path = data[key], f"{at}{key}"
        items = [(item, f"{path}.{i}") for i, item in enumerate(value)] if isinstance(value, list) else [(value, path)]
        if not items or len(items) > MOST_VALUES:
            message = "is empty" if not items else f"holds more than {MOST_VALUES} values"
            raise RequestError(path, None, self._place(path), message)
        found: dict[Any, Origin] = {}
        for item, place in items:
            if not isinstance(item, kind) or isinstance(item, bool):
                quotes = ": put it in quotes" if kind is str and isinstance(item, int | float) else ""
                shown = item if isinstance(item, str | int | float) else None
                raise RequestError(path, shown, self._place(place), f"must hold {wanted}{quotes}")
            found.setdefault(item, self._place(place))
        return list(found.items())

    def _clusters(self, value: Any) -> tuple[Cluster, ...]:
        entries = value if isinstance(value, list) else [value]
        if not entries:
            raise RequestError("clusters", None, self._place("clusters"), "is empty")
        at = [f"clusters.{i}." if isinstance(value, list) else "clusters." for i in range(len(entries))]
        return tuple(self._cluster(entry, path) for entry, path in zip(entries, at, strict=True))

    def _cluster(self, entry: Any, at: str) -> Cluster:
        where = self._place(at.rstrip("."))
        if not isinstance(entry, Mapping):
            raise RequestError("clusters", None, where, "must hold mappings, as in `{gpu: h100, gpus: [8, 96]}`")
        keys = {name.replace("-", "_"): name for name in entry}
        for name, written in keys.items():
            self._known(name, written, ("name", *OF_A_CLUSTER), {}, at, "a cluster")
        for name in ("gpu", "gpus"):
            if entry.get(name) is None:
                raise RequestError(name, None, where, "is missing from the cluster")
        name = entry.get("name")
        if name is not None and not (isinstance(name, str) and name.isprintable() and 1 <= len(name) <= LONGEST_NAME):
            message = f"must be a word of at most {LONGEST_NAME} characters, none of them a control character"
            raise RequestError("name", str(name)[:LONGEST_NAME], self._place(f"{at}name"), message)
        counts = self._items(entry, "gpus", int, "whole numbers", at)
        plain = {written: entry[written] for key, written in keys.items() if key not in ("name", "gpus")}
        here = {written: place for written in plain if (place := self.places.get(f"{at}{written}")) is not None}
        values, origins = validated(plain, self.path, here)
        gpu = self._gpu(values.pop("gpu"), origins)
        return Cluster(
            name=name,
            gpu=gpu,
            counts=tuple(counts),
            request=values,
            origins=origins,
        )

    def _gpu(self, word: str, origins: Mapping[str, Origin]) -> GpuSpec:
        from solver.resolution import find_gpu

        if word.endswith((".yaml", ".yml")) and not word.startswith("~"):
            word = str(Path(self.path).parent / word)
        return find_gpu(Request(gpu=word, origins=origins))

    def _known(
        self,
        name: str,
        written: str,
        known: Iterable[str],
        elsewhere: Mapping[str, str],
        at: str = "",
        what: str = "a zoo file",
    ) -> None:
        known = tuple(known)
        if name in known:
            return
        place = self._place(f"{at}{written}")
        if name in elsewhere:
            raise RequestError(written, None, place, elsewhere[name])
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}" if at else ""
        raise RequestError(written, None, place, f"is not a key of {what}{hint}")

    def _place(self, path: str) -> Origin:
        place = self.places.get(path)
        return Origin("file", f"{self.path}:{place[0]}:{place[1]}" if place else self.path)
