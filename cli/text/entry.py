"""One entry of the catalog as text: every number with its source, computed parameter counts beside the published ones."""

from __future__ import annotations

import textwrap
from typing import Any

import click

from cli.text.page import Page
from constraints.memory.counts import mtp_parameters, parameter_counts
from models_catalog.patterns import pattern_text
from models_catalog.provenance import COUNTS, numbers, source_of
from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["gpu_page", "model_page"]

UNITS = {"_bytes_per_second": (1e9, "GB/s"), "_flops": (1e12, "TFLOP/s"), "_ns": (1e3, "us"), "_gib": (1, "GiB")}


def model_page(model: ModelSpec, width: int | None = None) -> str:
    """The model, its parameters also as the formulas of the memory rule count them."""
    page, marks = Page(width), _marks(model)
    _title(page, model.name, model.hf_id, model.family)
    _names(page, model)
    page.line()
    _counts(page, model, marks)
    page.line()
    facts = {name: value for name, value in numbers(model).items() if name not in COUNTS}
    page.line(click.style("architecture", bold=True))
    _facts(page, facts, marks)
    _sources(page, model)
    return page.text()


def gpu_page(gpu: GpuSpec, width: int | None = None) -> str:
    """The machine; rates also in the units that data sheets print."""
    page = Page(width)
    _title(page, gpu.name, None, gpu.architecture)
    _names(page, gpu)
    page.line()
    _facts(page, {name: value for name, value in numbers(gpu).items() if name != "architecture"}, _marks(gpu))
    _sources(page, gpu)
    return page.text()


def _title(page: Page, *words: str | None) -> None:
    name, *rest = (word for word in words if word)
    page.line("  ".join([click.style(name, bold=True), *rest]))


def _names(page: Page, spec: ModelSpec | GpuSpec) -> None:
    if spec.aliases:
        page.entry("aliases", ", ".join(spec.aliases))
    if spec.note:
        page.entry("note", spec.note)


def _counts(page: Page, model: ModelSpec, marks: dict[str, str]) -> None:
    computed, extra = parameter_counts(model), mtp_parameters(model)
    page.line(click.style(f"{'parameters':<14}{'computed':>22}{'published':>22}", bold=True))
    for name, count, more in zip(COUNTS, computed, extra, strict=True):
        published = getattr(model, name)
        comparable = count + more if model.parameters_include_mtp else count
        known = f"{published:>22,}  {(comparable - published) / published:+.2%}" if published else f"{'not known':>22}"
        page.line(f"  {name.partition('_')[0]:<12}{count:>22,}{known}{marks.get(name, '')}")
    if model.mtp_layers:
        told = "in the published" if model.parameters_include_mtp else "not in the published"
        page.line(f"  {'MTP beside':<12}{extra[0]:>22,}{told:>22}")


def _facts(page: Page, facts: dict[str, object], marks: dict[str, str]) -> None:
    longest = max(map(len, facts))
    for name, value in facts.items():
        _hanging(page, f"  {name:<{longest}}  ", f"{_shown(name, value)}{marks.get(name, '')}")


def _hanging(page: Page, head: str, text: str) -> None:
    indent = " " * len(head)
    for line in textwrap.wrap(text, page.width - len(head), break_long_words=False, break_on_hyphens=False) or [""]:
        page.line(f"{head}{line}".rstrip())
        head = indent


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        value = pattern_text(value) if value and all(item in (0, 1) for item in value) else list(value)
        return str(value)
    for ending, (unit, word) in UNITS.items():
        if name.endswith(ending) and value is not None:
            return f"{value / unit:,.6g} {word}"
    return "none" if value is None else str(value)


def _marks(spec: ModelSpec | GpuSpec) -> dict[str, str]:
    return {name: f"  [{spec.sources.index(source) + 1}]" for name, source in source_of(spec).items()}


def _sources(page: Page, spec: ModelSpec | GpuSpec) -> None:
    page.line()
    page.line(click.style("sources", bold=True))
    for number, source in enumerate(spec.sources, start=1):
        _hanging(page, f"  [{number}] ", source)
    if not spec.sources:
        page.line("  none stated")
