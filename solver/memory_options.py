"""The request's memory options as Megatron's switches: optimizer variant, gradient type, FSDP, offloading, packing.

And back: which option a switch of a problem comes from, and how it is typed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from constraints.errors import RequestError
from constraints.layout import Settings
from constraints.problem import Problem
from solver.request import Request

__all__ = [
    "GRADIENT_TYPES",
    "OPTIMIZERS",
    "imbalance_percent",
    "option_behind",
    "option_values",
    "option_words",
    "switches_by_option",
    "with_memory_options",
]

OPTIMIZERS = ("distributed", "precision-aware", "plain")
GRADIENT_TYPES = ("fp32", "bf16")
LARGEST_IMBALANCE = 100.0

_OPTIMIZER_SWITCHES: dict[str, dict[str, Any]] = {
    "distributed": {},
    "precision-aware": {
        "use_precision_aware_optimizer": True,
        "exp_avg_dtype": "bf16",
        "exp_avg_sq_dtype": "bf16",
    },
    "plain": {"use_distributed_optimizer": False},
}
"""``precision-aware`` is Bridge's performance setting: both moments in bf16."""

_WORDS = {
    "optimizer": "--optimizer {optimizer}",
    "grad_dtype": "--grad-dtype bf16",
    "fsdp": "--fsdp",
    "offload_optimizer": "--offload-optimizer {share:g}%",
    "packed": "--packed",
}
"""By the request's key, how an option is typed that is not at its default."""

_PERCENT = re.compile(r"\s*(\d{1,3}(?:\.\d{1,6})?)\s*%?\s*")


def switches_by_option(request: Request) -> dict[str, dict[str, Any]]:
    """The switches that each memory option of the request means, by its key.

    Raises :class:`~constraints.errors.RequestError`.
    """
    switches = {"optimizer": dict(_OPTIMIZER_SWITCHES[_one_of(request, "optimizer", OPTIMIZERS)])}
    if _one_of(request, "grad_dtype", GRADIENT_TYPES) == "bf16":
        switches["grad_dtype"] = {"grad_reduce_in_fp32": False}
    if request.fsdp:
        switches["fsdp"] = {"use_megatron_fsdp": True, "data_parallel_sharding_strategy": "optim_grads_params"}
    if request.offload_optimizer is not None and (share := _share(request)) > 0:
        switches["offload_optimizer"] = {"optimizer_cpu_offload": True, "optimizer_offload_fraction": share}
    if request.packed:
        switches["packed"] = {"packed_sequences": "offline"}
    return switches


def with_memory_options(request: Request, pinned: Mapping[str, Any]) -> Settings:
    """The switches that the request's memory options mean, and those that are ``pinned``, which go before them.

    Raises :class:`~constraints.errors.RequestError`.
    """
    switches: dict[str, Any] = {}
    for meant in switches_by_option(request).values():
        switches |= meant
    return Settings(**(switches | dict(pinned)))


def option_behind(problem: Problem, switch: str) -> str | None:
    """The key of the memory option that set ``switch``: both have one origin; ``None`` if it was pinned or left alone."""
    origin = problem.origins.get(switch)
    return next((key for key in _WORDS if origin is not None and problem.origins.get(f"option {key}") == origin), None)


def option_words(settings: Settings, key: str) -> str:
    """The memory option ``key``, which set these switches, as the command line says it.

    >>> option_words(Settings(optimizer_cpu_offload=True, optimizer_offload_fraction=0.5), "offload_optimizer")
    '--offload-optimizer 50%'
    """
    optimizer = "precision-aware" if settings.use_distributed_optimizer else "plain"
    return _WORDS[key].format(optimizer=optimizer, share=settings.optimizer_offload_fraction * 100)


def option_values(problem: Problem) -> dict[str, Any]:
    """The memory options of a problem as a request says them, by key; switches that were pinned are none of theirs."""
    settings, given = problem.settings, {key for key in _WORDS if f"option {key}" in problem.origins}
    changed = "precision-aware" if settings.use_distributed_optimizer else "plain"
    share = f"{settings.optimizer_offload_fraction * 100:g}%"
    return {
        "optimizer": changed if "optimizer" in given else OPTIMIZERS[0],
        "grad_dtype": "bf16" if "grad_dtype" in given else GRADIENT_TYPES[0],
        "fsdp": "fsdp" in given,
        "offload_optimizer": share if "offload_optimizer" in given else None,
        "packed": "packed" in given,
    }


def imbalance_percent(request: Request) -> int:
    """Rows of the busiest rank's experts in percent of the mean. Raises :class:`~constraints.errors.RequestError`."""
    factor = request.routing_imbalance
    if factor is None:
        return 100
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= LARGEST_IMBALANCE:
        message = f"must be a number from 1 (balanced) to {LARGEST_IMBALANCE:g}"
        raise RequestError("routing_imbalance", factor, request.origin("routing_imbalance"), message)
    return math.ceil(factor * 100)


def _share(request: Request) -> float:
    matched = _PERCENT.fullmatch(str(request.offload_optimizer))
    if matched is None or float(matched[1]) > 100:
        origin = request.origin("offload_optimizer")
        raise RequestError("offload_optimizer", request.offload_optimizer, origin, "must be from 0% to 100%")
    return float(matched[1]) / 100


def _one_of(request: Request, name: str, choices: tuple[str, ...]) -> str:
    from solver.pinned import similar

    value = getattr(request, name)
    if value is None:
        return choices[0]
    if value not in choices:
        message = f"is none of {', '.join(choices)}" + similar(value, choices)
        raise RequestError(name, value, request.origin(name), message)
    return str(value)
