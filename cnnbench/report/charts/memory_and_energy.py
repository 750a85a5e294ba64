"""Memory measured against what the layers need, and energy an image."""

from __future__ import annotations

from typing import Any

from cnnbench import units
from cnnbench.analysis.metrics import find_workload
from cnnbench.analysis.speedup import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    MOST_MARKS,
    ChartData,
    axis_labels,
    describe_left_out,
    identity,
    one_line,
    read_number,
    row_names,
)
from cnnbench.report.model import Chart, Datum

MARK, ANALYTIC = "measured high-water mark", "analytic: what the layers need"
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""Values that the optimiser keeps of each weight."""
MIB = 2**20
TWO_BARS = 30
"""Pixels that two bars with a line of text each need."""


def memory(chart_data: ChartData) -> Chart | None:
    """The high-water mark of each row, beside the least that the layers' shapes say its training needs."""
    known = [(row, mark) for row in chart_data.training if (mark := _mark(row)) is not None]
    known.sort(key=lambda pair: (pair[0].job.batch_size, pair[0].device.kind, pair[1], pair[0].row_key))
    shown = known[:: max(1, -(-len(known) // MOST_MARKS))]
    data: list[Datum] = []
    names = axis_labels(row_names([row for row, _ in shown], batch=True))
    for (row, mark), label in zip(shown, names, strict=True):
        need = _needed(row)
        found = [(MARK, mark)] + ([] if need is None else [(ANALYTIC, need)])
        data += [
            {
                **identity(row),
                **{"label": label, "kind": kind, "bytes": value, "mib": value / MIB, "text": units.data_size(value)},
                "where": "the device's allocator" if row.device.kind != "cpu" else "the whole process",
            }
            for kind, value in found
        ]
    return _bars(data, describe_left_out(len(shown), len(known), "rows", "Evenly some,")) if data else None


def _mark(row: Row) -> int | None:
    """On a device the allocator's peak, on a CPU the process's."""
    return row.host_peak_bytes if row.device.kind == "cpu" else row.device_peak_bytes


def _needed(row: Row) -> int | None:
    workload = find_workload(row.job)
    if workload is None or row.job.precision not in ("fp32", "tf32") or row.job.task == "inference":
        return None
    state = STATE_COPIES.get(row.job.optimizer or "")
    if state is None:
        return None
    return row.job.rank_batch * workload.activation_bytes_per_image + (2 + state) * workload.parameter_bytes


def _bars(data: list[Datum], more: str) -> Chart:
    import altair as alt

    rows = theme.Rows(tuple(dict.fromkeys(str(datum["label"]) for datum in data)), mark=TWO_BARS)
    kinds = [kind for kind in (MARK, ANALYTIC) if any(datum["kind"] == kind for datum in data)]
    most = max(read_number(datum, "mib") for datum in data)

    def draw(layout: theme.ChartLayout) -> Any:
        words = theme.text_width(str(datum["text"]) for datum in data)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=True),
            yOffset=alt.YOffset("kind:N", sort=kinds),
            x=alt.X(
                "mib:Q",
                title="MiB",
                scale=alt.Scale(domain=theme.linear_with_room(most, layout.width, after=words), nice=False),
                axis=alt.Axis(format=",~r", tickCount=4 if layout.narrow else 6, gridOpacity=0.7),
            ),
        )
        bars = base.mark_bar().encode(
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[theme.BLUE, theme.GREY]),
                legend=alt.Legend(**theme.legend(kinds, layout)),
            ),
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "kind", "where")),
                alt.Tooltip("bytes:Q", title="bytes", format=",d"),
                alt.Tooltip("work:N"),
            ],
        )
        figures = base.mark_text(align="left", dx=5, aria=False).encode(text="text:N", color=alt.value(theme.MUTED))
        return alt.layer(bars, figures)

    descriptions = [f"{one_line(d['label'])}: {d['text']} {str(d['kind']).partition(':')[0]}" for d in data]
    caption = (
        "Measured: on a GPU the allocator's peak; on a CPU the whole process, interpreter, libraries and data included, so "
        "that only its growth over batch sizes compares with the analytic figure. Analytic: one batch's forward activations "
        "in float32, and weights, gradients and the optimiser's state once each." + more
    )
    title = "Memory, measured against what the layers need"
    return theme.make_chart("memory", title, f"{title}. {'; '.join(descriptions)}.", caption, data, draw)


def energy(chart_data: ChartData) -> Chart | None:
    """Joules an image, gross; only where a counter was read."""
    every = [row for row in chart_data.training if row.energy is not None]
    rows = every[:: max(1, -(-len(every) // MOST_MARKS))]
    names = axis_labels(row_names(rows, batch=True))
    data: list[Datum] = [
        {
            **identity(row),
            **{"label": label, "text": units.joules(row.energy.gross_joules.value), "watts": row.energy.watts},
            **cells.values("energy_joules_per_image", row.energy.gross_joules),
        }
        for row, label in zip(rows, names, strict=True)
        if row.energy is not None
    ]
    return _energy_points(data, describe_left_out(len(rows), len(every), "rows", "Evenly some,")) if data else None


def _energy_points(data: list[Datum], more: str) -> Chart:
    import altair as alt

    value = "energy_joules_per_image"
    rows = theme.Rows(tuple(str(datum["label"]) for datum in data))
    values = [read_number(datum, value) for datum in data]

    def draw(layout: theme.ChartLayout) -> Any:
        words = theme.text_width(str(datum["text"]) for datum in data)
        scale = theme.log_scale_with_room(values, layout.width, before=12, after=words)
        axis = theme.log_axis(scale, layout, "joules an image, gross (log scale)", layout.width)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=rows.height(layout)).encode(
            y=rows.y(layout, bars=False),
            x=alt.X(f"{value}:Q", scale=alt.Scale(**scale), axis=alt.Axis(**axis)),
        )
        points = base.mark_point(filled=True, size=110, opacity=1, color=theme.GREEN).encode(
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "precision")),
                alt.Tooltip(f"{value}:Q", title="J an image", format=".6g"),
                alt.Tooltip("watts:Q", title="mean power, W", format=".4~g"),
                alt.Tooltip(f"{value}_n:Q", title="processes (n)"),
            ]
        )
        figures = base.mark_text(align="left", dx=10, aria=False).encode(text="text:N", color=alt.value(theme.INK))
        return alt.layer(points, figures)

    description = "; ".join(f"{one_line(d['label'])} {d['text']}" for d in data)
    caption = "From the counter named in the table, over a window of at least 10 s; idle power is in it." + more
    return theme.make_chart("energy", "Energy an image", f"Energy an image: {description}.", caption, data, draw)
