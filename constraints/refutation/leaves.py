"""A tree of a certificate, walked and counted: what is the matter with it is the file's fault, or refutes what it claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from constraints.refutation.file import BadFile, Refuted
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Reason
from constraints.refutation.tree import REFUTATION, InvalidTree, Limits, TooLarge, Verification, verify_tree

__all__ = ["counted_leaves", "walked"]


def walked(
    tree: Any, reasons: Sequence[Reason], space: Space, limits: Limits = REFUTATION, *, where: str = ""
) -> Verification:
    """Check that ``tree`` excludes every layout of ``space``. Raises :class:`Refuted`, saying ``where``, or
    :class:`BadFile`."""
    try:
        return verify_tree(tree, reasons, space, limits)
    except InvalidTree as error:
        raise Refuted(f"{where} {error}".strip()) from None
    except TooLarge as error:
        raise BadFile(f"has {error}") from None


def counted_leaves(
    claim: Mapping[str, Any], reasons: Sequence[Reason], space: Space, limits: Limits = REFUTATION
) -> dict[str, int]:
    """The leaves of ``claim["tree"]`` by reason, which are as many as ``claim["leaves"]`` says. Raises likewise."""
    done = walked(claim["tree"], reasons, space, limits)
    counted = {reason.id: done.leaves[number] for number, reason in enumerate(reasons)}
    if claim["leaves"] != counted:
        raise Refuted("its leaves are not as many as it says")
    return counted
