"""The history of one row over all recorded runs: a series of points, oldest first, each compared with the run before
it.

The processes of any runs go in; a series for each row, machine and timing rule comes out. Different work, machines and
protocols never share one. A point's step time is the median over a process's blocks (which stalls do not move), then
the geometric mean over the run's processes. Runs are divided by Welch's interval, since two runs share no rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cnnbench.analysis.process_table import Conditions, Process
from cnnbench.analysis.ratio import FieldDifference, find_differences, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import build_row
from cnnbench.analysis.stats import Estimate, Prediction, geometric, mean_log, predict_next_run, unpaired_ratio
from cnnbench.schema import Job


@dataclass(frozen=True)
class Point:
    """One run of the row. `step` is None where every process failed, so that nothing was timed."""

    row: Row
    conditions: Conditions
    steps: tuple[float, ...]
    """Median step seconds of each process that ended well, by round."""
    step: Estimate | None
    change: Estimate | None
    """This run's step over that of the newest run before it that has one; above 1 is slower."""
    changed: tuple[FieldDifference, ...]
    """The conditions, and the version of cnnbench, that differ from those of the run before."""
    stretch: int
    """How many times the conditions have changed so far; only points of one stretch are joined."""
    predicted: Prediction | None
    """The range in which this run should fall, from the earlier runs under its conditions; None below 8 of them."""


@dataclass(frozen=True)
class Series:
    """One row on one machine under one timing rule. `next` is the range in which a further run like the last one should
    fall.
    """

    job: Job
    machine_id: str
    protocol: int
    points: tuple[Point, ...]
    next: Prediction | None


def build_history(processes: Iterable[Process]) -> tuple[Series, ...]:
    """Build the series of every row, in an order that does not depend on the order of the processes."""
    found = []
    for same in group_by(processes, lambda each: (each.machine_id, each.row_key, each.protocol)).values():
        runs = group_by(same, lambda each: (each.run.created_at, each.run_id))
        points: list[Point] = []
        for _, members in sorted(runs.items()):
            points.append(_make_point(members, points))
        last = points[-1]
        job = last.row.job.model_copy(update={"seed": 0, "round": 0})
        following = predict_next_run(_comparable_steps(points, last.conditions), len(last.steps) or None)
        found.append(Series(job, last.row.machine.id, last.row.protocol, tuple(points), following))
    return tuple(sorted(found, key=_order))


def _make_point(members: list[Process], before: Sequence[Point]) -> Point:
    members = sorted(members, key=lambda each: (each.job.round, each.index, each.attempt))
    row, here = build_row(members), members[0].conditions
    medians = [each.metrics.median_step_seconds for each in members if each.metrics]
    steps = tuple(each for each in medians if each > 0)
    timed = next((point for point in reversed(before) if point.steps), None)
    now = {**here, "cnnbench": row.software.cnnbench}
    there = {**before[-1].conditions, "cnnbench": before[-1].row.software.cnnbench} if before else now
    return Point(
        row=row,
        conditions=here,
        steps=steps,
        step=geometric(steps) if steps else None,
        change=unpaired_ratio(steps, timed.steps) if steps and timed is not None else None,
        changed=find_differences(there, now),
        stretch=before[-1].stretch + (before[-1].conditions != here) if before else 0,
        predicted=predict_next_run(_comparable_steps(before, here), len(steps)) if steps else None,
    )


def _comparable_steps(points: Sequence[Point], here: Conditions) -> list[tuple[float, ...]]:
    """Collect the step times of the runs under these conditions, on a machine fit for measuring."""
    return [point.steps for point in points if point.steps and point.conditions == here and not point.row.unfit]


def _order(series: Series) -> tuple[object, ...]:
    job = series.job
    slowest = max((mean_log(point.steps) for point in series.points if point.steps), default=0.0)
    return (job.workload == "gemm", series.machine_id, job.size or 0, -slowest, job.row_key, series.protocol)
