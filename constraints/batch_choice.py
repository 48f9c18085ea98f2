"""The global batch when the request does not fix it: near a target, whole micro-batches on every rank."""

from __future__ import annotations

__all__ = ["chosen_microbatches"]


def chosen_microbatches(target_sequences: int, dp: int, micro_batch_size: int, multiple_of: int) -> int:
    """Micro-batches per step so that the batch comes nearest to ``target_sequences``.

    The count is a multiple of ``multiple_of`` (``pp`` under interleaving, else 1) and at least that; half rounds up.

    >>> chosen_microbatches(1024, 12, 1, 1), chosen_microbatches(1024, 12, 1, 2)
    (85, 86)
    """
    unit = dp * micro_batch_size * multiple_of
    return multiple_of * max(1, (2 * target_sequences + unit) // (2 * unit))
