"""From a request to a problem: names become catalog entries, words become rules, defaults are filled in and say so."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from constraints.errors import RequestError
from constraints.layout import Settings
from constraints.pins import Limit, Pin, PinRecompute
from constraints.problem import GIB, Origin, Problem
from constraints.rule import Rule, Stratum
from models_catalog.schema import GpuSpec, ModelSpec
from solver.request import Request

__all__ = ["MEGATRON_VERSIONS", "OBJECTIVE_NAMES", "PRECISIONS", "TASKS", "resolve"]

DEFAULT_SEQ_LENGTH = 4096
MEGATRON_VERSIONS = ("0.20",)
PRECISIONS = ("bf16", "fp16", "fp8_cs", "fp8_ds", "fp8_sc", "fp8_mx", "nvfp4")
TASKS = ("pretrain", "sft", "lora")
OPTIMIZERS = ("distributed", "plain")
OBJECTIVE_NAMES = ("communication", "data-parallel")

LARGEST = {"gpus": 1_000_000, "gpus_per_node": 1_000_000, "nvlink_domain": 1_000_000, "seq_length": 100_000_000}
LARGEST |= {"global_batch_size": 100_000_000, "top": 1000}
LARGEST_GIB, LONGEST_SECONDS = 1_000_000.0, 86_400.0

DECISIONS = {
    "tp": "tp",
    "pp": "pp",
    "vpp": "vpp",
    "cp": "cp",
    "ep": "ep",
    "etp": "etp",
    "dp": "dp",
    "edp": "edp",
    "mbs": "micro_batch_size",
    "m": "num_microbatches",
    "sp": "sequence_parallel",
}
"""Short names of the decisions that can be pinned; Megatron's names are accepted too (``constraints.spelling``)."""

_LIMIT = re.compile(r"\s*([A-Za-z_]+)\s*(<=|>=|<|>)\s*(-?\d+)\s*")


def resolve(request: Request) -> Problem:
    """The problem that ``request`` means.

    Raises :class:`~constraints.errors.RequestError` for what is missing, out of range, unknown or contradictory, and
    :class:`~models_catalog.errors.CatalogError` for a model or GPU that cannot be had.
    """
    for name, largest in LARGEST.items():
        _whole(request, name, largest)
    gpus = _required(request, "gpus", "--gpus N")
    model = _model(request)
    gpu = _gpu(request)
    settings, model, words = _words(request, model)
    budget = _positive(request, "memory_gib", LARGEST_GIB)
    _positive(request, "time_limit", LONGEST_SECONDS)
    optimizer = _one_of(request, "optimizer", OPTIMIZERS, "distributed")
    if optimizer == "plain":
        settings = replace(settings, use_distributed_optimizer=False)
    seq_length = request.seq_length
    if seq_length is None:
        seq_length = min(DEFAULT_SEQ_LENGTH, model.max_position_embeddings or DEFAULT_SEQ_LENGTH)
    return Problem(
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
        objective=_one_of(request, "objective", OBJECTIVE_NAMES, "communication"),
        megatron=_one_of(request, "megatron", MEGATRON_VERSIONS, MEGATRON_VERSIONS[-1]),
        settings=settings,
        pins=words,
        relaxed=_relaxed(request),
        allow_idle=request.allow_idle,
        allow_borderline=request.allow_borderline,
        origins=_origins(request, gpu),
    )


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
    for name in ("seq_length", "precision", "task", "objective", "megatron", "optimizer"):
        origins.setdefault(name, Origin("default", "default"))
    return origins


def _required(request: Request, name: str, hint: str) -> Any:
    value = getattr(request, name)
    if value is None:
        raise RequestError(name, None, Origin("request", "request"), f"is missing: give {hint}")
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
            name, value, request.origin(name), f"is none of {', '.join(choices)}" + _meant(value, choices)
        )
    return str(value)


