"""From a request to a problem: names become catalog entries, words become rules, defaults are filled in and say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from constraints.errors import RequestError
from constraints.generations import GENERATIONS
from constraints.precision_names import PRECISIONS
from constraints.problem import GIB, Origin, Problem
from constraints.rule import Rule, Stratum
from constraints.timing.calibration import NEWEST_STACK, STACKS
from models_catalog.errors import CatalogError, UnknownName
from models_catalog.schema import GpuSpec, ModelSpec
from solver.memory_options import imbalance_percent, switches_by_option, with_memory_options
from solver.pinned import pinned_words, refuse_impossible_counts, similar
from solver.request import Request

__all__ = ["MEGATRON_VERSIONS", "OBJECTIVE_NAMES", "TASKS", "find_gpu", "find_model", "resolve"]

DEFAULT_SEQ_LENGTH = 4096
MEGATRON_VERSIONS = GENERATIONS
TASKS = ("pretrain", "sft", "lora")
OBJECTIVE_NAMES = ("step-time", "communication", "data-parallel", "memory")

LARGEST = {"gpus": 1_000_000, "gpus_per_node": 1_000_000, "nvlink_domain": 1_000_000, "seq_length": 100_000_000}
LARGEST |= {"global_batch_size": 100_000_000, "top": 1000}
LARGEST_GIB, LONGEST_SECONDS = 1_000_000.0, 86_400.0


def resolve(request: Request, *, model: ModelSpec | None = None, gpu: GpuSpec | None = None) -> Problem:
    """The problem that ``request`` means. ``model`` and ``gpu`` go before what the request calls them.

    Raises :class:`~constraints.errors.RequestError` for what is missing, out of range, unknown or contradictory, and
    :class:`~models_catalog.errors.CatalogError` for a model or GPU that cannot be had.
    """
    for name, largest in LARGEST.items():
        _whole(request, name, largest)
    gpus = _required(request, "gpus", "--gpus N")
    model = model or find_model(request)
    gpu = gpu or find_gpu(request)
    pinned = pinned_words(request)
    if pinned.model_fields:
        model = replace(model, **pinned.model_fields)
    settings = with_memory_options(request, pinned.switches)
    budget = _positive(request, "memory_gib", LARGEST_GIB)
    _positive(request, "time_limit", LONGEST_SECONDS)
    seq_length = request.seq_length
    if seq_length is None:
        seq_length = min(DEFAULT_SEQ_LENGTH, model.max_position_embeddings or DEFAULT_SEQ_LENGTH)
    problem = Problem(
        model=model,
        gpu=gpu,
        gpus=gpus,
        gpus_per_node=request.gpus_per_node or gpu.gpus_per_node,
        nvlink_domain=_domain(request, gpu),
        budget_bytes=int((budget if budget is not None else gpu.usable_gib) * GIB),
        seq_length=seq_length,
        global_batch_size=request.global_batch_size,
        precision=_one_of(request, "precision", PRECISIONS, "bf16"),
        task=_one_of(request, "task", TASKS, "pretrain"),
        objective=_one_of(request, "objective", OBJECTIVE_NAMES, "step-time"),
        stack=_one_of(request, "stack", STACKS, NEWEST_STACK),
        megatron=_one_of(request, "megatron", MEGATRON_VERSIONS, MEGATRON_VERSIONS[-1]),
        settings=settings,
        pins=tuple(pinned.rules),
        relaxed=_relaxed(request),
        allow_idle=request.allow_idle,
        allow_borderline=request.allow_borderline,
        imbalance_percent=imbalance_percent(request),
        expandable_segments=request.expandable_segments is not False,
        origins=_origins(request, gpu) | pinned.origins,
    )
    refuse_impossible_counts(problem)
    return problem


def _domain(request: Request, gpu: GpuSpec) -> int:
    """The NVLink domain: as given, else the catalog's, which a node of fewer GPUs than it joins (an HGX board) cuts."""
    if request.nvlink_domain is not None:
        return request.nvlink_domain
    if request.gpus_per_node is not None and gpu.nvlink_domain == gpu.gpus_per_node:
        return request.gpus_per_node
    return gpu.nvlink_domain


