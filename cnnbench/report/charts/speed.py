"""How much faster: over the published CPU, and over the CPU beside it, both on a log scale with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnnbench import units
from cnnbench.analysis.metrics import name_baseline
from cnnbench.analysis.speedup import Row
from cnnbench.analysis.stats import Estimate
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    MOST_MARKS,
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
from cnnbench.report.model import Chart, Datum
from cnnbench.report.table_builder import metric_cell

PROJECTED = "projected from timed steps"


def chart_over_published(chart_data: ChartData) -> Chart | None:
    """The lecture's chart: its own rows in grey, every measured row of the same job beside them."""
    base = chart_data.comparison.published_cpu
    rows = [row for row in chart_data.training if row.speedup_over_published is not None]
    if base is None or not (rows or chart_data.published_rows):
        return None
    published = [found for found in chart_data.published_rows if found.speedup is not None]
    data: list[Datum] = [
        {
            **published_identity(found),
            "kind": theme.PUBLISHED,
            "text": units.ratio(found.speedup),
            **cells.values("speedup_over_reference", Estimate(found.speedup or 0.0, None, None, 1)),
        }
        for found in published
    ]
    shown = fastest(rows, lambda row: row.speedup_over_published)
    data += [
        {
            **identity(row),
            "kind": f"{theme.MEASURED}, whole job" if row.job_kind == "measured" else PROJECTED,
            "text": metric_cell(row, "speedup_over_reference").text,
            **cells.values("speedup_over_reference", row.speedup_over_published),
        }
        for row in shown
    ]
    _name(data, [*map(published_lines, published), *row_names(shown)])
    data.sort(key=lambda datum: (read_number(datum, "speedup_over_reference"), str(datum["label"])))
    title = f"Speed-up over the {base.processor} of {base.year}, the same training job"
    caption = (
        f"Times the speed of the {base.processor} (its published {units.count(base.job_seconds)} s; the job is assumed, "
        f"since the source does not say what was timed). Bars: 95 % interval between fresh processes, from three on."
    )
    return _points(
        "speedup",
        title,
        caption + describe_left_out(len(shown), len(rows), "rows", "The fastest"),
        data,
        "speedup_over_reference",
    )


def chart_over_cpu(chart_data: ChartData) -> Chart | None:
    """Every row against the CPU row of the same work, or the baseline asked for; only where a row is not its own."""
    rows = [row for row in chart_data.training if row.speedup is not None]
    if not any(row.speedup is not None and not row.speedup.is_baseline for row in rows):
        return None
    wanted = {row.work_key for row in rows if row.speedup is not None and not row.speedup.is_baseline}
    rows = [row for row in rows if row.work_key in wanted]
    shown = fastest(rows, lambda row: row.speedup.ratio if row.speedup else None)
    data: list[Datum] = [
        {
            **identity(row),
            "kind": "baseline" if row.speedup is not None and row.speedup.is_baseline else theme.MEASURED,
            "text": metric_cell(row, "speedup").text,
            "baseline": name_baseline(row),
            **cells.values("speedup", row.speedup.ratio if row.speedup else None),
        }
        for row in shown
    ]
    _name(data, row_names(shown, batch=True))
    data.sort(key=lambda datum: (read_number(datum, "speedup"), str(datum["label"])))
    names = sorted({str(datum["baseline"]) for datum in data})
    key = chart_data.comparison.baseline
    title = f"Speed-up over {key or 'the CPU baseline'}"
    whom = "CPU row" if key is None else f"row of {key}"
    caption = f"Same work, over the fastest {whom} ({'; '.join(names[:4])}). Bars: 95 % interval between processes."
    return _points(
        "speedup-cpu", title, caption + describe_left_out(len(shown), len(rows), "rows", "The fastest"), data, "speedup"
    )


def fastest(rows: Sequence[Row], estimate_of: Callable[[Row], Estimate | None], most: int = MOST_MARKS) -> list[Row]:
    """The rows with the largest estimates, `most` of them."""
    known = [(found.value, row.row_key, row) for row in rows if (found := estimate_of(row)) is not None]
    return [row for _, _, row in sorted(known, key=lambda item: (-item[0], item[1]))[:most]]


def _name(data: list[Datum], names: Sequence[Sequence[str]]) -> None:
    for datum, label in zip(data, axis_labels(names), strict=True):
        datum["label"] = label


def _points(key: str, title: str, caption: str, data: list[Datum], value: str) -> Chart:
    """A point a row on a log axis, its interval as a bar, its value in words."""
    import altair as alt

    rows = theme.Rows(tuple(str(datum["label"]) for datum in data))
    kinds = list(dict.fromkeys(str(datum["kind"]) for datum in data))
    colours = {theme.PUBLISHED: theme.GREY, "baseline": theme.GREY, PROJECTED: theme.ORANGE}
    for datum in data:
        datum["edge"] = max(1.0, read_number(datum, value), *_ends([datum], value))

    def draw(layout: theme.ChartLayout) -> Any:
        words = theme.text_width(str(datum["text"]) for datum in data)
        scale = theme.log_scale_with_room([1.0, *_ends(data, value)], layout.width, before=10, after=words)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=False),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[colours.get(kind, theme.BLUE) for kind in kinds]),
                legend=alt.Legend(**theme.legend(kinds, layout)),
            ),
        )
        axis = alt.Axis(**theme.log_axis(scale, layout, "times the speed (log scale)", layout.width))

        def x(field: str) -> alt.X:
            return alt.X(f"{field}:Q", scale=alt.Scale(**scale), axis=axis)

        stems = base.mark_rule(strokeWidth=2, opacity=0.35, aria=False).encode(x=x(value), x2=alt.datum(1))
        bars = base.mark_rule(strokeWidth=7, opacity=0.4, aria=False).encode(x=x(f"{value}_low"), x2=f"{value}_high:Q")
        points = base.mark_point(filled=True, size=110, opacity=1).encode(
            x=x(value),
            shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds), legend=alt.Legend(**theme.legend(kinds, layout))),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "kind")),
                alt.Tooltip(f"{value}:Q", title="times the speed", format=".6g"),
                alt.Tooltip(f"{value}_low:Q", title="95 % from", format=".6g"),
                alt.Tooltip(f"{value}_high:Q", title="to", format=".6g"),
                alt.Tooltip(f"{value}_n:Q", title="processes (n)"),
                alt.Tooltip("work:N"),
            ],
        )
        figures = base.mark_text(align="left", dx=10, aria=False).encode(
            x=x("edge"), text="text:N", color=alt.value(theme.INK)
        )
        layers = [stems, points, figures]
        if any(datum[f"{value}_low"] is not None for datum in data):
            layers.insert(1, bars.transform_filter(f"isValid(datum.{value}_low)"))
        return alt.layer(*layers)

    description = "; ".join(f"{one_line(d['label'])} {d['text']}" for d in data)
    return theme.make_chart(key, title, f"{title}, on a log scale: {description}.", caption, data, draw)


def _ends(data: Sequence[Datum], value: str) -> list[float]:
    names = (value, f"{value}_low", f"{value}_high")
    return [float(number) for datum in data for name in names if isinstance(number := datum[name], (int, float))]
