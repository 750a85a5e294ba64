"""What a job costs: its energy from the counter, its price from the reader's own rates an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cnnbench import naming, units
from cnnbench.analysis.metrics import mark_projected
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Table
from cnnbench.report.table_builder import PROCESSOR, TableSpec, build_table, figure, metric_column

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Price:
    """So much an hour for every row whose `MACHINE/DEVICE` begins with `key`; an empty key is for all rows."""

    key: str
    per_hour: float


def _job_energy(row: Row) -> Estimate | None:
    """Joules of the whole job; None where a part of it is no step of those the counter was read around: pre-training."""
    steps = None if row.pretraining_seconds is not None else row.job.job_steps
    return None if row.energy is None or steps is None else row.energy.gross_joules.scaled(steps * row.job.batch_size)


def _cost(row: Row) -> Estimate | None:
    price, seconds = row.values["price_per_hour"], row.job_seconds
    return None if price is None or seconds is None else seconds.scaled(price / SECONDS_AN_HOUR)


COST = TableSpec[Row](
    "cost",
    "Energy and cost of the job",
    (
        PROCESSOR,
        metric_column("job_seconds", 1),
        figure(
            "job_energy", "energy\nof the job", 1, _job_energy, units.joules, name="job_energy_joules", estimated=True
        ),
        figure(
            "price",
            "price\nan hour",
            1,
            lambda row: row.values["price_per_hour"],
            "{:,.12g}".format,
            name="price_per_hour",
            unit="{currency}",
        ),
        figure(
            "cost",
            "cost\nof the job",
            1,
            _cost,
            "{:,.4g}".format,
            name="job_cost",
            unit="{currency}",
            estimated=True,
            details="interval and n",
            mark=mark_projected,
        ),
    ),
    "energy is joules an image, gross, times the job's images; cost is the time of the job at the price an hour given",
    group=lambda row: "The whole job of each row",
)


def build_tables(processor: ProcessorCell, rows: Sequence[Row], prices: Sequence[Price], currency: str) -> list[Table]:
    """Build energy and price of the whole job, a line a row that has one of them; no table where no row has.

    The price an hour is that of the longest key that fits.
    """
    kept = []
    for row in rows:
        place = f"{row.machine.id}/{row.job.device}"
        fitting = [price for price in prices if place.startswith(price.key)]
        price = max(fitting, key=lambda price: len(price.key)).per_hour if fitting else None
        if row.job_seconds is not None and (row.energy is not None or price is not None):
            kept.append(row.with_values(price_per_hour=price))
    several = len({(row.job.workload, row.job.batch_size, naming.deviations(row.job)) for row in kept}) > 1

    def named(row: Row) -> Cell:
        """Name the processor, and the job where the table has several."""
        cell, way = processor(row), ", ".join(naming.deviations(row.job))
        job = filter(None, (f"{plain(row.job.workload)}, batch {row.job.batch_size}", way)) if several else ()
        return replace(cell, details=(*cell.details, *job))

    return [build_table(COST, kept, named=named, words={"currency": currency})] if kept else []
