"""Scaling, worked out again: rows of one run in which one job is done by one process and by several ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnnbench.verify import intervals
from cnnbench.verify.intervals import ExpectedFigure
from cnnbench.verify.raw_rows import RawRow

SPEED, EFFICIENCY = "scaled", "efficiency"
ONE_PROCESS: Mapping[str, object] = {"world": 1, "scaling": None, "nodes": 1, "threads": None, "seed": 0, "round": 0}


def expect_metrics(rows: Sequence[RawRow]) -> dict[int, dict[str, ExpectedFigure | None]]:
    """Speed-up and efficiency of every row that was measured and has a base, by the row's `id`."""
    bases: dict[tuple[str, ...], RawRow] = {}
    kept = [row for row in rows if row.job.workload != "gemm" and row.job.copies == 1 and row.costs]
    for row in sorted(kept, key=lambda each: (count_cores(each), each.row_key)):
        if row.job.world == 1:
            bases.setdefault(_work(row, row.job.batch_size), row)
    found: dict[int, dict[str, ExpectedFigure | None]] = {}
    for row in kept:
        job = row.job
        batch = job.batch_size // job.world if job.scaling == "weak" else job.batch_size
        base = bases.get(_work(row, batch))
        if base is not None:
            speed = intervals.ratio(base.costs, row.costs).scaled(job.batch_size / base.job.batch_size)
            found[id(row)] = {SPEED: speed, EFFICIENCY: speed.scaled(count_cores(base) / count_cores(row))}
    return found


def expect_words(row: RawRow) -> dict[str, str]:
    """How its batch is dealt out."""
    return {"scaling": row.job.scaling or "one process"}


def count_cores(row: RawRow) -> int:
    """What its efficiency is over."""
    return row.job.world * (row.job.threads or 1) if row.job.device == "cpu" else row.job.world


def _work(row: RawRow, batch: int) -> tuple[str, ...]:
    work = row.job.model_copy(update={**ONE_PROCESS, "batch_size": batch}).model_dump_json()
    return row.header.run_id, row.header.machine.id, str(row.protocol), work
