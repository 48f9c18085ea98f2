"""What a person asks, as written: nothing resolved yet, each value with the place it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from constraints.problem import Origin

__all__ = ["REPEATED", "REQUEST_KEYS", "Request", "read_request"]


@dataclass(frozen=True)
class Request:
    """The request options of the command line and of a request file, under the same names. ``None`` is "not given".

    ``pin`` holds ``KEY=VALUE`` words, ``limit`` words such as ``tp<=4``, ``relax`` rule ids. Sizes: ``memory_gib`` is
    the usable memory of a GPU in GiB, ``seq_length`` tokens, ``global_batch_size`` sequences, ``offload_optimizer`` a
    percentage (``50%`` or 50), ``batch_tolerance`` another, ``routing_imbalance`` the busiest rank's rows over the mean.
    ``top`` is how many layouts, 1 unless it is given, and with ``pareto`` how many points of the front at most.
    """

    model: str | None = None
    gpus: int | None = None
    gpu: str | None = None
    gpus_per_node: int | None = None
    nvlink_domain: int | None = None
    memory_gib: float | None = None
    seq_length: int | None = None
    global_batch_size: int | None = None
    batch_tolerance: str | float | None = None
    precision: str | None = None
    task: str | None = None
    optimizer: str | None = None
    grad_dtype: str | None = None
    fsdp: bool = False
    offload_optimizer: str | float | None = None
    routing_imbalance: float | None = None
    expandable_segments: bool | None = None
    packed: bool = False
    objective: str | None = None
    megatron: str | None = None
    pin: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    relax: tuple[str, ...] = ()
    allow_borderline: bool = False
    allow_idle: bool = False
    stack: str | None = None
    top: int | None = None
    pareto: bool = False
    time_limit: float = 60.0
    origins: Mapping[str, Origin] = field(default_factory=dict)

    def origin(self, name: str, word: str | None = None) -> Origin:
        """Where the value of ``name`` came from (of one ``word`` of a repeated key); the default's place if it was not
        given, and that of a caller of the library, ``request.NAME``, if nobody says where."""
        if word is not None and f"{name} {word}" in self.origins:
            return self.origins[f"{name} {word}"]
        if name in self.origins:
            return self.origins[name]
        return Origin("request", f"request.{name}") if self.gives(name) else Origin("default", f"default {name}")

    def gives(self, name: str) -> bool:
        """True if ``name`` is not as it is left out."""
        left_out = getattr(Request, name, None)
        return bool(getattr(self, name, left_out) != left_out)


REQUEST_KEYS = tuple(f.name for f in fields(Request) if f.name != "origins")
REPEATED = ("pin", "limit", "relax")
"""Keys that hold several words."""


def read_request(path: str) -> tuple[dict[str, Any], dict[str, Origin]]:
    """The values of a YAML or JSON request file and where each stands in it.

    ``layout`` may stand there too (a mapping, a list of words or one line of them), for ``check``. Raises
    :class:`~constraints.errors.RequestError` naming the key and its place for an unknown key or a wrong type.
    """
    from models_catalog.documents import read_located
    from solver.request_schema import validated

    data, places = read_located(path)
    return validated(data, path, places)
