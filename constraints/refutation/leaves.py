"""A tree of a certificate, walked and counted: what is the matter with it is the file's fault, or refutes what it claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from constraints.refutation.file import BadFile, Refuted
from constraints.refutation.partial import Space
from constraints.refutation.reasons import Reason
from constraints.refutation.tree import REFUTATION, InvalidTree, Limits, TooLarge, Verification, verify_tree

__all__ = ["Counted", "counted_leaves", "level_of", "walked"]


class Counted(NamedTuple):
    """Leaves by reason, and how many of them are about every partition of the layers."""

    by_reason: dict[str, int]
    over_partitions: int


def level_of(over_partitions: int) -> str:
    """What a certificate proves by, as ``docs/certificates.md`` says: ``exhaustive``, or ``partition``."""
    return "partition" if over_partitions else "exhaustive"


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
) -> Counted:
    """The leaves of ``claim["tree"]``, which are as many as ``claim["leaves"]`` says. Raises likewise."""
    done = walked(claim["tree"], reasons, space, limits)
    counted = {reason.id: done.leaves[number] for number, reason in enumerate(reasons)}
    if claim["leaves"] != counted:
        raise Refuted("its leaves are not as many as it says")
    return Counted(counted, done.over_partitions)
