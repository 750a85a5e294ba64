"""The roofline: what memory and arithmetic of each processor allow, and how far below it its training steps are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.bottleneck import bytes_per_step
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.speedup import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_left_out,
    find_distinctions,
    identity,
    mix_kinds,
    read_number,
    series_names,
)
from cnnbench.report.model import Chart, Datum

Place = tuple[str, ...]
MOST_ROOFS = 6
STEPS = ("training step", "inference step")
_SHAPES = {STEPS[0]: "circle", STEPS[1]: "triangle-up", "matrix product": "square"}
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def roofline(chart_data: ChartData) -> Chart | None:
    """Roofs from the measured copy bandwidth and the best GEMM; each workload's point at its intensity and rate."""
    roofed = [
        row
        for row in chart_data.training
        if row.job.processes == 1 and row.ceiling_flops_per_second and _bandwidth(row) and row.flops_per_second
    ]
    by_place: dict[Place, list[Row]] = {}
    for row in roofed:
        by_place.setdefault(_place(row), []).append(row)
    places = mix_kinds(sorted(by_place, key=lambda place: (-_height(by_place[place]), place)), lambda place: place[3:])
    shown = places[:MOST_ROOFS]
    if not shown:
        return None
    firsts = [by_place[place][0] for place in shown]
    words = [(naming.processor_name(row.device), naming.place_label(row.job), row.job.precision) for row in firsts]
    apart = zip(words, find_distinctions(words, firsts), strict=True)
    names = dict(zip(shown, series_names([(*name, more) for name, more in apart]), strict=True))
    data: list[Datum] = []
    for place, name in names.items():
        data += _roof(name, by_place[place])
        data += [datum for row in by_place[place] if (datum := _point(row, name)) is not None]
    data += [
        _product(row, names[_place(row)]) for row in chart_data.gemm if row.flops_per_second and _place(row) in names
    ]
    return _draw(
        data, list(names.values()), describe_left_out(len(shown), len(places), "processors", "The most different")
    )


def _bandwidth(row: Row) -> float | None:
    return row.floors.get("copy_bytes_per_second")


def _place(row: Row) -> Place:
    """What has a roof of its own; processors of a kind differ in the first three alone: machine, device and run."""
    job, run = row.job, row.ceiling_run_id or row.run_id
    return row.machine.id, job.device, run, row.device.name, f"{row.device.kind} {job.threads}", job.precision


def _height(rows: Sequence[Row]) -> float:
    return max(row.ceiling_flops_per_second.value for row in rows if row.ceiling_flops_per_second)


def _roof(place: str, rows: list[Row]) -> list[Datum]:
    """Three corners of the roof: from the left edge up the bandwidth's slope to the ridge, then level."""
    ceiling = _height(rows)
    slope = max(_bandwidth(row) or 0.0 for row in rows)
    ridge = ceiling / slope
    corners = [(ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling)]
    return [
        {
            **{"kind": "roof", "roof": place, "order": order, "machine": rows[0].machine.id, "run": rows[0].run_id},
            **{"intensity_flops_per_byte": x, "gflops_per_second": y / 1e9},
        }
        for order, (x, y) in enumerate(corners)
    ]


def _point(row: Row, place: str) -> Datum | None:
    moved, flops = bytes_per_step(row.job), step_flops(row.job)
    if moved is None or flops is None or row.flops_per_second is None:
        return None
    verdict = "n/a" if row.bottleneck is None else row.bottleneck.summary
    return {
        **identity(row),
        **{"kind": f"{row.job.task} step", "roof": place, "name": _name(row)},
        **{"intensity_flops_per_byte": flops / moved, "gflops_per_second": row.flops_per_second.value / 1e9},
        **{"verdict": verdict, **cells.values("achieved_flops_per_second", row.flops_per_second)},
    }


def _name(row: Row) -> str:
    """`mnist-cnn nhwc, batch 128`; the precision is the roof's."""
    return f"{' '.join((row.job.workload, *naming.deviations(row.job, 'precision')))}, batch {row.job.batch_size}"


