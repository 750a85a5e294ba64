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
from cnnbench.analysis.stats import Estimate
from cnnbench.schema import Job, Scaling

VARIED = ("world", "scaling", "nodes", "threads", "batch_size")


@dataclass(frozen=True)
class ScalingPoint:
    """One row against the base of its set; None where either was not measured."""

    row: Row
    speedup: Estimate | None
    """Its images a second over the base's."""
    efficiency: Estimate | None
    """The speed-up over how many times the base's processors it used."""


@dataclass(frozen=True)
class ScalingSet:
    """A set: how the batch is dealt out, the batch of one process, and its rows, fewest processors first."""

    scaling: Scaling
    base_batch: int
    points: tuple[ScalingPoint, ...]


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
            found.append(ScalingSet(scaling, _base_batch(ordered[0], scaling), _scaling_points(ordered)))
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


def _scaling_points(rows: Sequence[Row]) -> tuple[ScalingPoint, ...]:
    base = next((row for row in rows if row.job.world == 1 and row.costs), None)
    return tuple(_scaling_point(row, base) for row in rows)


def _scaling_point(row: Row, base: Row | None) -> ScalingPoint:
    ratio = None if base is None else divide_rows(base, row)
    if base is None or ratio is None:
        return ScalingPoint(row, None, None)
    speedup = ratio.scaled(row.job.batch_size / base.job.batch_size)
    return ScalingPoint(row, speedup, speedup.scaled(count_processors(base.job) / count_processors(row.job)))
