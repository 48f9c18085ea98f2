"""What would lower the memory of a layout, cheapest first: each a change to type, tried out and measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from constraints.layout import Layout
from constraints.memory.budget import MemoryReport, memory_report
from constraints.problem import GIB, Problem
from constraints.registry import broken_rules
from constraints.rule import Stratum

__all__ = ["Relief", "ways_to_lower"]

LEAST_SAVING = 0.01
"""Changes that free less than this share of the peak are not worth a line."""

Candidate = tuple[str, str, Problem, Layout]


@dataclass(frozen=True)
class Relief:
    """``change`` is what to type, ``price`` what it costs, ``high_bytes`` the high estimate then."""

    change: str
    price: str
    saved_bytes: int
    high_bytes: int
    verdict: str

    def to_mapping(self) -> dict[str, Any]:
        """The entry of ``relief`` in the JSON; sizes in GiB."""
        return {
            "change": self.change,
            "price": self.price,
            "saves_gib": round(self.saved_bytes / GIB, 3),
            "high_gib": round(self.high_bytes / GIB, 3),
            "verdict": self.verdict,
        }


def ways_to_lower(problem: Problem, layout: Layout, report: MemoryReport, most: int = 3) -> tuple[Relief, ...]:
    """The first ``most`` changes, cheapest first, that are legal and lower the high estimate of ``layout``."""
    found: list[Relief] = []
    for change, price, changed, candidate in _candidates(problem, layout):
        if broken_rules(changed, candidate, Stratum.LAW, Stratum.FRAMEWORK):
            continue
        lower = memory_report(changed, candidate)
        if lower is None or report.high_bytes - lower.high_bytes < LEAST_SAVING * report.high_bytes:
            continue
        found.append(Relief(change, price, report.high_bytes - lower.high_bytes, lower.high_bytes, lower.verdict))
        if len(found) == most:
            break
    return tuple(found)


def _candidates(problem: Problem, layout: Layout) -> Iterator[Candidate]:
    """(what to type, its price, the problem, the layout): number formats before time, little time before much."""
    settings, options = layout.settings, problem.recompute_options
    selective = [option for option in options if option.granularity == "selective"]
    full = [option for option in options if option.is_full]
    level = options.index(layout.recompute) if layout.recompute in options else len(options)
    if layout.recompute.by_chunk:
        level = len(options) - (2 if layout.recompute.first else 1)
    for option in selective:
        if options.index(option) > level:
            modules = ",".join(option.modules)
            yield (
                f"recompute_modules={modules}",
                "these modules' forward again",
                problem,
                _with(layout, recompute=option),
            )
    if settings.grad_reduce_in_fp32 and problem.task != "lora":
        yield _switched(problem, layout, "--grad-dtype bf16", "gradients summed in bf16", grad_reduce_in_fp32=False)
    if not settings.use_precision_aware_optimizer and problem.task != "lora":
        moments = {"use_precision_aware_optimizer": True, "exp_avg_dtype": "bf16", "exp_avg_sq_dtype": "bf16"}
        yield _switched(problem, layout, "--optimizer precision-aware", "moments kept in bf16", **moments)
    if layout.micro_batch_size > 1 and layout.micro_batch_size % 2 == 0:
        smaller = _with(
            layout, micro_batch_size=layout.micro_batch_size // 2, num_microbatches=layout.num_microbatches * 2
        )
        yield f"mbs={smaller.micro_batch_size}", "smaller GEMMs, more launches", problem, smaller
    if problem.model.is_moe and layout.edp % 2 == 0:
        yield (
            f"ep={layout.ep * 2}",
            "a wider all-to-all",
            problem,
            _with(layout, ep=layout.ep * 2, edp=layout.edp // 2),
        )
    if layout.dp % 2 == 0:
        halved = {"dp": layout.dp // 2, "num_microbatches": layout.num_microbatches * 2}
        yield f"cp={layout.cp * 2}", "exchanges of keys and values", problem, _with(layout, cp=layout.cp * 2, **halved)
        split = _with(layout, tp=layout.tp * 2, sequence_parallel=True, **halved)
        yield f"tp={split.tp} sp=true", "collectives in every layer", problem, split
    for option in full:
        if options.index(option) > level:
            yield "recompute=full", "the whole forward again", problem, _with(layout, recompute=option)
    if not settings.optimizer_cpu_offload and problem.task != "lora":
        offload = {"optimizer_cpu_offload": True, "optimizer_offload_fraction": 1.0}
        yield _switched(problem, layout, "--offload-optimizer 100%", "optimizer steps over PCIe", **offload)


def _with(layout: Layout, **changes: Any) -> Layout:
    return replace(layout, **changes)


def _switched(problem: Problem, layout: Layout, change: str, price: str, **switches: Any) -> Candidate:
    settings = replace(layout.settings, **switches)
    return change, price, replace(problem, settings=settings), replace(layout, settings=settings)