def _meant(word: object, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(word), list(choices), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _model(request: Request) -> ModelSpec:
    from models_catalog.loader import find_model

    return find_model(_required(request, "model", "MODEL (a catalog name, a config.json or a YAML entry)"))


def _gpu(request: Request) -> GpuSpec:
    from models_catalog.loader import find_gpu

    return find_gpu(_required(request, "gpu", "--gpu NAME (or the path of a YAML entry)"))


def _relaxed(request: Request) -> frozenset[str]:
    from constraints.registry import RULES, rule_named

    for rule_id in request.relax:
        rule = rule_named(rule_id)
        ids = [rule.id for rule in RULES if rule.stratum is Stratum.ADVICE and rule.enforced_by_solve]
        if rule is None:
            raise RequestError("relax", rule_id, request.origin("relax"), f"is not a rule{_meant(rule_id, ids)}")
        if rule.id not in ids:
            kind = f"a {rule.stratum} rule" if rule.stratum is not Stratum.ADVICE else "not enforced in the first place"
            raise RequestError(
                "relax", rule_id, request.origin("relax"), f"is {kind}; what can be relaxed: {', '.join(ids)}"
            )
    return frozenset(request.relax)


def _words(request: Request, model: ModelSpec) -> tuple[Settings, ModelSpec, tuple[Rule, ...]]:
    """Pins and limits as rules; pinned switches become settings, a pinned MTP depth changes the model."""
    rules: list[Rule] = []
    switches: dict[str, Any] = {}
    given: dict[str, str] = {}
    for word in request.pin:
        name, value = _split_pin(request, word)
        if given.setdefault(name, value) != value:
            message = f"contradicts --pin {name}={given[name]}"
            raise RequestError("pin", word, request.origin("pin"), message)
        origin = Origin(request.origin("pin").kind, f"--pin {word}")
        if name in DECISIONS:
            rules.append(Pin(name, DECISIONS[name], _pin_value(name, value, word, request), origin))
        elif name == "recompute":
            if value not in ("none", "selective", "full"):
                raise RequestError("pin", word, request.origin("pin"), "recompute is none, selective or full")
            rules.append(PinRecompute(value, origin))
        elif name == "mtp_num_layers":
            depth = _pin_number(value, word, request, least=0)
            model = replace(model, mtp_num_layers=depth or None)
        else:
            switches[name] = _switch(name, value, word, request)
    for word in request.limit:
        rules.append(_limit(request, word))
    return Settings(**switches), model, tuple(rules)


def _split_pin(request: Request, word: str) -> tuple[str, str]:
    from constraints.spelling import canonical_name

    key, equals, value = word.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise RequestError("pin", word, request.origin("pin"), "must be KEY=VALUE, as in tp=4")
    name = canonical_name(key.strip())
    switches = [f.name for f in fields(Settings)]
    known = [*DECISIONS, "recompute", "mtp_num_layers", *switches]
    if name not in known:
        raise RequestError("pin", word, request.origin("pin"), f"{key} cannot be pinned{_meant(key, known)}")
    return name, value.strip()


def _pin_value(name: str, value: str, word: str, request: Request) -> Any:
    if name == "sp":
        return _truth(value, word, request)
    if name == "vpp" and value.lower() in ("null", "none", "1"):
        return None
    return _pin_number(value, word, request, least=1)


def _pin_number(value: str, word: str, request: Request, least: int) -> int:
    if not re.fullmatch(r"\d{1,7}", value) or int(value) < least:
        message = f"must be a whole number from {least} to 9999999"
        raise RequestError("pin", word, request.origin("pin"), message)
    return int(value)


def _truth(value: str, word: str, request: Request) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise RequestError("pin", word, request.origin("pin"), "must be true or false")
    return value.lower() in ("true", "1")


def _switch(name: str, value: str, word: str, request: Request) -> Any:
    from constraints.spelling import read_value

    try:
        return read_value(name, value)
    except ValueError as error:
        raise RequestError("pin", word, request.origin("pin"), str(error)) from None


def _limit(request: Request, word: str) -> Rule:
    from constraints.spelling import canonical_name

    matched = _LIMIT.fullmatch(word)
    if matched is None:
        raise RequestError("limit", word, request.origin("limit"), "must be KEY<=NUMBER (or >=, <, >), as in 'tp<=4'")
    name = canonical_name(matched[1])
    if name not in DECISIONS or name == "sp":
        raise RequestError("limit", word, request.origin("limit"), f"{matched[1]} has no size to limit")
    if len(matched[3]) > 8:
        raise RequestError("limit", word, request.origin("limit"), "the number is absurd")
    origin = Origin(request.origin("limit").kind, f"--limit '{word}'")
    return Limit(name, DECISIONS[name], matched[2], int(matched[3]), origin)