def _origins(request: Request, gpu: GpuSpec) -> dict[str, Origin]:
    origins = dict(request.origins)
    catalog = Origin("catalog", f"catalog {gpu.name}")
    for name in ("gpus_per_node", "nvlink_domain"):
        origins.setdefault(name, catalog)
    origins["budget_bytes"] = origins.get("memory_gib", catalog)
    for key, switches in switches_by_option(request).items():
        origins |= dict.fromkeys((f"option {key}", *switches) if switches else (), request.origin(key))
    for name in (
        "seq_length",
        "precision",
        "task",
        "objective",
        "stack",
        "megatron",
        "optimizer",
        "grad_dtype",
        "routing_imbalance",
    ):
        origins.setdefault(name, Origin("default", "default"))
    return origins


def _required(request: Request, name: str, hint: str) -> Any:
    value = getattr(request, name)
    if value is None:
        raise RequestError(name, None, Origin("request", name), f"is missing: give {hint}")
    return value


def _whole(request: Request, name: str, largest: int) -> None:
    value = getattr(request, name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(name, value, request.origin(name), "must be a whole number")
    if not 1 <= value <= largest:
        raise RequestError(name, value, request.origin(name), f"must be from 1 to {largest}")


def _positive(request: Request, name: str, largest: float) -> float | None:
    value: float | None = getattr(request, name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= largest:
        raise RequestError(name, value, request.origin(name), f"must be a number above 0, at most {largest:g}")
    return value


def _one_of(request: Request, name: str, choices: Iterable[str], default: str) -> str:
    value = getattr(request, name)
    if value is None:
        return default
    choices = tuple(choices)
    if value not in choices:
        raise RequestError(
            name, value, request.origin(name), f"is none of {', '.join(choices)}" + similar(value, choices)
        )
    return str(value)


def find_model(request: Request) -> ModelSpec:
    """The model that the request names: of the catalog, or in a file.

    Raises :class:`~constraints.errors.RequestError` for an unknown name, :class:`~models_catalog.errors.InvalidEntry` for a
    file that is no model.
    """
    from models_catalog import loader

    word = _required(request, "model", "MODEL (a catalog name, a config.json or a YAML entry)")
    try:
        return loader.find_model(word)
    except UnknownName as error:
        raise _unknown(request, "model", error) from None


def find_gpu(request: Request) -> GpuSpec:
    """The GPU that the request names. Raises as :func:`find_model` does."""
    from models_catalog import loader

    word = _required(request, "gpu", "--gpu NAME (or the path of a YAML entry)")
    try:
        return loader.find_gpu(word)
    except UnknownName as error:
        raise _unknown(request, "gpu", error) from None


def _unknown(request: Request, name: str, error: UnknownName) -> CatalogError | RequestError:
    if error.name != getattr(request, name):
        return error  # a name inside the file that was named
    hint = f"; did you mean {' or '.join(error.suggestions)}?" if error.suggestions else ":"
    message = f"is not in the catalog{hint} `meshwright catalog {name}s` lists them"
    return RequestError(name, error.name, request.origin(name), message)


def _relaxed(request: Request) -> frozenset[str]:
    from constraints.registry import RULES, rule_named

    ids = [rule.id for rule in RULES if rule.relaxable] if request.relax else []
    for rule_id in request.relax:
        rule, origin = rule_named(rule_id), request.origin("relax", rule_id)
        if rule is None:
            raise RequestError("relax", rule_id, origin, f"is not a rule{similar(rule_id, ids)}")
        if rule.id not in ids:
            raise RequestError("relax", rule_id, origin, f"{_firm(rule)}; what can be relaxed: {', '.join(ids)}")
    return frozenset(request.relax)


def _firm(rule: Rule) -> str:
    """Why a rule cannot be relaxed."""
    if rule.stratum is not Stratum.ADVICE:
        return f"is a {rule.stratum} rule"
    if rule.kept_by_form:
        return "is kept by every layout that solve looks at, so that relaxing it would change nothing"
    return "is not enforced in the first place"
