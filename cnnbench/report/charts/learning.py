"""Accuracy over time: the evaluations a whole job prescribes, against its own clock, with the final one on all images; for a
training to a target every evaluation, a line a seed, those that missed it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis import stats
from cnnbench.analysis.speedup import Row
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_left_out,
    identity,
    mix_kinds,
    read_number,
    row_names,
    series_names,
)
from cnnbench.report.model import Chart, Datum
from cnnbench.schema import Record, Trial

MOST_CURVES = 6
LOG_FROM = 8
"""Slowest job over the fastest from which a linear axis would press the fast ones together."""
MOST_POINTS = 100
"""Of one curve; longer ones are thinned evenly, the last point kept."""
SAMPLE, WHOLE, FINAL = "sample after an epoch", "every test image, on the way to a target", "all test images at the end"
_SHAPES = {SAMPLE: "circle", WHOLE: "square", FINAL: "diamond"}


def learning(chart_data: ChartData) -> Chart | None:
    """A curve a process; the slowest and the fastest rows are not distinguished: the first few in the table's order."""
    curves = [
        (row, *pair) for row in chart_data.training for pair in chart_data.attempts(row) if pair[1].epoch_evaluations
    ]
    shown = mix_kinds(curves, lambda curve: _kind(curve[0]))[:MOST_CURVES]
    if not shown:
        return None
    series = series_names(_describe_apart([row for row, _, _ in shown], [record for _, record, _ in shown]))
    data = [
        datum
        for (row, record, trial), name in zip(shown, series, strict=True)
        for datum in _curve(row, record, trial, name)
    ]
    return _draw(data, series, describe_left_out(len(shown), len(curves), "processes", "The most different"))


def _kind(row: Row) -> tuple[object, ...]:
    return row.device.name, row.job.precision, row.job.workload, row.job.target


def _describe_apart(rows: Sequence[Row], records: Sequence[Record]) -> list[tuple[str, ...]]:
    """What each curve is called. Where there are networks or targets to name, what all share goes unsaid: there is no room."""
    several = len({row.job.workload for row in rows}) > 1
    aims = [_aim(row, several) for row in rows]
    places = {(row.machine.id, naming.processor_name(row.device), naming.place_label(row.job)) for row in rows}
    made = []
    for row, record, aim, name in zip(rows, records, aims, row_names(rows), strict=True):
        where = name[:2]
        if any(aims) and len(places) == 1:
            own = name[1].removeprefix(naming.place_label(row.job).removeprefix("cpu, "))
            where = ("", own.removeprefix(", "))
        made.append((*where, *aim, name[3], f"process {record.job.round + 1}"))
    return made


def _aim(row: Row, several: bool) -> tuple[str, ...]:
    """The network where the chart has several, and the target where the row has one."""
    network = (row.job.workload,) if several else ()
    return (*network, *(() if row.job.target is None else (f"to {units.exact_percent(row.job.target)}",)))


