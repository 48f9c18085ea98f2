"""Which source stands behind which number of an entry.

A source is a line ``what: where it is from``. ``what`` names fields (``usable_gib, label_gib``), or says ``parameter
counts``; a source that does neither stands behind every number that no other source claims.
"""

from __future__ import annotations

from dataclasses import MISSING, fields

from models_catalog.schema import GpuSpec, ModelSpec

__all__ = ["numbers", "source_of"]

NOT_NUMBERS = ("name", "hf_id", "family", "aliases", "parameters_exact", "parameters_include_mtp", "sources", "note")
COUNTS = ("total_parameters", "active_parameters")


def numbers(spec: ModelSpec | GpuSpec) -> dict[str, object]:
    """The facts that the entry states, name to value: what differs from the field's default, in the schema's order."""
    return {
        f.name: getattr(spec, f.name)
        for f in fields(spec)
        if f.name not in NOT_NUMBERS and (f.default is MISSING or getattr(spec, f.name) != f.default)
    }


def source_of(spec: ModelSpec | GpuSpec) -> dict[str, str]:
    """Each number's source; a number that has none is left out."""
    names = {f.name for f in fields(spec)}
    found: dict[str, str] = {}
    general = None
    for source in spec.sources:
        subject = [word.strip() for word in source.partition(": ")[0].split(",")]
        claimed = COUNTS if subject == ["parameter counts"] else [word for word in subject if word in names]
        for name in claimed:
            found.setdefault(name, source)
        if not claimed and general is None:
            general = source
    if general is not None:
        for name in numbers(spec):
            found.setdefault(name, general)
    return found
