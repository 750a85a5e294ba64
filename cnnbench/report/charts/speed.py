"""How much faster: over the published CPU and over the CPU beside it, and FLOPS printed against FLOP/s achieved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cnnbench import units
from cnnbench.analysis.metrics import name_baseline
from cnnbench.analysis.ratio import PublishedResult
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_texts,
    keep_fastest,
    list_numbers,
    list_values,
    mark_published,
    mark_rows,
    one_line,
)
from cnnbench.report.charts.kinds import (
    WHERE,
    ChartSpec,
    RowAxis,
    Shown,
    Specification,
    TooltipField,
    choose,
    count_processes,
    draw_points,
    layer,
    list_interval,
    number,
    word,
)
from cnnbench.report.model import Datum
from cnnbench.report.table_builder import metric_cell

PROJECTED, BASELINE = "projected from timed steps", "baseline"


def _select_over_published(chart_data: ChartData) -> Shown:
    """Select the lecture's chart: its own rows in grey, every measured row of the same job beside them."""
    comparison = chart_data.comparison
    base = comparison.published_cpu
    if base is None:
        return Shown([])
    rows, more = keep_fastest(chart_data.training, lambda row: row.speedup_over_published)
    published = [found for found in comparison.published_rows if found.speedup is not None]
    data = [*mark_published(published, _mark_published_speed), *mark_rows(rows, _mark_speed)]
    blanks = {"processor": base.processor, "year": str(base.year), "seconds": units.count(base.job_seconds)}
    return Shown(_sort(data, "speedup_over_reference"), more, blanks)


def _mark_published_speed(found: PublishedResult) -> Iterator[Datum]:
    figures = cells.values("speedup_over_reference", Estimate(found.speedup or 0.0, None, None, 1))
    yield {"kind": theme.PUBLISHED, "text": units.ratio(found.speedup), **figures}


def _mark_speed(row: Row) -> Iterator[Datum]:
    kind = f"{theme.MEASURED}, whole job" if row.job_kind == "measured" else PROJECTED
    figures = cells.values("speedup_over_reference", row.speedup_over_published)
    yield {"kind": kind, "text": metric_cell(row, "speedup_over_reference").text, **figures}


def _select_over_cpu(chart_data: ChartData) -> Shown:
    """Select every row against the CPU row of the same work, or the baseline asked for; only where a row is not its own."""
    wanted = {row.work_key for row in chart_data.training if row.speedup and not row.speedup.is_baseline}
    compared = [row for row in chart_data.training if row.work_key in wanted]
    rows, more = keep_fastest(compared, lambda row: None if row.speedup is None else row.speedup.ratio)
    data = mark_rows(rows, _mark_over_cpu, batch=True)
    key = chart_data.comparison.baseline
    names = "; ".join(sorted(list_values(data, "baseline"))[:4])
    whom = "CPU row" if key is None else f"row of {key}"
    return Shown(_sort(data, "speedup"), more, {"baseline": key or "the CPU baseline", "whom": whom, "names": names})


def _mark_over_cpu(row: Row) -> Iterator[Datum]:
    if row.speedup is not None:
        kind = BASELINE if row.speedup.is_baseline else theme.MEASURED
        figures = cells.values("speedup", row.speedup.ratio)
        yield {"kind": kind, "text": metric_cell(row, "speedup").text, "baseline": name_baseline(row), **figures}


def _sort(data: Sequence[Datum], value: str) -> list[Datum]:
    """Sort marks, slowest first, each with the place where its bar ends."""
    names = (value, f"{value}_low", f"{value}_high")
    found: list[Datum] = [{**datum, "edge": max(1.0, *list_numbers([datum], *names))} for datum in data]
    return sorted(found, key=lambda datum: (datum[value], datum["label"]))


def _declare_speed(value: str, **texts: Any) -> ChartSpec[ChartData]:
    """Declare a chart of a speed-up; both look alike."""
    estimate = (*list_interval(value, "times the speed", ".6g"), count_processes(value))
    draw = partial(
        draw_points,
        value=value,
        axis="times the speed (log scale)",
        tooltip=(*WHERE, "kind", *estimate, "work"),
        colours={theme.PUBLISHED: theme.GREY, BASELINE: theme.GREY, PROJECTED: theme.ORANGE},
        before=10,
        origin=1,
        text_at="edge",
    )
    return ChartSpec(alt="{title}, on a log scale: {marks}.", describe=describe_texts, draw=draw, **texts)


PRINTED, THEORETICAL, CEILING, ACHIEVED = "printed", "theoretical peak", "measured peak (GEMM)", "achieved in the job"
_SHAPES = {PRINTED: "diamond", THEORETICAL: "diamond", CEILING: "square", ACHIEVED: "circle"}


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


