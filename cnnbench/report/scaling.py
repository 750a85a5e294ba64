"""Scaling as a table: one job on one process and dealt out to ranks, at what efficiency, and what the exchange costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnnbench import naming, units
from cnnbench.analysis.scaling import ScalingPoint, ScalingSet, find_scaling_sets
from cnnbench.analysis.speedup import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table
from cnnbench.schema import PROTOCOL

KEY = "scaling"
ONE = "one process"
CLOCK = (
    "blocks begin and end with all ranks, so a step is as long as on the slowest; images are those of all ranks together; scaled "
    "is images a second over those of one process with the fewest threads, paired by round where both ran in it; efficiency is "
    "that over the processors used (cores on a CPU); exchange is the share of a step that is gone in blocks without the exchange "
    "of gradients, timed in turn with blocks with it; memory is the rank's that took most; launch is the part of the cold start "
    "in which the ranks were started and met"
)


def tables(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> list[Table]:
    """The table, a group a set of rows; none where no job had several ranks."""
    found = find_scaling_sets(rows)
    if not found:
        return []
    columns: list[tuple[Column, Callable[[ScalingPoint], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), lambda each: processor(each.row)),
        (Column("scaling", "scaling", "", 1, "left"), _scaling),
        (Column("step", "one step", "", 1), lambda each: cells.step(each.row)),
        (Column("images", "images", "/s", 2), lambda each: cells.images(each.row)),
        (Column("scaled", "scaled", "", 1), lambda each: _ratio(each.speedup)),
        (Column("efficiency", "effi-\nciency", "", 1), lambda each: _share("scaling_efficiency", each.efficiency)),
        (
            Column("exchange", "exchange", "", 1),
            lambda each: _share("exchange_share", exchange_share(each.row.exchange)),
        ),
        (Column("host_peak", "host\npeak", "", 4), lambda each: cells.host_peak(each.row)),
        (Column("device_peak", "device\npeak", "", 5), lambda each: cells.device_peak(each.row)),
        (Column("energy", "energy\nan image", "", 6), lambda each: cells.energy(each.row)),
        (Column("cold_start", "cold\nstart", "", 3), lambda each: cells.cold_start(each.row)),
        (Column("started", "launch", "", 3), lambda each: _launch(each.row)),
        (Column("outcome", "outcome", "", 2, "left"), lambda each: cells.outcome(each.row)),
    ]
    groups = tuple(
        RowGroup(
            _title(each),
            tuple(
                Line(
                    tuple(cell(step) for _, cell in columns),
                    tuple(map(plain, step.row.failures)),
                    "measured" if step.row.costs else "failed",
                    cells.name_raw_rows(step.row),
                )
                for step in each.points
            ),
        )
        for each in found
    )
    title = "Scaling: one job on more than one device"
    return [Table(KEY, title, CLOCK, tuple(column for column, _ in columns), groups)]


def exchange_share(exchange: Estimate | None) -> Estimate | None:
    """Of a step with the exchange the part that one without it lacks; where noise makes that negative, none."""
    if exchange is None:
        return None
    value, low, high = (
        None if each is None else max(0.0, 1 - 1 / each) for each in (exchange.value, exchange.low, exchange.high)
    )
    return Estimate(value or 0.0, low, high, exchange.n)


def _title(found: ScalingSet) -> str:
    """The work of one process, and how it is dealt out: its batch kept, or its batch on each rank."""
    row = found.points[0].row
    protocol = "" if row.protocol == PROTOCOL else f" · protocol {row.protocol}"
    alone = row.job.model_copy(update={"world": 1, "scaling": None, "nodes": 1, "batch_size": found.base_batch})
    work = naming.work_label(alone)
    if found.scaling == "weak":
        work = work.replace(f"batch {found.base_batch}", f"{found.base_batch} a rank", 1)
    return f"{found.scaling}: {work} · on {plain(row.job.device)}{protocol}"


def _scaling(step: ScalingPoint) -> Cell:
    job = step.row.job
    return Cell(job.scaling or ONE, (), {"scaling": job.scaling, "world": job.world, "nodes": job.nodes})


def _ratio(found: Estimate | None) -> Cell:
    raw = cells.values("scaling_speedup", found)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    return Cell(units.ratio(found.value), (*cells.interval(found, units.ratio), f"n={found.n}"), raw)


def _share(key: str, found: Estimate | None) -> Cell:
    raw = cells.values(key, found)
    if found is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    return Cell(_percent(found.value), (*cells.interval(found, _percent), f"n={found.n}"), raw)


def _percent(value: float | None) -> str:
    return units.percent(value, 1)


def _launch(row: Row) -> Cell:
    found = row.launch_seconds
    return Cell(units.short_seconds(None if found is None else found.value), (), cells.values("launch_seconds", found))
