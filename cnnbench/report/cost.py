"""What a job costs: its energy from the counter, its price from the reader's own rates an hour."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

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


def find_price(row: Row, prices: Sequence[Price]) -> float | None:
    """Find the price an hour of the longest key that fits; None where none does."""
    place = f"{row.machine.id}/{row.job.device}"
    fitting = [price for price in prices if place.startswith(price.key)]
    return max(fitting, key=lambda price: len(price.key)).per_hour if fitting else None


def format_money(amount: float | None) -> str:
    """Format an amount to four significant figures."""
    return units.NOT_AVAILABLE if amount is None else f"{amount:,.4g}"


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
            lambda price: f"{price:,.12g}",
            name="price_per_hour",
            unit="{currency}",
        ),
        figure(
            "cost",
            "cost\nof the job",
            1,
            _cost,
            format_money,
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


def table(processor: ProcessorCell, rows: Sequence[Row], prices: Sequence[Price], currency: str) -> Table | None:
    """Energy and price of the whole job, a line a row that has one of them; None where no row has."""
    priced = [row.with_values(price_per_hour=find_price(row, prices)) for row in rows if row.job_seconds is not None]
    kept = [row for row in priced if row.energy is not None or row.values["price_per_hour"] is not None]
    if not kept:
        return None
    several = len({(row.job.workload, row.job.batch_size, naming.deviations(row.job)) for row in kept}) > 1

    def named(row: Row) -> Cell:
        """Name the processor, and the job where the table has several."""
        cell, way = processor(row), naming.deviations(row.job)
        job = (f"{plain(row.job.workload)}, batch {row.job.batch_size}", *((", ".join(way),) if way else ()))
        return dataclasses.replace(cell, details=(*cell.details, *(job if several else ())))

    return build_table(COST, kept, named=named, words={"currency": currency})
