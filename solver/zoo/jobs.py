"""The jobs of a zoo: one for every model, cluster, count, sequence length and objective, in that order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from constraints.errors import RequestError
from constraints.problem import Origin, Problem
from constraints.refutation.encoding import canonical, digest, encoded
from models_catalog.schema import ModelSpec
from solver.pinned import similar
from solver.request import Request
from solver.resolution import LARGEST, OBJECTIVE_NAMES, resolve
from solver.zoo.file import Cluster, Zoo
from solver.zoo.names import label, machine_label, unique_labels

__all__ = ["Job", "Jobs"]


@dataclass(frozen=True, slots=True)
class Job:
    """One request of a zoo. ``name`` is that of its folder; ``seq_length`` is in tokens; ``base`` has all the rest."""

    name: str
    base: Problem
    cluster: str
    gpus: int
    seq_length: int
    objective: str
    origins: tuple[Origin, Origin, Origin]

    def problem(self) -> Problem:
        """What is to be solved."""
        own = dict(zip(("gpus", "seq_length", "objective"), self.origins, strict=True))
        return replace(
            self.base,
            gpus=self.gpus,
            seq_length=self.seq_length,
            objective=self.objective,
            origins={**self.base.origins, **own},
        )

    def digest(self) -> str:
        """What identical problems have in common: the digest by which a certificate names its request."""
        return digest(encoded(self.problem()))

    def facts(self) -> dict[str, Any]:
        """What is asked, as a line of the manifest and a row of the summary begin."""
        return {
            "job": self.name,
            "model": self.base.model.name,
            "cluster": self.cluster,
            "gpu": self.base.gpu.name,
            "gpus": self.gpus,
            "seq_length": self.seq_length,
            "objective": self.objective,
        }


class Jobs:
    """All jobs of a zoo, each made when it is asked for, so that many cost nothing; ``len`` says how many.

    Raises :class:`~constraints.errors.RequestError` if some of them are no request at all.
    """

    def __init__(self, zoo: Zoo) -> None:
        _within("sequence_lengths", zoo.seq_lengths, LARGEST["seq_length"])
        for cluster in zoo.clusters:
            _within("gpus", cluster.counts, LARGEST["gpus"])
        for word, origin in zoo.objectives:
            if word is not None and word not in OBJECTIVE_NAMES:
                message = f"is none of {', '.join(OBJECTIVE_NAMES)}{similar(word, OBJECTIVE_NAMES)}"
                raise RequestError("objectives", word, origin, message)
        self.zoo = zoo
        self._bases = [[_base(zoo, model, cluster) for cluster in zoo.clusters] for model in zoo.models]
        of_models = [canonical(encoded(row[0])["model"]) for row in self._bases]
        self._models = unique_labels(zip((label(m.name) for m in zoo.models), of_models, strict=True))
        self._clusters = unique_labels(map(_machine, zoo.clusters, self._bases[0]))
        self._counts = list(self._distinct_counts())
        self._lengths = [(length, told(origin)) for length, origin in zoo.seq_lengths]
        self._objectives = [(word, told(origin)) for word, origin in zoo.objectives]

    def _distinct_counts(self) -> Iterator[list[tuple[int, Origin]]]:
        """The counts of each cluster that no equal one before it has."""
        seen: set[tuple[str, int]] = set()
        for name, cluster in zip(self._clusters, self.zoo.clusters, strict=True):
            fresh = [(gpus, told(origin)) for gpus, origin in cluster.counts if (name, gpus) not in seen]
            seen |= {(name, gpus) for gpus, _ in fresh}
            yield fresh

    def __len__(self) -> int:
        sizes = (len(self._models), sum(map(len, self._counts)), len(self._lengths), len(self._objectives))
        return sizes[0] * sizes[1] * sizes[2] * sizes[3]

    def __iter__(self) -> Iterator[Job]:
        for model, bases in zip(self._models, self._bases, strict=True):
            for cluster, base, counts in zip(self._clusters, bases, self._counts, strict=True):
                for gpus, of_gpus in counts:
                    for length, of_length in self._lengths:
                        for word, of_objective in self._objectives:
                            tokens, objective = length or base.seq_length, word or base.objective
                            name = f"{model}_{cluster}x{gpus}_seq{tokens}_{objective}"
                            origins = (of_gpus, of_length, of_objective)
                            yield Job(name, base, cluster, gpus, tokens, objective, origins)


def _base(zoo: Zoo, model: ModelSpec, cluster: Cluster) -> Problem:
    """The problem of a model on one GPU of a cluster: what its jobs have in common."""
    own: dict[str, Any] = {"model": model.name, "gpu": cluster.gpu.name, "gpus": 1, **cluster.request}
    origins = {**zoo.request.origins, **cluster.origins, "model": Origin("zoo", "zoo file")}
    request: Request = replace(zoo.request, **own, origins=origins)
    resolve(request, model=model, gpu=cluster.gpu)  # an error says where in which file
    request = replace(request, origins={name: told(origin) for name, origin in origins.items()})
    return resolve(request, model=model, gpu=cluster.gpu)


def _machine(cluster: Cluster, base: Problem) -> tuple[str, str]:
    """(label, fingerprint) of a cluster."""
    values = encoded(base)
    facts = [cluster.name, *(values[name] for name in ("gpu", "gpus_per_node", "nvlink_domain", "budget_bytes"))]
    return label(cluster.name) if cluster.name else machine_label(base), canonical(facts)


def _within(name: str, values: Iterable[tuple[int | None, Origin]], largest: int) -> None:
    for value, origin in values:
        if value is not None and not 1 <= value <= largest:
            raise RequestError(name, value, origin, f"must be from 1 to {largest}")


def told(origin: Origin) -> Origin:
    """The place as a result tells it: by its line, for results are the same wherever the file lies."""
    line = origin.where.rpartition(":")[0].rpartition(":")[2]
    return (
        Origin("zoo", f"zoo file, line {line}" if line.isdigit() else "zoo file") if origin.kind == "file" else origin
    )
