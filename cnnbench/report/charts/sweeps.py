"""One thing varied and all else equal: threads, batch sizes, and the rungs of the ladder (layout, precision, division)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.speedup import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    MOST_MARKS,
    ChartData,
    axis_labels,
    describe_left_out,
    find_distinctions,
    identity,
    mix_kinds,
    one_line,
    read_number,
    row_names,
    series_names,
)
from cnnbench.report.model import Chart, Datum
from cnnbench.schema import Job
from cnnbench.schema.axes import plain_values

MOST_SERIES = 6
LOG_FROM = 20
"""Greatest rate over the least from which a linear axis would press the slow ones flat."""


def threads(chart_data: ChartData) -> Chart | None:
    """Images a second over CPU threads, beside what perfect scaling from the smallest count would give."""
    return _sweep(
        chart_data,
        "threads",
        "Scaling over CPU threads",
        "threads",
        lambda row: row.job.threads,
        ("threads",),
        "Dashed: the smallest count's rate times the threads. The fastest count is the honest CPU baseline.",
        ideal=True,
    )


def batches(chart_data: ChartData) -> Chart | None:
    """Images a second over batch sizes."""
    return _sweep(
        chart_data,
        "batches",
        "Throughput over batch sizes",
        "batch size",
        lambda row: row.job.batch_size,
        ("batch_size",),
        "A larger batch spreads launches and overheads over more images, until the processor is busy.",
        ideal=False,
    )


def _sweep(
    chart_data: ChartData,
    key: str,
    title: str,
    axis: str,
    value: Callable[[Row], int | None],
    varied: tuple[str, ...],
    caption: str,
    *,
    ideal: bool,
) -> Chart | None:
    """A line a set of rows that differ in the varied fields alone; None where no set has two values."""
    sets: dict[str, list[Row]] = {}
    for row in chart_data.training:
        if row.images_per_second is not None and value(row) is not None:
            job = row.job.model_copy(update={"seed": 0, "round": 0} | dict.fromkeys(varied, 0))
            sets.setdefault(f"{row.machine.id} {row.protocol} {row.run_id} {job.model_dump_json()}", []).append(row)
    swept = [rows for _, rows in sorted(sets.items()) if len({value(row) for row in rows}) > 1]
    shown = mix_kinds(swept, lambda rows: (rows[0].device.name, rows[0].job.precision))[:MOST_SERIES]
    if not shown:
        return None
    several = len({rows[0].job.workload for rows in shown}) > 1
    names = [(naming.processor_name(rows[0].device), _fixed(rows[0], varied, several)) for rows in shown]
    apart = find_distinctions(names, [rows[0] for rows in shown])
    data: list[Datum] = []
    for rows, series in zip(shown, series_names([(*n, m) for n, m in zip(names, apart, strict=True)]), strict=True):
        rows = sorted(rows, key=lambda row: value(row) or 0)
        first = rows[0].images_per_second
        for row in rows:
            found = {**identity(row), "series": series, "varied": value(row)}
            found |= cells.values("images_per_second", row.images_per_second)
            if ideal and first is not None:
                found["ideal"] = first.value * (value(row) or 1) / (value(rows[0]) or 1)
            data.append(found)
    caption += describe_left_out(len(shown), len(swept), "series", "The most different")
    return lines(key, title, axis, caption, data, ideal=ideal)


def _fixed(row: Row, varied: tuple[str, ...], several: bool) -> str:
    """What all rows of a line share, usual choices left out."""
    job = row.job
    parts = [job.workload] if several else []
    parts += [] if "threads" in varied else [naming.place_label(job).removeprefix("cpu, ")]
    parts += naming.chart_words(job)
    parts += [] if "batch_size" in varied else [f"batch {job.batch_size}"]
    parts += [f"to {units.exact_percent(job.target)}"] if job.target is not None else []
    return ", ".join(parts)


@dataclass(frozen=True)
class LineMetric:
    """What a line is of: the name of an estimate, its words on the axis, its value in a sentence."""

    name: str
    words: str
    text: Callable[[float], str]


IMAGES = LineMetric("images_per_second", "images a second", lambda value: f"{units.rate(value)} images a second")


def lines(
    key: str, title: str, axis: str, caption: str, data: list[Datum], *, ideal: bool, measure: LineMetric = IMAGES
) -> Chart:
    """The measure over what is varied, a line a series; `ideal` draws what each series has of that name, dashed."""
    import altair as alt

    series = list(dict.fromkeys(str(datum["series"]) for datum in data))
    values = sorted({int(str(datum["varied"])) for datum in data})
    rates = [read_number(datum, name) for datum in data for name in (measure.name, "ideal") if name in datum]
    apart = max(rates) > LOG_FROM * min(rates) and not ideal
    rate = f"{measure.words}{' (log scale)' if apart else ''}"

    def draw(layout: theme.ChartLayout) -> Any:
        base = alt.Chart(alt.NamedData("rows"), width=layout.whole, height=240).encode(
            x=alt.X(
                "varied:Q",
                title=f"{axis} (log scale)",
                scale=alt.Scale(type="log", base=2, domain=[values[0] / 1.1, values[-1] * 1.1], nice=False),
                axis=alt.Axis(values=values, format=",d", gridOpacity=0.7, labelOverlap="greedy", labelSeparation=6),
            ),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=series, range=list(theme.SERIES)),
                legend=alt.Legend(columns=1, symbolOpacity=1),
            ),
        )
        log = theme.log_scale(rates)
        y_axis = theme.log_axis(log, layout, rate) if apart else {"title": rate, "gridOpacity": 0.7}
        y = alt.Y(f"{measure.name}:Q", scale=alt.Scale(**(log if apart else {"zero": True})), axis=alt.Axis(**y_axis))
        line = base.mark_line(strokeWidth=2, aria=False).encode(y=y)
        bars = base.mark_rule(strokeWidth=6, opacity=0.35, aria=False).encode(
            y=alt.Y(f"{measure.name}_low:Q", title=rate), y2=f"{measure.name}_high:Q"
        )
        points = base.mark_point(filled=True, size=90, opacity=1).encode(
            y=y,
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "series")),
                alt.Tooltip("varied:Q", title=axis, format=",d"),
                alt.Tooltip(f"{measure.name}:Q", title=measure.words, format=",.6~g"),
                alt.Tooltip(f"{measure.name}_low:Q", title="95 % from", format=",.6~g"),
                alt.Tooltip(f"{measure.name}_high:Q", title="to", format=",.6~g"),
                alt.Tooltip(f"{measure.name}_n:Q", title="processes (n)"),
            ],
        )
        layers = [line, points]
        if any(datum[f"{measure.name}_low"] is not None for datum in data):
            layers.insert(1, bars.transform_filter(f"isValid(datum.{measure.name}_low)"))
        if ideal:
            layers.insert(0, base.mark_line(strokeDash=[5, 4], strokeWidth=1.5, aria=False).encode(y="ideal:Q"))
        return alt.layer(*layers)

    descriptions = [
        f"{d['series']} at {axis} {d['varied']}: {measure.text(read_number(d, measure.name))}" for d in data
    ]
    bars_text = " Bars: 95 % interval between processes, from three on."
    return theme.make_chart(key, title, f"{title}. {'; '.join(descriptions[:20])}.", caption + bars_text, data, draw)


def ladder(chart_data: ChartData) -> Chart | None:
    """Rungs side by side: rows that differ only in division, precision, layout, execution or loader, as time of one step."""
    sets: dict[str, list[Row]] = {}
    for row in chart_data.training:
        if row.step_seconds is not None:
            job = row.job.model_copy(update=plain_values(Job, "compute", "draw"))
            sets.setdefault(f"{row.machine.id} {row.protocol} {row.run_id} {job.model_dump_json()}", []).append(row)
    variants = [rows for _, rows in sorted(sets.items()) if len({_variant(row) for row in rows}) > 1]
    every = [row for rows in variants for row in sorted(rows, key=_step, reverse=True)]
    rows = every[:MOST_MARKS]
    if not rows:
        return None
    names = row_names(rows, batch=True)
    data: list[Datum] = [
        {
            **identity(row),
            **{"label": label, "rung": _variant(row), "text": units.short_seconds(_step(row))},
            **{"milliseconds": _step(row) * 1e3, **cells.values("step_seconds", row.step_seconds)},
        }
        for row, label in zip(rows, axis_labels(names), strict=True)
    ]
    return _draw_variants(data, describe_left_out(len(rows), len(every), "rows", "The first"))


def _variant(row: Row) -> str:
    return ", ".join(naming.list_step_values(row.job))


def _step(row: Row) -> float:
    return row.step_seconds.value if row.step_seconds is not None else 0.0


def _draw_variants(data: Sequence[Datum], more: str) -> Chart:
    import altair as alt

    rows = theme.Rows(tuple(str(datum["label"]) for datum in data))
    most = max(read_number(datum, "milliseconds") for datum in data)

    def draw(layout: theme.ChartLayout) -> Any:
        words = theme.text_width(str(datum["text"]) for datum in data)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=True),
            x=alt.X(
                "milliseconds:Q",
                title="ms a step",
                scale=alt.Scale(domain=theme.linear_with_room(most, layout.width, after=words), nice=False),
                axis=alt.Axis(gridOpacity=0.7, tickCount=4 if layout.narrow else 8),
            ),
        )
        bars = base.mark_bar(color=theme.BLUE).encode(
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "rung")),
                alt.Tooltip("milliseconds:Q", title="ms a step", format=".6~g"),
                alt.Tooltip("step_seconds_n:Q", title="processes (n)"),
                alt.Tooltip("work:N"),
            ]
        )
        figures = base.mark_text(align="left", dx=5, aria=False).encode(text="text:N", color=alt.value(theme.INK))
        return alt.layer(bars, figures)

    description = "; ".join(f"{one_line(d['label'])} {d['text']}" for d in data)
    caption = (
        "The same network, batch and data; division, precision, layout, execution and loader as named (none named: reference, "
        "fp32, nchw, eager, resident). Shorter is faster." + more
    )
    return theme.make_chart(
        "ladder", "The ladder: one step, rung by rung", f"Time of a step: {description}.", caption, data, draw
    )
