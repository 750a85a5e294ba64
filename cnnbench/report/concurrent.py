"""Concurrent copies as a small table: the same job on every device at once, and the one that is slowest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.concurrent import ConcurrentSpread, measure_spread
from cnnbench.analysis.speedup import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table

KEY = "copies"
CLOCK = (
    "copies begin their timed steps together, each is timed by itself; the median is over the copies of a launch, the slowest is "
    "the one that is slowest over all launches; n counts launches; other tables show the slowest copy of each launch"
)


def tables(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> list[Table]:
    """The table; none where no job was run as copies."""
    several = [row for row in rows if row.job.copies > 1]
    if not several:
        return []
    columns: list[tuple[Column, Callable[[Row, ConcurrentSpread | None], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), lambda row, found: processor(row)),
        (Column("precision", "preci-\nsion", "", 3, "left"), lambda row, found: cells.precision(row)),
        (Column("size", "size", "", 3), lambda row, found: cells.size(row)),
        (Column("copies", "copies", "", 2), lambda row, found: _count(row)),
        (Column("median_copy", "median\ncopy", "", 1), lambda row, found: _median(found)),
        (Column("slowest_copy", "slowest\ncopy", "", 1, "left"), lambda row, found: _slowest(found)),
        (Column("over_median", "slowest\nover median", "", 1), lambda row, found: _slowest_over_median(found)),
        (Column("outcome", "outcome", "", 2, "left"), lambda row, found: cells.outcome(row)),
    ]
    groups: dict[str, list[Line]] = {}
    for row in several:
        found = measure_spread(row)
        line = Line(
            tuple(cell(row, found) for _, cell in columns),
            tuple(map(plain, row.failures)),
            "measured" if row.ok else "failed",
            cells.name_raw_rows(row),
        )
        groups.setdefault(naming.work_label(row.job, row.protocol), []).append(line)
    made = tuple(RowGroup(title, tuple(lines)) for title, lines in sorted(groups.items()))
    title = "Copies: the same job on every device at once, to find the slow one"
    return [Table(KEY, title, CLOCK, tuple(column for column, _ in columns), made)]


def _count(row: Row) -> Cell:
    return Cell(units.count(row.job.copies), (), {"copies": row.job.copies})


def _median(found: ConcurrentSpread | None) -> Cell:
    return _estimate("median_copy_seconds", None if found is None else found.median_seconds, units.short_seconds)


def _slowest(found: ConcurrentSpread | None) -> Cell:
    text = units.NOT_AVAILABLE if found is None else plain(found.slowest)
    return Cell(text, (), {"slowest_copy": text})


def _slowest_over_median(found: ConcurrentSpread | None) -> Cell:
    return _estimate("slowest_over_median", None if found is None else found.slowest_over_median, units.ratio)


def _estimate(key: str, found: Estimate | None, text: cells.NumberText) -> Cell:
    raw = cells.values(key, found)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    details = (*cells.interval(found, text), f"n={found.n}") if key == "slowest_over_median" else ()
    return Cell(text(found.value), details, raw)
