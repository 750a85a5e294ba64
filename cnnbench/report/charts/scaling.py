"""One job on more and more processors: its speed over one process, beside what it would be if each further one gave as much."""

from __future__ import annotations

from collections.abc import Iterator

from cnnbench import naming, units
from cnnbench.analysis.scaling import ScalingPoint, ScalingSet, count_processors, find_scaling_sets
from cnnbench.report import cells
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_left_out,
    find_distinctions,
    identity,
    mix_kinds,
    series_names,
)
from cnnbench.report.charts.sweeps import MOST_SERIES, LineMetric, lines
from cnnbench.report.model import Chart, Datum

TITLE = "Scaling over processors"
CAPTION = (
    "Images a second over those of one process with the fewest threads: ranks of one job, on GPUs or on cores of their own, and "
    "threads of one process. Dashed: as many times as fast as there are processors. Strong: the batch is dealt out; weak: it is "
    "on each rank."
)
SPEED = LineMetric("scaling_speedup", "speed over one process", units.ratio)


def scaling(chart_data: ChartData) -> Chart | None:
    """A line a set of ranks, and one of the threads of one process; None where no job had several ranks."""
    every = [line for found in find_scaling_sets(chart_data.comparison.rows) for line in _scaling_lines(found)]
    kept = [line for line in every if len({count_processors(step.row.job) for step in line[1]}) > 1]
    shown = mix_kinds(kept, lambda line: (line[1][0].row.device.name, line[0][1]))[:MOST_SERIES]
    if not shown:
        return None
    apart = find_distinctions([words for words, _ in shown], [steps[0].row for _, steps in shown])
    names = series_names([(*words, more) for (words, _), more in zip(shown, apart, strict=True)])
    data: list[Datum] = []
    for series, (_, steps) in zip(names, shown, strict=True):
        first = steps[0].speedup
        for step in steps:
            used = count_processors(step.row.job)
            found: Datum = {**identity(step.row), "series": series, "varied": used}
            found |= cells.values(SPEED.name, step.speedup)
            if first is not None:
                found["ideal"] = first.value * used / count_processors(steps[0].row.job)
            data.append(found)
    more = describe_left_out(len(shown), len(kept), "series", "The most different")
    return lines("scaling", TITLE, "processors", CAPTION + more, data, ideal=True, measure=SPEED)


def _scaling_lines(found: ScalingSet) -> Iterator[tuple[tuple[str, str, str], list[ScalingPoint]]]:
    """The ranks of a set from one process on, a line a thread count, and once the thread counts of one process."""
    steps = [step for step in found.points if step.speedup is not None]
    alone = [step for step in steps if step.row.job.world == 1]
    ranks = [step for step in steps if step.row.job.world > 1]
    if not ranks:
        return
    row = steps[0].row
    batch = f"{found.base_batch} a rank" if found.scaling == "weak" else f"batch {found.base_batch}"
    name = (naming.processor_name(row.device), row.job.workload)
    for threads in sorted({step.row.job.threads for step in ranks}, key=lambda value: value or 0):
        line = [step for step in alone if step.row.job.threads == threads][:1]
        line += [step for step in ranks if step.row.job.threads == threads]
        yield (*name, f"{found.scaling}, {batch}"), line
    if found.scaling == "strong":
        yield (*name, f"one process, {batch}"), alone
