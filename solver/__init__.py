"""Finding, ranking and judging layouts.

``from solver import solve, counts_between, judge, check, Request, resolve``: names are imported when first used, because
ortools costs half a second and judging a layout does not need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solver.counts import counts_between as counts_between
    from solver.judgement import judge as judge
    from solver.request import Request as Request
    from solver.resolution import resolve as resolve
    from solver.synthesis import solve as solve
    from solver.verdict import check as check

__all__ = ["Request", "check", "counts_between", "judge", "resolve", "solve"]

_HOMES = {
    "solve": "solver.synthesis",
    "check": "solver.verdict",
    "counts_between": "solver.counts",
    "judge": "solver.judgement",
    "Request": "solver.request",
    "resolve": "solver.resolution",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'solver' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
