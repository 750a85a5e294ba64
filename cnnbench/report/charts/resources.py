"""Memory measured against what the layers need, and energy an image."""

from __future__ import annotations

from typing import Any

from cnnbench import units
from cnnbench.analysis.compare import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.material import (
    MOST_MARKS,
    Material,
    axis_labels,
    identity,
    number,
    one_line,
    row_lines,
)
from cnnbench.report.model import Chart, Value

Datum = dict[str, Value]
MARK, ANALYTIC = "measured high-water mark", "analytic: what the layers need"
PARAMETER_COPIES = 3
"""Weights, gradients, and RMSProp's mean square of each."""
MIB = 2**20


def memory(material: Material) -> Chart | None:
    """The high-water mark of each row, beside the least that the layers' shapes say its training needs."""
    known = [(row, mark) for row in material.training if (mark := _mark(row)) is not None]
    known.sort(key=lambda pair: (pair[0].job.batch_size, pair[0].device.kind, pair[1], pair[0].row_key))
    shown = known[:: max(1, -(-len(known) // MOST_MARKS))]
    data: list[Datum] = []
    names = [row_lines(row, batch=True) for row, _ in shown]
    for (row, mark), label in zip(shown, axis_labels(names), strict=True):
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
    return _bars(data) if data else None


def _mark(row: Row) -> int | None:
    """On a device the allocator's peak, on a CPU the process's."""
    return row.host_peak_bytes if row.device.kind == "cpu" else row.device_peak_bytes


def _needed(row: Row) -> int | None:
    workload = cells.workload_of(row.job)
    if workload is None or row.job.precision not in ("fp32", "tf32"):
        return None
    return row.job.batch_size * workload.activation_bytes_per_image + PARAMETER_COPIES * workload.parameter_bytes


def _bars(data: list[Datum]) -> Chart:
    import altair as alt

    order = list(dict.fromkeys(str(datum["label"]) for datum in data))
    kinds = [kind for kind in (MARK, ANALYTIC) if any(datum["kind"] == kind for datum in data)]
    most = max(number(datum, "mib") for datum in data)

    def draw(layout: theme.Layout) -> Any:
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=theme.height(len(order), layout)).encode(
            y=alt.Y(
                "label:N", sort=order, axis=alt.Axis(**theme.label_axis(layout)), scale=alt.Scale(paddingInner=0.35)
            ),
            yOffset=alt.YOffset("kind:N", sort=kinds),
            x=alt.X(
                "mib:Q",
                title="MiB",
                scale=alt.Scale(domain=[0, most * (1.5 if layout.narrow else 1.15)], nice=False),
                axis=alt.Axis(format=",~r", tickCount=4 if layout.narrow else 8, gridOpacity=0.7),
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
        words = base.mark_text(align="left", dx=5, aria=False).encode(text="text:N", color=alt.value(theme.MUTED))
        return alt.layer(bars, words)

    said = [f"{one_line(d['label'])}: {d['text']} {str(d['kind']).partition(':')[0]}" for d in data]
    caption = (
        "Measured: on a GPU the allocator's peak; on a CPU the whole process, interpreter, libraries and data included, so "
        "that only its growth over batch sizes compares with the analytic figure. Analytic: one batch's forward activations "
        "in float32, and weights, gradients and mean squares once each."
    )
    title = "Memory, measured against what the layers need"
    return theme.make("memory", title, f"{title}. {'; '.join(said)}.", caption, data, draw)


def energy(material: Material) -> Chart | None:
    """Joules an image, gross; only where a counter was read."""
    rows = [row for row in material.training if row.energy is not None][:MOST_MARKS]
    names = [row_lines(row, batch=True) for row in rows]
    data: list[Datum] = [
        {
            **identity(row),
            **{"label": label, "text": units.joules(row.energy.gross_joules.value), "watts": row.energy.watts},
            **cells.values("energy_joules_per_image", row.energy.gross_joules),
        }
        for row, label in zip(rows, axis_labels(names), strict=True)
        if row.energy is not None
    ]
    return _energy_points(data) if data else None


def _energy_points(data: list[Datum]) -> Chart:
    import altair as alt

    value = "energy_joules_per_image"
    order = [str(datum["label"]) for datum in data]
    values = [number(datum, value) for datum in data]

    def draw(layout: theme.Layout) -> Any:
        scale = theme.log_scale(values, below=1.6, above=3 if layout.narrow else 1.8)
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=theme.height(len(data), layout)).encode(
            y=alt.Y("label:N", sort=order, axis=alt.Axis(**theme.label_axis(layout))),
            x=alt.X(
                f"{value}:Q",
                scale=alt.Scale(**scale),
                axis=alt.Axis(**theme.log_axis(scale, layout, "joules an image, gross (log scale)")),
            ),
        )
        points = base.mark_point(filled=True, size=110, opacity=1, color=theme.GREEN).encode(
            tooltip=[
                *(alt.Tooltip(f"{name}:N") for name in ("processor", "place", "precision")),
                alt.Tooltip(f"{value}:Q", title="J an image", format=".6g"),
                alt.Tooltip("watts:Q", title="mean power, W", format=".4~g"),
                alt.Tooltip(f"{value}_n:Q", title="processes (n)"),
            ]
        )
        words = base.mark_text(align="left", dx=10, aria=False).encode(text="text:N", color=alt.value(theme.INK))
        return alt.layer(points, words)

    said = "; ".join(f"{one_line(d['label'])} {d['text']}" for d in data)
    caption = "From the counter named in the table, over a window of at least 10 s; idle power is in it."
    return theme.make("energy", "Energy an image", f"Energy an image: {said}.", caption, data, draw)