def _curve(row: Row, record: Record, trial: Trial, series: str) -> list[Datum]:
    """Seconds on the job clock (pre-training and evaluations so far included) and share right at each evaluation."""
    found: list[Datum] = []
    clock = trial.pretraining_seconds or 0.0
    kind = WHOLE if row.job.clock in ("accuracy", "recipe") else SAMPLE
    own = {**identity(row), "index": record.index, "series": series}
    for block, evaluation in zip(trial.block_seconds, trial.epoch_evaluations, strict=False):
        clock += block + evaluation.seconds
        found.append(
            {
                **own,
                **{"kind": kind, "minutes": clock / 60, "after_steps": evaluation.after_steps},
                **{"images": evaluation.images, "accuracy": evaluation.correct / evaluation.images},
            }
        )
    thinned = [*found[: -1 : max(1, -(-len(found) // MOST_POINTS))], *found[-1:]]
    if trial.test is not None and trial.test.images:
        share = stats.wilson(trial.test.correct, trial.test.images)
        thinned.append(
            {
                **own,
                **{"kind": FINAL, "minutes": clock / 60, "after_steps": trial.test.after_steps},
                **{"images": trial.test.images, "accuracy": share.value},
                **{"accuracy_low": share.low, "accuracy_high": share.high},
            }
        )
    return thinned


def _draw(data: list[Datum], series: list[str], more: str) -> Chart:
    import altair as alt

    shares = [read_number(datum, "accuracy") for datum in data]
    floor = max(0.0, min(shares) - 0.01)
    kinds = list(dict.fromkeys(str(datum["kind"]) for datum in data))
    kinds.sort(key=lambda kind: kind == FINAL)
    several = len(series) > 1
    minutes = [read_number(datum, "minutes") for datum in data]
    ends = [max(read_number(d, "minutes") for d in data if d["series"] == name) for name in series]
    apart = max(ends) > LOG_FROM * min(ends)
    clock = f"minutes on the job clock{' (log scale)' if apart else ''}"

    def draw(layout: theme.ChartLayout) -> Any:
        scale = theme.log_scale(minutes) if apart else {}
        axis = theme.log_axis(scale, layout, clock, layout.whole) if apart else {"format": ",~r", "gridOpacity": 0.7}
        base = alt.Chart(alt.NamedData("rows"), width=layout.whole, height=260).encode(
            x=alt.X("minutes:Q", title=clock, scale=alt.Scale(**scale), axis=alt.Axis(**axis)),
            y=alt.Y(
                "accuracy:Q",
                title="test accuracy",
                scale=alt.Scale(domain=[floor, 1], nice=False),
                axis=alt.Axis(format=".1%", gridOpacity=0.7),
            ),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=series, range=list(theme.SERIES)),
                legend=alt.Legend(columns=1) if several else None,
            ),
        )
        key = alt.Legend(**theme.legend(kinds, layout))
        line = base.transform_filter(on_the_way).mark_line(strokeWidth=1.5, opacity=0.6, aria=False)
        points = base.encode(
            shape=alt.Shape(
                "kind:N", scale=alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds]), legend=key
            ),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("series", "kind")),
                alt.Tooltip("minutes:Q", format=",.4~g"),
                alt.Tooltip("accuracy:Q", format=".2%"),
                alt.Tooltip("images:Q", title="test images", format=",d"),
                alt.Tooltip("after_steps:Q", title="after steps", format=",d"),
            ],
        )
        samples = points.transform_filter(on_the_way).mark_point(filled=True, size=22, opacity=1)
        final = points.transform_filter(at_the_end).mark_point(filled=True, size=160, opacity=1)
        return alt.layer(line, samples, final)

    if len(kinds) > 2:
        on_the_way, at_the_end = alt.datum.kind != FINAL, alt.datum.kind == FINAL
    else:
        on_the_way, at_the_end = alt.datum.kind == kinds[0], alt.datum.kind != kinds[0]
    final = [
        f"{d['series']}: {units.percent(read_number(d, 'accuracy'))} at the end" for d in data if d["kind"] == FINAL
    ]
    title = "Accuracy over time"
    return theme.make_chart("learning", title, f"{title}. {'; '.join(final)}.", f"{_caption(data)}{more}", data, draw)


def _caption(data: list[Datum]) -> str:
    """What a point is: one of a sample moves by chance, one on the way to a target is what stops its training."""
    sentences = []
    sizes = sorted({int(str(datum["images"])) for datum in data if datum["kind"] == SAMPLE})
    if sizes:
        sentences.append(
            f"The job's own evaluations are on samples of {' or '.join(map(units.count, sizes))} random test images, so a "
            f"single point moves by about {units.percent(_sampling(sizes[0]), 1)} by chance alone: a sample that is all right "
            "is no 100 %."
        )
    if any(datum["kind"] == WHOLE for datum in data):
        sentences.append(
            "On the way to a target every evaluation is of all test images and counts in the time; a line ends where the "
            "target was first reached, or at its epoch limit."
        )
    return " ".join(sentences)


def _sampling(images: int) -> float:
    """Half a 95 % interval of a share near 99 % on so many images."""
    return float(1.96 * (0.99 * 0.01 / images) ** 0.5)
