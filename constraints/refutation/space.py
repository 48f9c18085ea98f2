"""The finite space of layouts: the values that each decision may take before any rule has spoken.

What ``solve`` searches, what a conflict is about and what a certificate covers is one space, written down here.
"""

from __future__ import annotations

from collections.abc import Iterable

from constraints.layout import PipelineSplit
from constraints.partition.kinds import runs_of
from constraints.pipeline.assignment import segment_sizes, sizes_of_split
from constraints.problem import MICRO_BATCH_SIZES, Problem

__all__ = ["DEGREES", "divisors", "values_of_decisions", "virtual_stages"]

DEGREES = ("tp", "pp", "cp", "ep", "etp", "dp", "edp")

LARGEST_CONTEXT_POWER = 6
"""Context degrees of up to 2**5 are considered beside the divisors of the GPU count when conflicts are explained."""


def divisors(number: int) -> list[int]:
    """All divisors of ``number``, smallest first.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def values_of_decisions(problem: Problem, *, wide: bool) -> dict[str, list[int]]:
    """The values that each decision may take, by its name in a layout; ``vpp`` 1 is "not interleaved".

    Degrees come from the divisors of the GPU count; ``wide``, also from the divisors of what they split, so that the
    world laws can be named among the causes. A pinned value is always there, so that its rule can be blamed.
    """
    model, gpus, batch = problem.model, problem.gpus, problem.global_batch_size
    of_world = divisors(gpus)
    natural: dict[str, list[int]] = {name: list(of_world) for name in DEGREES}
    natural["pp"] = [d for d in of_world if d <= model.num_layers + 2]
    if not model.is_moe:
        natural["ep"], natural["etp"] = [1], [1]
    if wide:
        natural["tp"] += divisors(model.num_attention_heads)
        natural["pp"] += [*divisors(model.num_layers), len(segment_sizes(model) or (0,))]
        natural["cp"] += [2**k for k in range(LARGEST_CONTEXT_POWER)]
        natural["dp"] += divisors(batch or 1)
        if model.is_moe:
            natural["ep"] += divisors(model.experts)
    natural["vpp"] = list(range(1, max(1, model.num_layers) + 1))
    natural["micro_batch_size"] = [size for size in MICRO_BATCH_SIZES if batch is None or batch % size == 0]
    natural["sequence_parallel"] = [0, 1]
    for pin in problem.pins:
        value = getattr(pin, "value", None)
        name = pin.scope[0]
        if name in natural and isinstance(value, int):
            natural[name].append(max(1, value) if name != "sequence_parallel" else int(value))
    natural = {name: sorted(set(values)) for name, values in natural.items()}
    if batch is not None:
        counts = {batch // (b * d) for b in natural["micro_batch_size"] for d in natural["dp"]}
        pinned = [p.value for p in problem.pins if p.scope[0] == "num_microbatches" and hasattr(p, "value")]
        natural["num_microbatches"] = sorted({1, *pinned, *counts} - {0})
    return natural


def virtual_stages(problem: Problem, pp: int, candidates: Iterable[int]) -> list[int]:
    """The ``vpp`` among ``candidates`` that are considered on ``pp`` ranks; 1 (no interleaving) is always one.

    As many chunks as there are layers at most. Where layers of different kinds alternate, chunks of one length (embedding
    and loss counted as layers or not) are considered only, where there are any. What the user pins is considered in any
    case, on one rank too.
    """
    layers, pinned = problem.model.num_layers, problem.pinned("vpp")
    fitting = [vpp for vpp in candidates if vpp > 1 and pp * vpp <= layers]
    if pinned:
        return [1, *fitting]
    if pp == 1 or problem.model.is_hybrid:
        return [1]
    if runs_of(problem.model) is not None:
        return [1, *fitting]
    even = [vpp for vpp in fitting if _comes_out_even(layers, pp, vpp)]
    return [1, *(even or fitting)]


def _comes_out_even(layers: int, pp: int, vpp: int) -> bool:
    return any(
        sizes_of_split(layers, pp, vpp, PipelineSplit(account_for_embedding=e, account_for_loss=loss)) is not None
        for e in (False, True)
        for loss in (False, True)
    )
