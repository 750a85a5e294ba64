"""Rows of one run that a table puts beside one another on purpose: ladders, sets of more and more ranks, concurrent copies.

A *ladder* is a list of rungs, rows that do the same work on the same device and differ only in how a step is computed, in a
fixed order: division (reference, tuned), then precision (fp32, tf32, bf16, fp16), layout (nchw, nhwc), execution (eager,
compiled), loader (resident, dataloader), loader workers. So the reference division's plain float32 step is the first where it
was measured. Everywhere else rows of different precision are never divided; here that is the point, and the table says so.

A *scaling set* is the same job done by one process and by several ranks. `strong`: the batch is the same for all, so a step is
the same work. `weak`: the batch on each rank is, so a step of n ranks is n times the work. Both have the rows of one process,
of the CPU at every thread count, and all are compared with the one that used the fewest cores. Speed is images a second;
efficiency is speed over the processors used, those of the base being one.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from cnnbench.analysis import stats
from cnnbench.analysis.ratio import divide_rows, group_by, share_all_but
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.schema import Job, Scaling
from cnnbench.schema.job import list_choices, list_fields

ORDER: Mapping[str, tuple[str, ...]] = {name: list_choices(Job, name) for name in list_fields(Job, "compute")}
"""What a rung may differ in, each with its values in order; loader workers, which are any number, fewest first."""
SCALED_FIELDS = ("world", "scaling", "nodes", "threads", "batch_size")


@dataclass(frozen=True)
class ScalingSet:
    """A set: how the batch is dealt out, the batch of one process, and its rows, fewest processors first."""

    scaling: Scaling
    base_batch: int
    points: tuple[Row, ...]
    """With `scaling_speedup` and `scaling_efficiency`; None where the row or the base was not measured."""


@dataclass(frozen=True)
class ConcurrentSpread:
    """The copies of one job: how many, the median one's step, and the slowest one with its step over the median's."""

    copies: int
    median_seconds: Estimate
    slowest: str
    """Its place: `cuda:3`, `cores 4,5`."""
    slowest_over_median: Estimate


def find_ladders(rows: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """Every ladder with at least two measured rungs, in an order that does not depend on the rows'; GEMMs have none.

    Rungs are rows with `speed_over_rung_before` and `speed_over_first_rung`: the time of the measured rung before, and of the
    first one, over the row's own. A row that did not end well is a rung without a time: what a device cannot do is part of
    the picture.
    """
    sets = group_by(
        (row for row in rows if row.job.workload != "gemm"),
        lambda row: (row.job.workload, row.job.batch_size, share_all_but(row, ORDER)),
    )
    found = []
    for _, members in sorted(sets.items()):
        rungs = []
        measured: list[Row] = []
        for row in sorted(members, key=_place_on_ladder):
            before, first = [divide_rows(base, row) for base in (measured[-1:] + measured[:1])] or (None, None)
            rungs.append(row.with_values(speed_over_rung_before=before, speed_over_first_rung=first))
            measured += [row] if row.costs else []
        found += [tuple(rungs)] if len(measured) > 1 else []
    return tuple(found)


def _place_on_ladder(row: Row) -> tuple[int, ...]:
    values = ((getattr(row.job, name), choices) for name, choices in ORDER.items())
    return tuple(choices.index(value) if choices else value for value, choices in values)


def find_scaling_sets(rows: Sequence[Row]) -> tuple[ScalingSet, ...]:
    """Every set with a row of several ranks, in an order that does not depend on the rows'."""
    groups: dict[tuple[tuple[str, ...], int, Scaling], list[Row]] = {}
    for row in rows:
        for scaling in get_args(Scaling):
            if row.job.workload != "gemm" and row.job.copies == 1 and row.job.scaling in (None, scaling):
                batch = row.job.rank_batch if scaling == "weak" else row.job.batch_size
                groups.setdefault((share_all_but(row, SCALED_FIELDS), batch, scaling), []).append(row)
    found = []
    for (_, batch, scaling), same in sorted(groups.items()):
        same.sort(key=lambda row: (count_processors(row.job), row.job.world, row.job.nodes, row.row_key))
        if any(row.job.world > 1 for row in same):
            base = next((row for row in same if row.job.world == 1 and row.costs), None)
            found.append(ScalingSet(scaling, batch, tuple(_divide_by_one_process(base, row) for row in same)))
    return tuple(found)


def count_processors(job: Job) -> int:
    """Cores that compute on a CPU, GPUs elsewhere."""
    return job.world * (job.threads or 1 if job.device == "cpu" else 1)


def _divide_by_one_process(base: Row | None, row: Row) -> Row:
    """Add the row's images a second over the base's, and that over the processors used."""
    speedup = efficiency = None
    if base is not None and (ratio := divide_rows(base, row)) is not None:
        speedup = ratio.scaled(row.job.batch_size / base.job.batch_size)
        efficiency = speedup.scaled(count_processors(base.job) / count_processors(row.job))
    return row.with_values(scaling_speedup=speedup, scaling_efficiency=efficiency)


def measure_spread(row: Row) -> ConcurrentSpread | None:
    """Find which copy is slow while all do the same job at once, of the launches in which every copy has a time; None without
    one. n counts launches.
    """
    places = set.union(set(), *map(set, row.copies))
    launches = [each for each in row.copies if len(each) == row.job.copies and set(each) == places]
    if not launches:
        return None
    means = {place: stats.geometric([each[place] for each in launches]).value for place in sorted(places)}
    slowest = max(means, key=lambda place: means[place])
    middles = [statistics.median(each.values()) for each in launches]
    ratios = [each[slowest] / middle for each, middle in zip(launches, middles, strict=True)]
    return ConcurrentSpread(len(places), stats.geometric(middles), slowest, stats.geometric(ratios))
