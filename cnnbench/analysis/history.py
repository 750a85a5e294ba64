"""The history of one row over all recorded runs: a series of points, oldest first, each compared with the run before
it.

The processes of any runs go in; a series for each row, machine and timing rule comes out. Different work, machines and
protocols never share one. A point's step time is the median over a process's blocks (which stalls do not move), then
the geometric mean over the run's processes. Runs share no rounds, and a change's interval also covers how much runs
differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cnnbench.analysis.process_table import Conditions, Process
from cnnbench.analysis.ratio import FieldDifference, find_differences, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.run_spread import estimate_over_runs, find_run_spreads
from cnnbench.analysis.same_host import HostRelation, find_mixed_models, relate_all
from cnnbench.analysis.speedup import build_row
from cnnbench.analysis.stats import Estimate, Prediction, geometric, mean_log, predict_next_run, ratio_between_runs
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
    over_runs: Estimate | None
    """The mean step over this boot's runs up to this one, under its conditions; n counts runs. None below five."""
    changed: tuple[FieldDifference, ...]
    """The conditions, and the version of cnnbench, that differ from those of the run before."""
    stretch: int
    """How many times the conditions have changed so far; only points of one stretch are joined."""
    predicted: Prediction | None
    """The range in which this run should fall, from the earlier runs under its conditions; None below 8 of them."""
    change_host: HostRelation
    """How the host of the run that `change` divides by is related to this run's; `one run` where there is none."""
    predicted_host: HostRelation
    """The same of the farthest of the runs that `predicted` is from."""
    several_boots: bool = False
    """Whether runs of several boots or hosts are in the series, so that each names its own."""


@dataclass(frozen=True)
class Series:
    """One row on machines of one id under one timing rule. `next` is the range in which a further run like the last one
    should fall.
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
        if find_mixed_models(point.row for point in points):
            points = [replace(point, several_boots=True) for point in points]
        last = points[-1]
        job = last.row.job.model_copy(update={"seed": 0, "round": 0})
        alike = [point.steps for point in points if _is_like(point, last.conditions)]
        following = predict_next_run(alike, len(last.steps) or None)
        found.append(Series(job, last.row.machine.id, last.row.protocol, tuple(points), following))
    return tuple(sorted(found, key=_order))


def _make_point(members: list[Process], before: Sequence[Point]) -> Point:
    members = sorted(members, key=lambda each: (each.job.round, each.index, each.attempt))
    row, here = build_row(members), members[0].conditions
    medians = [each.metrics.median_step_seconds for each in members if each.metrics]
    steps = tuple(each for each in medians if each > 0)
    timed = next((point for point in reversed(before) if point.steps), None)
    now = {**here, "cnnbench": row.software.cnnbench}
    like_here = [point for point in before if _is_like(point, here)]
    predicted = predict_next_run([point.steps for point in like_here], len(steps)) if steps else None
    there = {**before[-1].conditions, "cnnbench": before[-1].row.software.cnnbench} if before else now
    return Point(
        row=row,
        conditions=here,
        steps=steps,
        step=geometric(steps) if steps else None,
        change=_divide_points(row, steps, timed, [point.row for point in before]) if steps and timed else None,
        over_runs=_estimate_over_runs(row, steps, [point for point in before if point.conditions == here]),
        changed=find_differences(there, now),
        stretch=before[-1].stretch + (before[-1].conditions != here) if before else 0,
        predicted=predicted,
        change_host=relate_all([timed.row] if steps and timed else [], row),
        predicted_host=relate_all([point.row for point in like_here if predicted], row),
    )


def _is_like(point: Point, here: Conditions) -> bool:
    """Tell whether the run may predict runs under these conditions: a machine unfit for measuring tells nothing."""
    return bool(point.steps) and point.conditions == here and not point.row.unfit


def _divide_points(row: Row, steps: Sequence[float], timed: Point, before: Sequence[Row]) -> Estimate:
    """Divide the run's step by that of the one before."""
    first, second = (found.spread for found in find_run_spreads(row, timed.row, before))
    return ratio_between_runs(steps, timed.steps, (first, second))


def _estimate_over_runs(row: Row, steps: Sequence[float], before: Sequence[Point]) -> Estimate | None:
    timed = [(point.row, point.steps) for point in before if point.steps]
    if not steps:
        return None
    rows, times = zip(*timed, (row, tuple(steps)), strict=True)
    return estimate_over_runs(rows, [geometric(each).value for each in times])


def _order(series: Series) -> tuple[object, ...]:
    job = series.job
    slowest = max((mean_log(point.steps) for point in series.points if point.steps), default=0.0)
    return (job.workload == "gemm", series.machine_id, job.size or 0, -slowest, job.row_key, series.protocol)
