"""How far a batch that the request gives may move: a percentage, and the problem's values that it makes."""

from __future__ import annotations

import re
from typing import Any

from constraints.errors import RequestError
from constraints.problem import WHOLE
from solver.request import Request

__all__ = ["FREE_BATCH", "asked_batch"]

FREE_BATCH: dict[str, Any] = {"global_batch_size": None, "target_batch": None, "batch_tolerance": 0}
"""The problem's values where the request says nothing of the batch."""

_PERCENT = re.compile(r"\s*(-?\d{1,9})(?:\.(\d{1,9}))?\s*%?\s*")


def asked_batch(request: Request) -> dict[str, Any]:
    """The problem's values of the batch: fixed, or, with a tolerance above 0, a target and how far from it a batch may be.

    Raises :class:`~constraints.errors.RequestError` for a tolerance that is no percentage from 0 to 100 with two decimals at
    most, and for one without a batch.

    >>> asked_batch(Request(global_batch_size=1024, batch_tolerance="2.5%"))
    {'global_batch_size': None, 'target_batch': 1024, 'batch_tolerance': 250}
    """
    given = request.batch_tolerance
    if given is None:
        return {"global_batch_size": request.global_batch_size}
    hundredths = _hundredths(request)
    if request.global_batch_size is None:
        message = "says how far a given batch may move: give --global-batch-size B too"
        raise RequestError("batch_tolerance", given, request.origin("batch_tolerance"), message)
    if not hundredths:
        return {"global_batch_size": request.global_batch_size}
    return {"global_batch_size": None, "target_batch": request.global_batch_size, "batch_tolerance": hundredths}


def _hundredths(request: Request) -> int:
    given = request.batch_tolerance
    matched = None if isinstance(given, bool) else _PERCENT.fullmatch(str(given))
    if matched is None:
        raise _error(request, "must be a percentage, as in 2%")
    whole, decimals = matched[1], (matched[2] or "").rstrip("0")
    if len(decimals) > 2:
        raise _error(request, "must have two decimals at most, as in 2.25%")
    hundredths = int(whole) * 100 + int(decimals.ljust(2, "0"))
    if whole.startswith("-") or hundredths > WHOLE:
        raise _error(request, "must be from 0% to 100%")
    return hundredths


def _error(request: Request, message: str) -> RequestError:
    return RequestError("batch_tolerance", request.batch_tolerance, request.origin("batch_tolerance"), message)