def _product(row: Row, place: str) -> Datum:
    """A product of side n reads two matrices and writes one: 2 n^3 FLOP over 3 n^2 values."""
    side = row.job.size or 1
    rate = row.flops_per_second.value if row.flops_per_second else 0.0
    return {
        **identity(row),
        **{"kind": "matrix product", "roof": place, "name": f"gemm {units.count(side)}"},
        **{"intensity_flops_per_byte": 2 * side / (3 * BYTES[row.job.precision]), "gflops_per_second": rate / 1e9},
        **cells.values("achieved_flops_per_second", row.flops_per_second),
    }


def _draw(data: list[Datum], places: list[str], more: str) -> Chart:
    import altair as alt

    xs = [read_number(datum, "intensity_flops_per_byte") for datum in data]
    ys = [read_number(datum, "gflops_per_second") for datum in data]
    kinds = [kind for kind in _SHAPES if any(d["kind"] == kind for d in data)]

    def draw(layout: theme.ChartLayout) -> Any:
        x_scale, y_scale = theme.log_scale(xs, below=1, above=1), theme.log_scale(ys, below=1.3, above=1.5)
        x_title, width = "arithmetic intensity, FLOP a byte (log scale)", layout.whole
        base = alt.Chart(alt.NamedData("rows"), width=width, height=300).encode(
            x=alt.X(
                "intensity_flops_per_byte:Q",
                scale=alt.Scale(**x_scale),
                axis=alt.Axis(**theme.log_axis(x_scale, layout, x_title, width)),
            ),
            y=alt.Y(
                "gflops_per_second:Q",
                scale=alt.Scale(**y_scale),
                axis=alt.Axis(**theme.log_axis(y_scale, layout, "GFLOP/s (log scale)")),
            ),
            color=alt.Color(
                "roof:N",
                scale=alt.Scale(domain=places, range=list(theme.SERIES)),
                legend=alt.Legend(columns=1, symbolOpacity=1),
            ),
        )
        roofs = base.transform_filter(alt.datum.kind == "roof").mark_line(strokeWidth=2.5, aria=False)
        points = (
            base.transform_filter(alt.datum.kind != "roof")
            .mark_point(filled=True, size=100, opacity=0.9)
            .encode(
                shape=alt.Shape(
                    "kind:N",
                    scale=alt.Scale(domain=kinds, range=[_SHAPES[kind] for kind in kinds]),
                    legend=alt.Legend(**theme.legend(kinds, layout)),
                ),
                tooltip=[
                    *(alt.Tooltip(f"{name}:N") for name in ("roof", "name", "verdict")),
                    alt.Tooltip("gflops_per_second:Q", title="GFLOP/s", format=",.6~g"),
                    alt.Tooltip("intensity_flops_per_byte:Q", title="FLOP a byte", format=",.4~g"),
                    alt.Tooltip("achieved_flops_per_second_n:Q", title="processes (n)"),
                ],
            )
        )
        return alt.layer(roofs.encode(order="order:O"), points)

    descriptions = [
        f"{d['name']} on {d['roof']} reaches {read_number(d, 'gflops_per_second'):.4g} GFLOP/s at "
        f"{read_number(d, 'intensity_flops_per_byte'):.3g} FLOP a byte"
        for d in data
        if d["kind"] in STEPS
    ]
    caption = (
        "The slope is the measured copy bandwidth, the level the best matrix product measured on the same device in the same "
        "run. A training step's bytes are the least it must move (each activation five times, each parameter eight), so its "
        "point lies as far right as it can: below the roof by what the kernels leave unused."
    )
    caption += " An inference step moves activations twice and parameters once." if STEPS[1] in kinds else ""
    caption += more
    alt_text = f"Roofline on log scales: {'; '.join(descriptions[:12])}."
    return theme.make_chart(
        "roofline", "Roofline: how far each step is from what its device can do", alt_text, caption, data, draw
    )
