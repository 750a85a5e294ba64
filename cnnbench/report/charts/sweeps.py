"""Charts that vary one thing with all else equal: processors, threads, batch sizes, and the rungs of the ladder (layout,
precision, division).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.ratio import ScalingSet, count_processors, find_scaling_sets, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import COVERS
from cnnbench.report import cells
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_texts,
    identity,
    keep_different,
    keep_first,
    series_names,
    tell_apart,
)
from cnnbench.report.charts.kinds import (
    WHERE,
    ChartSpec,
    Shown,
    TooltipField,
    count_processes,
    draw_bars,
    draw_lines,
    show_rows,
)
from cnnbench.report.model import Datum
from cnnbench.schema.job import plain_values

MOST_SERIES = 6
BARS_TEXT = f" Bars: {COVERS}, from three on."


def _group_rows(rows: Sequence[Row], equal: Mapping[str, Any]) -> list[list[Row]]:
    """Group rows of one machine and run whose jobs are the same once these fields are equal."""

    def key(row: Row) -> str:
        job = row.job.model_copy(update={"seed": 0, "round": 0, **equal})
        return f"{row.machine.id} {row.protocol} {row.run_id} {job.model_dump_json()}"

    return [found for _, found in sorted(group_by(rows, key).items())]


def _select_sweep(varied: str, chart_data: ChartData) -> Shown:
    """Select a line for each set of rows that differ only in the varied field, and have at least two values of it."""

    def value(row: Row) -> int:
        return int(getattr(row.job, varied) or 0)

    known = [row for row in chart_data.training if row.images_per_second and value(row)]
    swept = [sorted(rows, key=value) for rows in _group_rows(known, {varied: 0}) if len(set(map(value, rows))) > 1]
    kept, more = keep_different(swept, lambda rows: (rows[0].device.name, rows[0].job.precision), MOST_SERIES)
    several = len({rows[0].job.workload for rows in kept}) > 1
    lines = [((naming.processor_name(rows[0].device), _name_fixed(rows[0], varied, several)), rows) for rows in kept]
    return Shown(_mark_lines(lines, value, "images_per_second", ideal=varied == "threads"), more + BARS_TEXT)


def _mark_lines(
    lines: Sequence[tuple[Sequence[str], list[Row]]], varied: Callable[[Row], int], value: str, *, ideal: bool = True
) -> list[Datum]:
    """Make the marks of named lines over the varied value, one point per row; `ideal` grows with it from the first."""
    data = []
    names = series_names(tell_apart([words for words, _ in lines], [rows[0] for _, rows in lines]))
    for series, (_, rows) in zip(names, lines, strict=True):
        first, least = rows[0].values[value].value, varied(rows[0])
        for row in rows:
            figures = {"series": series, "varied": varied(row), **cells.values(value, row.values[value])}
            data.append({**identity(row), **figures, **({"ideal": first * varied(row) / least} if ideal else {})})
    return data


def _name_fixed(row: Row, varied: str, several: bool) -> str:
    """Name what all rows of a line share, without usual choices."""
    job = row.job
    parts = [job.workload] if several else []
    parts += [] if varied == "threads" else [naming.place_label(job).removeprefix("cpu, ")]
    parts += naming.chart_words(job)
    parts += [] if varied == "batch_size" else [f"batch {job.batch_size}"]
    parts += [f"to {units.exact_percent(job.target)}"] if job.target is not None else []
    return ", ".join(parts)


def _select_scaling(chart_data: ChartData) -> Shown:
    """Select a line per set of ranks, and one for the threads of one process; empty if no job had several ranks."""
    every = [line for found in find_scaling_sets(chart_data.comparison.rows) for line in _list_lines(found)]
    known = [line for line in every if len({count_processors(row.job) for row in line[1]}) > 1]
    lines, more = keep_different(known, lambda line: (line[1][0].device.name, line[0][1]), MOST_SERIES)
    data = _mark_lines(lines, lambda row: count_processors(row.job), "scaling_speedup")
    return Shown(data, more + BARS_TEXT)


def _list_lines(found: ScalingSet) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    """List a set's lines: one over ranks for each thread count, and one over the thread counts of one process."""
    timed = [row for row in found.points if row.values["scaling_speedup"] is not None]
    alone = [row for row in timed if row.job.world == 1]
    ranks = [row for row in timed if row.job.world > 1]
    if not ranks:
        return
    batch = f"{found.base_batch} per rank" if found.scaling == "weak" else f"batch {found.base_batch}"
    name = (naming.processor_name(timed[0].device), timed[0].job.workload)
    for threads in sorted({row.job.threads for row in ranks}, key=lambda value: value or 0):
        one, several = ([row for row in rows if row.job.threads == threads] for rows in (alone, ranks))
        yield (*name, f"{found.scaling}, {batch}"), one[:1] + several
    if found.scaling == "strong":
        yield (*name, f"one process, {batch}"), alone


