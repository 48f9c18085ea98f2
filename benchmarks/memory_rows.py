"""The two kinds of file with measured memory: a table of runs, and Megatron-LM's own golden values."""

from __future__ import annotations

from benchmarks.golden_rows import measured_golden
from benchmarks.rows import Measured, Row
from benchmarks.run_rows import measured_run

__all__ = ["measured_row"]


def measured_row(row: Row) -> Measured:
    """The row as a measurement. Raises :class:`~benchmarks.rows.Skipped`."""
    return measured_golden(row) if "mem_max_allocated_last_bytes" in row else measured_run(row)
