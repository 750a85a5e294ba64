"""A published row's figures as cells: what its source printed, and what follows from that."""

from __future__ import annotations

from cnnbench import units
from cnnbench.analysis.speedup import PublishedResult
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Value


def build_published_cells(found: PublishedResult) -> dict[str, Cell]:
    """A published row's cells by column; columns it has nothing for are left to the caller."""
    row = found.published
    identity: dict[str, Value] = {"processor": row.processor, "year": row.year, "source": row.source}
    printed: dict[str, Value] = {
        "peak_flops_per_second": row.printed_flops_per_second,
        "peak_kind": None if row.printed_flops_per_second is None else "printed",
        "printed_flops": row.printed_flops_text,
    }
    achieved = _exact("achieved_flops_per_second", found.flops_per_second)
    job = _exact("job_seconds", row.job_seconds) | {"job_kind": "published"}
    versus = _exact("speedup_over_reference", found.speedup) | {"printed_speedup": row.printed_speedup}
    return {
        "processor": Cell(plain(row.processor), (), identity),
        "peak": Cell(units.giga(row.printed_flops_per_second), (), printed),
        "achieved": Cell(units.giga(found.flops_per_second), (), achieved),
        "job": Cell(units.duration(row.job_seconds).removesuffix(".0"), (), job),
        "versus": Cell(units.ratio(found.speedup), (), versus),
    }


def _exact(name: str, value: float | None) -> dict[str, Value]:
    """Raw values of one that is taken as exact."""
    return cells.values(name, None if value is None else Estimate(value, None, None, 1))
