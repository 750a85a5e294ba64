"""What more ranks bring: rows of one run in which the same job is done by one process and dealt out to several.

Enter the rows of a comparison; leave sets of two kinds. `strong`: the batch is the same for all, so a step is the same work.
`weak`: the batch on each rank is, so a step of n ranks is n times the work. In both stand the rows of one process, of the CPU
at every thread count, and all are held against the one that used the fewest cores. Speed is images a second; efficiency is
speed over the processors used, those of the base being one. Ranks are the axis here, so rows of different keys are divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from cnnbench.analysis.ratio import divide_rows, group_by, share_all_but
from cnnbench.analysis.rows import Row
from cnnbench.schema import Job, Scaling

VARIED = ("world", "scaling", "nodes", "threads", "batch_size")


@dataclass(frozen=True)
class ScalingSet:
    """A set: how the batch is dealt out, the batch of one process, and its rows, fewest processors first."""

    scaling: Scaling
    base_batch: int
    points: tuple[Row, ...]
    """With `scaling_speedup` and `scaling_efficiency`; None where the row or the base was not measured."""


def find_scaling_sets(rows: Sequence[Row]) -> tuple[ScalingSet, ...]:
    """Every set with a row of several ranks, in an order that does not depend on the rows'."""
    members = [
        (scaling, row)
        for row in rows
        for scaling in get_args(Scaling)
        if row.job.workload != "gemm" and row.job.copies == 1 and row.job.scaling in (None, scaling)
    ]
    found = []
    for _, same in sorted(group_by(members, lambda member: _set_key(*member)).items()):
        ordered = sorted((row for _, row in same), key=_set_position)
        if any(row.job.world > 1 for row in ordered):
            scaling = same[0][0]
            found.append(ScalingSet(scaling, _base_batch(ordered[0], scaling), _divide_by_one_process(ordered)))
    return tuple(found)


def count_processors(job: Job) -> int:
    """Cores that compute on a CPU, GPUs elsewhere."""
    return job.world * (job.threads or 1 if job.device == "cpu" else 1)


def _set_key(scaling: Scaling, row: Row) -> tuple[str, ...]:
    """What the rows of a set share: run, protocol, and the job but for what is varied."""
    return (*share_all_but(row, VARIED), f"{_base_batch(row, scaling):09}", scaling)


def _base_batch(row: Row, scaling: Scaling) -> int:
    return row.job.rank_batch if scaling == "weak" else row.job.batch_size


def _set_position(row: Row) -> tuple[object, ...]:
    return count_processors(row.job), row.job.world, row.job.nodes, row.row_key


def _divide_by_one_process(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Add each row's images a second over those of the first one of one process, and that over the processors used."""
    base = next((row for row in rows if row.job.world == 1 and row.costs), None)
    return tuple(_divide_by(base, row) for row in rows)


def _divide_by(base: Row | None, row: Row) -> Row:
    ratio = None if base is None else divide_rows(base, row)
    if base is None or ratio is None:
        return row.with_values(scaling_speedup=None, scaling_efficiency=None)
    speedup = ratio.scaled(row.job.batch_size / base.job.batch_size)
    efficiency = speedup.scaled(count_processors(base.job) / count_processors(row.job))
    return row.with_values(scaling_speedup=speedup, scaling_efficiency=efficiency)
