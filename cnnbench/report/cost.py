"""What a job costs: its energy from the counter, its price from the reader's own rates an hour."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cnnbench import naming, units
from cnnbench.analysis.speedup import Row
from cnnbench.report import cells
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table, Value

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class Price:
    """So much an hour for every row whose `MACHINE/DEVICE` begins with `key`; an empty key is for all rows."""

    key: str
    per_hour: float


def find_price(row: Row, prices: Sequence[Price]) -> float | None:
    """The price an hour of the longest key that fits; None where none does."""
    place = f"{row.machine.id}/{row.job.device}"
    fitting = [price for price in prices if place.startswith(price.key)]
    return max(fitting, key=lambda price: len(price.key)).per_hour if fitting else None


def table(
    processor: Callable[[Row], Cell], rows: Sequence[Row], prices: Sequence[Price], currency: str
) -> Table | None:
    """Energy and price of the whole job, a line a row that has one of them; None where no row has."""
    kept = [
        row
        for row in rows
        if row.job_seconds is not None and (row.energy is not None or find_price(row, prices) is not None)
    ]
    if not kept:
        return None
    columns = (
        Column("processor", "processor", "", 1, "left"),
        Column("job", "time of the job", "h:mm:ss", 1),
        Column("job_energy", "energy\nof the job", "", 1),
        Column("price", "price\nan hour", currency, 1),
        Column("cost", "cost\nof the job", currency, 1),
    )
    several = len({(row.job.workload, row.job.batch_size, naming.deviations(row.job)) for row in kept}) > 1

    def named(row: Row) -> Cell:
        """The processor, and the job where the table has several."""
        cell, way = processor(row), naming.deviations(row.job)
        job = (f"{plain(row.job.workload)}, batch {row.job.batch_size}", *((", ".join(way),) if way else ()))
        return dataclasses.replace(cell, details=(*cell.details, *(job if several else ())))

    lines = tuple(
        Line(
            (named(row), cells.job_time(row), _energy(row), _price(row, prices), _cost(row, prices)),
            rows=cells.name_raw_rows(row),
        )
        for row in kept
    )
    clock = "energy is joules an image, gross, times the job's images; cost is the time of the job at the price an hour given"
    return Table("cost", "Energy and cost of the job", clock, columns, (RowGroup("The whole job of each row", lines),))


def _energy(row: Row) -> Cell:
    """Joules of the whole job; n/a where a part of it is no step of those the counter was read around: pre-training."""
    steps = None if row.pretraining_seconds is not None else row.job.job_steps
    joules = None if row.energy is None or steps is None else row.energy.gross_joules.scaled(steps * row.job.batch_size)
    raw: dict[str, Value] = cells.values("job_energy_joules", joules)
    return Cell(units.joules(None if joules is None else joules.value), (), raw)


def _price(row: Row, prices: Sequence[Price]) -> Cell:
    price = find_price(row, prices)
    return Cell(units.NOT_AVAILABLE if price is None else f"{price:,.12g}", (), {"price_per_hour": price})


def _cost(row: Row, prices: Sequence[Price]) -> Cell:
    price, seconds = find_price(row, prices), row.job_seconds
    if price is None or seconds is None:
        return Cell(units.NOT_AVAILABLE, (), cells.values("job_cost", None))
    found = seconds.scaled(price / SECONDS_AN_HOUR)
    details = (*cells.interval(found, format_money), f"n={found.n}")
    mark = "~" if row.job_kind == "projected" else ""
    return Cell(mark + format_money(found.value), details, cells.values("job_cost", found))


def format_money(amount: float | None) -> str:
    """An amount to four significant figures."""
    return units.NOT_AVAILABLE if amount is None else f"{amount:,.4g}"