def _declare_lines(
    value: str, words: str, axis: str, text: Callable[[float], str], *, ideal: bool = True, **texts: Any
) -> ChartSpec:
    """Declare lines of a figure over what is varied; `text` writes the figure for the words beside the chart."""

    def describe(data: Sequence[Datum]) -> list[str]:
        return [f"{d['series']} at {axis} {d['varied']}: {text(d[value])}" for d in data[:20]]

    draw = partial(draw_lines, value=value, words=words, axis=axis, ideal=ideal)
    return ChartSpec(describe=describe, draw=draw, **texts)


def _select_ladder(chart_data: ChartData) -> Shown:
    """Select rungs side by side, by time: rows that differ only in division, precision, layout, execution or loader."""
    known = [row for row in chart_data.training if row.step_seconds is not None]
    ladders = [
        rows for rows in _group_rows(known, plain_values("compute", "draw")) if len(set(map(_name_rung, rows))) > 1
    ]
    rungs = [row for rows in ladders for row in sorted(rows, key=lambda row: -row.values["step_seconds"].value)]
    return show_rows(keep_first(rungs), _mark_rung)


def _name_rung(row: Row) -> str:
    return ", ".join(naming.list_step_values(row.job))


def _mark_rung(row: Row) -> Iterator[Datum]:
    step = row.values["step_seconds"]
    text, figures = units.short_seconds(step.value), cells.values("step_seconds", step)
    yield {"rung": _name_rung(row), "text": text, "milliseconds": step.value * 1e3, **figures}


_declare_rates = partial(
    _declare_lines,
    "images_per_second",
    "images per second",
    text=lambda value: f"{units.rate(value)} images per second",
    section="sweeps",
)
CHARTS = (
    ChartSpec(
        key="ladder",
        section="ladder",
        title="The ladder: one step, rung by rung",
        alt="Time of a step: {marks}.",
        caption="The same network, batch and data; division, precision, layout, execution and loader as named (none named: "
        "reference, fp32, nchw, eager, resident). Shorter is faster.",
        select=_select_ladder,
        describe=describe_texts,
        draw=partial(
            draw_bars,
            value="milliseconds",
            axis="ms per step",
            tooltip=(
                *WHERE,
                "rung",
                TooltipField("milliseconds", "ms per step", ".6~g"),
                count_processes("step_seconds"),
                "work",
            ),
        ),
    ),
    _declare_lines(
        "scaling_speedup",
        "speed over one process",
        "processors",
        units.ratio,
        key="scaling",
        section="scaling",
        title="Scaling over processors",
        caption="Images per second over those of one process with the fewest threads: ranks of one job, on GPUs or on cores of "
        "their own, and threads of one process. Dashed: as many times as fast as there are processors. Strong: the batch is "
        "sharded; weak: each rank has a whole one.",
        select=_select_scaling,
    ),
    _declare_rates(
        axis="threads",
        key="threads",
        title="Scaling over CPU threads",
        caption="Dashed: the smallest count's rate times the threads. The fastest count is the honest CPU baseline.",
        select=partial(_select_sweep, "threads"),
    ),
    _declare_rates(
        axis="batch size",
        ideal=False,
        key="batches",
        title="Throughput over batch sizes",
        caption="A larger batch spreads launches and overheads over more images, until the processor is busy.",
        select=partial(_select_sweep, "batch_size"),
    ),
)
