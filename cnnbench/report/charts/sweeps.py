"""One thing varied and all else equal: threads, batch sizes, and the rungs of the ladder (layout, precision, division)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnnbench import units
from cnnbench.analysis.compare import Row
from cnnbench.report import cells, labels
from cnnbench.report.charts import theme
from cnnbench.report.charts.material import (
    MOST_MARKS,
    Material,
    axis_labels,
    identity,
    number,
    one_line,
    row_lines,
    series_names,
)
from cnnbench.report.model import Chart, Value

Datum = dict[str, Value]
MOST_SERIES = 6
RUNG_FIELDS = ("division", "precision", "layout", "loader")


def threads(material: Material) -> Chart | None:
    """Images a second over CPU threads, beside what perfect scaling from the smallest count would give."""
    return _sweep(
        material,
        "threads",
        "Scaling over CPU threads",
        "threads",
        lambda row: row.job.threads,
        ("threads",),
        "Dashed: the smallest count's rate times the threads. The fastest count is the honest CPU baseline.",
        ideal=True,
    )


def batches(material: Material) -> Chart | None:
    """Images a second over batch sizes."""
    return _sweep(
        material,
        "batches",
        "Throughput over batch sizes",
        "batch size",
        lambda row: row.job.batch_size,
        ("batch_size",),
        "A larger batch spreads launches and overheads over more images, until the processor is busy.",
        ideal=False,
    )


def _sweep(
    material: Material,
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
    for row in material.training:
        if row.images_per_second is not None and value(row) is not None:
            job = row.job.model_copy(update={"seed": 0, "round": 0} | dict.fromkeys(varied, 0))
            sets.setdefault(f"{row.machine.id} {row.protocol} {row.run_id} {job.model_dump_json()}", []).append(row)
    swept = [rows for _, rows in sorted(sets.items()) if len({value(row) for row in rows}) > 1][:MOST_SERIES]
    if not swept:
        return None
    names = [(labels.processor(rows[0].device), _fixed(rows[0], varied)) for rows in swept]
    data: list[Datum] = []
    for rows, series in zip(swept, series_names(names, [rows[0] for rows in swept]), strict=True):
        rows = sorted(rows, key=lambda row: value(row) or 0)
        first = rows[0].images_per_second
        for row in rows:
            found = {**identity(row), "series": series, "varied": value(row)}
            found |= cells.values("images_per_second", row.images_per_second)
            if ideal and first is not None:
                found["ideal"] = first.value * (value(row) or 1) / (value(rows[0]) or 1)
            data.append(found)
    return _lines(key, title, axis, caption, data, ideal=ideal)


def _fixed(row: Row, varied: tuple[str, ...]) -> str:
    parts = [row.job.workload, row.job.precision]
    parts += [] if "threads" in varied or row.job.threads is None else [labels.place(row.job)]
    parts += [] if "batch_size" in varied else [f"batch {row.job.batch_size}"]
    return ", ".join(parts)


def _lines(key: str, title: str, axis: str, caption: str, data: list[Datum], *, ideal: bool) -> Chart:
    import altair as alt

    series = list(dict.fromkeys(str(datum["series"]) for datum in data))
    values = sorted({int(str(datum["varied"])) for datum in data})

    def draw(layout: theme.Layout) -> Any:
        width = layout.width + (layout.label_limit - 60 if layout.narrow else 0)
        base = alt.Chart(alt.NamedData("rows"), width=width, height=240).encode(
            x=alt.X(
                "varied:Q",
                title=f"{axis} (log scale)",
                scale=alt.Scale(type="log", base=2, domain=[values[0] / 1.1, values[-1] * 1.1], nice=False),
                axis=alt.Axis(values=values, format=",d", gridOpacity=0.7),
            ),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=series, range=list(theme.SERIES)),
                legend=alt.Legend(columns=1, symbolOpacity=1),
            ),
        )
        y = alt.Y(
            "images_per_second:Q", title="images a second", scale=alt.Scale(zero=True), axis=alt.Axis(gridOpacity=0.7)
        )
        line = base.mark_line(strokeWidth=2, aria=False).encode(y=y)
        bars = base.mark_rule(strokeWidth=6, opacity=0.35, aria=False).encode(
            y=alt.Y("images_per_second_low:Q", title="images a second"), y2="images_per_second_high:Q"
        )
        points = base.mark_point(filled=True, size=90, opacity=1).encode(
            y=y,
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "series")),
                alt.Tooltip("varied:Q", title=axis, format=",d"),
                alt.Tooltip("images_per_second:Q", title="images a second", format=",.6~g"),
                alt.Tooltip("images_per_second_low:Q", title="95 % from", format=",.6~g"),
                alt.Tooltip("images_per_second_high:Q", title="to", format=",.6~g"),
                alt.Tooltip("images_per_second_n:Q", title="processes (n)"),
            ],
        )
        layers = [line, points]
        if any(datum["images_per_second_low"] is not None for datum in data):
            layers.insert(1, bars.transform_filter("isValid(datum.images_per_second_low)"))
        if ideal:
            layers.insert(0, base.mark_line(strokeDash=[5, 4], strokeWidth=1.5, aria=False).encode(y="ideal:Q"))
        return alt.layer(*layers)

    said = [
        f"{d['series']} at {axis} {d['varied']}: {units.rate(number(d, 'images_per_second'))} images a second"
        for d in data
    ]
    bars_text = " Bars: 95 % interval between processes, from three on."
    return theme.make(key, title, f"{title}. {'; '.join(said[:20])}.", caption + bars_text, data, draw)


def ladder(material: Material) -> Chart | None:
    """Rungs side by side: rows that differ only in division, precision, layout or loader, as time of one step."""
    sets: dict[str, list[Row]] = {}
    for row in material.training:
        if row.step_seconds is not None:
            job = row.job.model_copy(update={"seed": 0, "round": 0} | _FLAT)
            sets.setdefault(f"{row.machine.id} {row.protocol} {row.run_id} {job.model_dump_json()}", []).append(row)
    rungs = [rows for _, rows in sorted(sets.items()) if len({_rung(row) for row in rows}) > 1]
    rows = [row for rows in rungs for row in sorted(rows, key=_step, reverse=True)][:MOST_MARKS]
    if not rows:
        return None
    names = [(*row_lines(row, batch=True), _rung(row)) for row in rows]
    data: list[Datum] = [
        {
            **identity(row),
            **{"label": label, "rung": _rung(row), "text": units.short_seconds(_step(row))},
            **{"milliseconds": _step(row) * 1e3, **cells.values("step_seconds", row.step_seconds)},
        }
        for row, label in zip(rows, axis_labels(names), strict=True)
    ]
    return _rungs(data)


_FLAT: dict[str, Any] = {"division": "reference", "precision": "fp32", "layout": "nchw", "loader": "resident"}


def _rung(row: Row) -> str:
    return ", ".join(str(getattr(row.job, name)) for name in RUNG_FIELDS)


def _step(row: Row) -> float:
    return row.step_seconds.value if row.step_seconds is not None else 0.0


def _rungs(data: Sequence[Datum]) -> Chart:
    import altair as alt

    order = [str(datum["label"]) for datum in data]

    def draw(layout: theme.Layout) -> Any:
        most = max(number(datum, "milliseconds") for datum in data)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=theme.height(len(data), layout)).encode(
            y=alt.Y(
                "label:N", sort=order, axis=alt.Axis(**theme.label_axis(layout)), scale=alt.Scale(paddingInner=0.35)
            ),
            x=alt.X(
                "milliseconds:Q",
                title="ms a step",
                scale=alt.Scale(domain=[0, most * (1.5 if layout.narrow else 1.15)], nice=False),
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
        words = base.mark_text(align="left", dx=5, aria=False).encode(text="text:N", color=alt.value(theme.INK))
        return alt.layer(bars, words)

    said = "; ".join(f"{one_line(d['label'])} {d['text']}" for d in data)
    caption = "The same network, batch and data; division, precision, layout and loader as named. Shorter is faster."
    return theme.make("ladder", "The ladder: one step, rung by rung", f"Time of a step: {said}.", caption, data, draw)
