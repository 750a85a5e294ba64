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
    printed = {
        "peak_flops_per_second": row.printed_flops_per_second,
        "peak_kind": None if row.printed_flops_per_second is None else "printed",
    }
    exact = {key: None if value is None else Estimate(value, None, None, 1) for key, value in _derived(found).items()}
    return {
        "processor": Cell(plain(row.processor), (), identity),
        "peak": Cell(
            units.giga(row.printed_flops_per_second),
            (),
            {**printed, "printed_flops": row.printed_flops_text},
        ),
        "achieved": Cell(
            units.giga(found.flops_per_second),
            (),
            cells.values("achieved_flops_per_second", exact["achieved"]),
        ),
        "job": Cell(
            units.duration(row.job_seconds).removesuffix(".0"),
            (),
            {**cells.values("job_seconds", exact["job"]), "job_kind": "published"},
        ),
        "versus": Cell(
            units.ratio(found.speedup),
            (),
            {**cells.values("speedup_over_reference", exact["versus"]), "printed_speedup": row.printed_speedup},
        ),
    }


def _derived(found: PublishedResult) -> dict[str, float | None]:
    return {
        "achieved": found.flops_per_second,
        "job": found.published.job_seconds,
        "versus": found.speedup,
    }
