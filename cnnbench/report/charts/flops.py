"""FLOPS printed against FLOP/s achieved: what a processor could do, and what the job does."""

from __future__ import annotations

from typing import Any, Literal

from cnnbench import units
from cnnbench.analysis.speedup import PublishedResult, Row
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    axis_labels,
    describe_left_out,
    identity,
    one_line,
    published_identity,
    published_lines,
    read_number,
    row_names,
)
from cnnbench.report.charts.speed import fastest
from cnnbench.report.model import Chart, Datum

PRINTED, THEORETICAL, CEILING, ACHIEVED = "printed", "theoretical peak", "measured peak (GEMM)", "achieved in the job"
_SHAPES = {PRINTED: "diamond", THEORETICAL: "diamond", CEILING: "square", ACHIEVED: "circle"}
_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("least", "right", -10), ("most", "left", 10))


def chart_peak_and_achieved(chart_data: ChartData) -> Chart | None:
    """The lecture's point, extended: a row a processor, its peak and what the job reached on one log axis."""
    same = [row for row in chart_data.training if row.speedup_over_published is not None]
    rows = fastest(same or chart_data.training, lambda row: row.flops_per_second)[::-1]
    published = [found for found in chart_data.published_rows if found.flops_per_second is not None]
    if not rows and not published:
        return None
    names = [*map(published_lines, published), *row_names(rows)]
    marks = [*map(_published, published), *map(_measured, rows)]
    order = axis_labels(names)
    data = [{**datum, "label": label} for label, group in zip(order, marks, strict=True) for datum in group]
    known = sum(row.flops_per_second is not None for row in same or chart_data.training)
    return _dumbbells(data, order, describe_left_out(len(rows), known, "rows", "The fastest"))


def describe_point(published_rows: tuple[PublishedResult, ...]) -> str:
    """`264 times the FLOPS, 19 times the speed`: the fastest published row against the published CPU; nothing without both."""
    known = [
        (found.speedup, found.published.printed_flops_per_second, found.published)
        for found in published_rows
        if found.speedup and found.published.printed_flops_per_second
    ]
    base = next((flops for speed, flops, row in known if speed == 1.0 and row.device_kind == "cpu"), None)
    if base is None or len(known) < 2:
        return ""
    speed, flops, row = max(known, key=lambda each: each[0])
    return (
        f"{flops / base:.0f} times the FLOPS, {speed:.0f} times the speed: what the lecture's table prints for the "
        f"{row.processor} against its CPU."
    )


def _published(found: PublishedResult) -> list[Datum]:
    row = found.published
    kept = [(PRINTED, row.printed_flops_per_second), (ACHIEVED, found.flops_per_second)]
    return [
        {**published_identity(found), "source": theme.PUBLISHED, "kind": kind, "flops_per_second": value}
        for kind, value in kept
        if value is not None
    ]


def _measured(row: Row) -> list[Datum]:
    achieved = None if row.flops_per_second is None else row.flops_per_second.value
    known = [
        (THEORETICAL, row.peak_flops_per_second),
        (CEILING, None if row.ceiling_flops_per_second is None else row.ceiling_flops_per_second.value),
        (ACHIEVED, achieved),
    ]
    return [
        {**identity(row), "source": theme.MEASURED, "kind": kind, "flops_per_second": value}
        for kind, value in known
        if value is not None
    ]


def _dumbbells(data: list[Datum], order: list[str], more: str) -> Chart:
    import altair as alt

    rows = theme.Rows(tuple(order))
    kinds = [kind for kind in _SHAPES if any(datum["kind"] == kind for datum in data)]
    sources = list(dict.fromkeys(str(datum["source"]) for datum in data))
    for datum in data:
        datum["gflops_per_second"] = read_number(datum, "flops_per_second") / 1e9
        datum["text"] = units.giga(read_number(datum, "flops_per_second"))
        datum["side"] = _side(datum, [each for each in data if each["label"] == datum["label"]])
    values = [read_number(datum, "gflops_per_second") for datum in data]

    def draw(layout: theme.ChartLayout) -> Any:
        before, after = (theme.text_width(_texts(data, side)) for side in ("least", "most"))
        scale = theme.log_scale_with_room(values, layout.width, before=before, after=after)
        axis = alt.Axis(**theme.log_axis(scale, layout, "GFLOP/s (log scale)", layout.width))
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=False),
            color=alt.Color(
                "source:N",
                scale=alt.Scale(domain=sources, range=[_colour(source) for source in sources]),
                legend=None,
            ),
        )
        x = alt.X("gflops_per_second:Q", scale=alt.Scale(**scale), axis=axis)
        spans = base.mark_line(strokeWidth=3, opacity=0.3, aria=False).encode(x=x, detail="label:N")
        points = [
            base.transform_filter(chosen)
            .mark_point(filled=filled, size=120, strokeWidth=2, opacity=1)
            .encode(
                x=x,
                shape=alt.Shape(
                    "kind:N",
                    scale=alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds]),
                    legend=alt.Legend(**theme.legend(kinds, layout)),
                ),
                tooltip=[
                    *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "precision", "kind")),
                    alt.Tooltip("gflops_per_second:Q", title="GFLOP/s", format=",.6~g"),
                    alt.Tooltip("work:N"),
                ],
            )
            for filled, chosen in ((False, alt.datum.kind != ACHIEVED), (True, alt.datum.kind == ACHIEVED))
        ]
        words = [
            base.transform_filter(alt.datum.side == side)
            .mark_text(align=align, dx=dx, aria=False)
            .encode(x=x, text="text:N", color=alt.value(theme.MUTED))
            for side, align, dx in _SIDES
        ]
        return alt.layer(spans, *points, *words)

    descriptions = []
    for label in order:
        parts = [f"{datum['kind']} {datum['text']}" for datum in data if datum["label"] == label]
        descriptions.append(f"{one_line(label)}: {', '.join(parts)}")
    alt_text = f"GFLOP/s on a log scale, by processor. {'; '.join(descriptions)}."
    caption = (
        "Hollow: what a data sheet (or the slide) promises, and what bare matrix products reach. Filled: model FLOPs of the "
        "training job over its time. Printed and theoretical peaks say little about this job." + more
    )
    return theme.make_chart("flops", "FLOPS promised against FLOP/s achieved", alt_text, caption, data, draw)


def _texts(data: list[Datum], side: str) -> list[str]:
    return [str(datum["text"]) for datum in data if datum["side"] == side]


def _side(datum: Datum, row: list[Datum]) -> str:
    """Where its value is written: beside the row's least and greatest, not between them, where there is no room."""
    values = [read_number(each, "flops_per_second") for each in row]
    own = read_number(datum, "flops_per_second")
    return "most" if own == max(values) else "least" if own == min(values) else ""


def _colour(source: str) -> str:
    return theme.GREY if source == theme.PUBLISHED else theme.BLUE