def _select_flops(chart_data: ChartData) -> Shown:
    """Select a row for each processor: what it promises, and what the job reached."""
    same = [row for row in chart_data.training if row.speedup_over_published is not None]
    rows, more = keep_fastest(same or chart_data.training, lambda row: row.flops_per_second)
    published = [found for found in chart_data.comparison.published_rows if found.flops_per_second is not None]
    return Shown([*mark_published(published, _mark_published_flops), *mark_rows(rows[::-1], _mark_flops)], more)


def _mark_published_flops(found: PublishedResult) -> Iterator[Datum]:
    known = {PRINTED: found.published.printed_flops_per_second, ACHIEVED: found.flops_per_second}
    return _mark_known(theme.PUBLISHED, known)


def _mark_flops(row: Row) -> Iterator[Datum]:
    estimates = {CEILING: row.ceiling_flops_per_second, ACHIEVED: row.flops_per_second}
    known = {kind: found.value for kind, found in estimates.items() if found is not None}
    return _mark_known(theme.MEASURED, {THEORETICAL: row.peak_flops_per_second, **known})


def _mark_known(source: str, flops_per_second: Mapping[str, float | None]) -> Iterator[Datum]:
    """Make a mark for each known figure. Only the least and the greatest have room beside them for their value."""
    known = {kind: value for kind, value in flops_per_second.items() if value is not None}
    sides = {min(known.values()): "least", max(known.values()): "most"}
    for kind, value in known.items():
        figures = {"flops_per_second": value, "gflops_per_second": value / 1e9, "text": units.giga(value)}
        yield {"source": source, "kind": kind, **figures, "side": sides.get(value, "")}


def _draw_flops(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw a line from the least to the greatest of each row, hollow marks for what is promised, filled ones for the job."""
    data, rows = shown.data, RowAxis(list_values(shown.data, "label"), layout)
    before, after = (
        theme.text_width(datum["text"] for datum in data if datum["side"] == side) for side in ("least", "most")
    )
    figures = list_numbers(data, "gflops_per_second")
    scale = theme.log_scale_with_room(figures, layout.width, before=before, after=after)
    x = number("gflops_per_second", **theme.log_axis(scale, layout, "GFLOP/s (log scale)", layout.width))
    colour = choose(data, "source", {theme.PUBLISHED: theme.GREY, theme.MEASURED: theme.BLUE})
    flops = TooltipField("gflops_per_second", "GFLOP/s", ",.6~g")
    tooltip = (*WHERE, "precision", "kind", flops, "work")
    shape = choose(data, "kind", _SHAPES, layout)
    marks = partial(layer, "point", shape=shape, tooltip=tooltip, size=120, strokeWidth=2, opacity=1)
    text = partial(layer, "text", text=word("text"), color={"value": theme.MUTED})
    return rows.frame(
        {"x": x, "color": colour},
        layer("line", detail=word("label"), strokeWidth=3, opacity=0.3),
        marks(when=f"(datum.kind !== '{ACHIEVED}')", filled=False),
        marks(when=f"(datum.kind === '{ACHIEVED}')", filled=True),
        text(when="(datum.side === 'least')", align="right", dx=-10),
        text(when="(datum.side === 'most')", align="left", dx=10),
    )


def _describe_flops(data: Sequence[Datum]) -> Iterator[str]:
    for label in list_values(data, "label"):
        parts = [f"{datum['kind']} {datum['text']}" for datum in data if datum["label"] == label]
        yield f"{one_line(label)}: {', '.join(parts)}"


CHARTS = (
    _declare_speed(
        "speedup_over_reference",
        key="speedup",
        section="lecture",
        title="Speed-up over the {processor} of {year}, the same training job",
        caption="Times the speed of the {processor} (its published {seconds} s; the job is assumed, since the source does not "
        "say what was timed). Bars: 95 % interval between fresh processes, from three on.",
        select=_select_over_published,
    ),
    ChartSpec(
        key="flops",
        section="lecture",
        title="FLOPS promised against FLOP/s achieved",
        alt="GFLOP/s on a log scale, by processor. {marks}.",
        caption="Hollow: what a data sheet (or the slide) promises, and what bare matrix products reach. Filled: model FLOPs of "
        "the training job over its time. Printed and theoretical peaks say little about this job.",
        select=_select_flops,
        describe=_describe_flops,
        draw=_draw_flops,
    ),
    _declare_speed(
        "speedup",
        key="speedup-cpu",
        section="training",
        title="Speed-up over {baseline}",
        caption="Same work, over the fastest {whom} ({names}). Bars: 95 % interval between processes.",
        select=_select_over_cpu,
    ),
)
