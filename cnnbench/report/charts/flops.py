"""FLOPS printed against FLOP/s achieved, and the roofline that says why: what a processor could do, and what the job does."""

from __future__ import annotations

from typing import Any, Literal

from cnnbench import units
from cnnbench.analysis.bound import bytes_per_step
from cnnbench.analysis.compare import Reference, Row
from cnnbench.analysis.frame import step_flops
from cnnbench.report import cells, labels
from cnnbench.report.charts import theme
from cnnbench.report.charts.material import (
    Material,
    axis_labels,
    identity,
    number,
    one_line,
    reference_identity,
    reference_lines,
    row_lines,
)
from cnnbench.report.charts.speed import fastest
from cnnbench.report.model import Chart, Value

Datum = dict[str, Value]
PRINTED, THEORETICAL, CEILING, ACHIEVED = "printed", "theoretical peak", "measured peak (GEMM)", "achieved in the job"
_SHAPES = {PRINTED: "diamond", THEORETICAL: "diamond", CEILING: "square", ACHIEVED: "circle"}
_SIDES: tuple[tuple[str, Literal["left", "right"], int], ...] = (("least", "right", -10), ("most", "left", 10))
MOST_ROOFS = 6
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}


def peak_against_achieved(material: Material) -> Chart | None:
    """The lecture's point, extended: a row a processor, its peak and what the job reached on one log axis."""
    same = [row for row in material.training if row.versus_reference is not None]
    rows = fastest(same or material.training, lambda row: row.flops_per_second)[::-1]
    published = [found for found in material.references if found.flops_per_second is not None]
    if not rows and not published:
        return None
    names = [*map(reference_lines, published), *map(row_lines, rows)]
    marks = [*map(_published, published), *map(_measured, rows)]
    order = axis_labels(names)
    data = [{**datum, "label": label} for label, group in zip(order, marks, strict=True) for datum in group]
    return _dumbbells(data, order)


def the_point(references: tuple[Reference, ...]) -> str:
    """`264 times the FLOPS, 19 times the speed`: the fastest published row against the published CPU; nothing without both."""
    known = [
        (found.speedup, found.published.printed_flops_per_second, found.published)
        for found in references
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


def _published(found: Reference) -> list[Datum]:
    row = found.published
    kept = [(PRINTED, row.printed_flops_per_second), (ACHIEVED, found.flops_per_second)]
    return [
        {**reference_identity(found), "source": theme.PUBLISHED, "kind": kind, "flops_per_second": value}
        for kind, value in kept
        if value is not None
    ]


def _measured(row: Row) -> list[Datum]:
    achieved = None if row.flops_per_second is None else row.flops_per_second.value
    known = [
        (THEORETICAL, row.peak_flops_per_second),
        (CEILING, row.ceiling_flops_per_second),
        (ACHIEVED, achieved),
    ]
    return [
        {**identity(row), "source": theme.MEASURED, "kind": kind, "flops_per_second": value}
        for kind, value in known
        if value is not None
    ]


def _dumbbells(data: list[Datum], order: list[str]) -> Chart:
    import altair as alt

    kinds = [kind for kind in _SHAPES if any(datum["kind"] == kind for datum in data)]
    sources = list(dict.fromkeys(str(datum["source"]) for datum in data))
    for datum in data:
        datum["gflops_per_second"] = number(datum, "flops_per_second") / 1e9
        datum["text"] = units.giga(number(datum, "flops_per_second"))
        datum["side"] = _side(datum, [each for each in data if each["label"] == datum["label"]])
    values = [number(datum, "gflops_per_second") for datum in data]

    def draw(layout: theme.Layout) -> Any:
        room = 3.2 if layout.narrow else 1.8
        scale = theme.log_scale(values, below=room, above=room)
        axis = alt.Axis(**theme.log_axis(scale, layout, "GFLOP/s (log scale)"))
        base = alt.Chart(alt.NamedData("rows"), width=layout.width, height=theme.height(len(order), layout)).encode(
            y=alt.Y("label:N", sort=order, axis=alt.Axis(**theme.label_axis(layout))),
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

    said = []
    for label in order:
        parts = [f"{datum['kind']} {datum['text']}" for datum in data if datum["label"] == label]
        said.append(f"{one_line(label)}: {', '.join(parts)}")
    alt_text = f"GFLOP/s on a log scale, by processor. {'; '.join(said)}."
    caption = (
        "Hollow: what a data sheet (or the slide) promises, and what bare matrix products reach. Filled: model FLOPs of the "
        "training job over its time. Printed and theoretical peaks say little about this job."
    )
    return theme.make("flops", "FLOPS promised against FLOP/s achieved", alt_text, caption, data, draw)


def _side(datum: Datum, row: list[Datum]) -> str:
    """Where its value is written: beside the row's least and greatest, not between them, where there is no room."""
    values = [number(each, "flops_per_second") for each in row]
    own = number(datum, "flops_per_second")
    return "most" if own == max(values) else "least" if own == min(values) else ""


def _colour(source: str) -> str:
    return theme.GREY if source == theme.PUBLISHED else theme.BLUE


def roofline(material: Material) -> Chart | None:
    """Roofs from the measured copy bandwidth and the best GEMM; each workload's point at its intensity and rate."""
    roofed = [
        row for row in material.training if row.ceiling_flops_per_second and _bandwidth(row) and row.flops_per_second
    ]
    places = list(dict.fromkeys(_roof_name(row) for row in roofed))[:MOST_ROOFS]
    if not places:
        return None
    data: list[Datum] = []
    for place in places:
        rows = [row for row in roofed if _roof_name(row) == place]
        data += _roof(place, rows)
        data += [datum for row in rows if (datum := _point(row, place)) is not None]
    data += [
        _product(row, _roof_name(row)) for row in material.gemm if row.flops_per_second and _roof_name(row) in places
    ]
    return _draw_roofline(data, places)


def _bandwidth(row: Row) -> float | None:
    return row.floors.get("copy_bytes_per_second")


def _roof_name(row: Row) -> str:
    return f"{labels.processor(row.device)}, {labels.place(row.job)}, {row.job.precision}"


def _roof(place: str, rows: list[Row]) -> list[Datum]:
    """Three corners of the roof: from the left edge up the bandwidth's slope to the ridge, then level."""
    ceiling = max(row.ceiling_flops_per_second or 0.0 for row in rows)
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
    verdict = "n/a" if row.bound is None else row.bound.verdict
    return {
        **identity(row),
        **{"kind": "training step", "roof": place, "name": f"{row.job.workload}, batch {row.job.batch_size}"},
        **{"intensity_flops_per_byte": flops / moved, "gflops_per_second": row.flops_per_second.value / 1e9},
        **{"verdict": verdict, **cells.values("achieved_flops_per_second", row.flops_per_second)},
    }


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


def _draw_roofline(data: list[Datum], places: list[str]) -> Chart:
    import altair as alt

    xs = [number(datum, "intensity_flops_per_byte") for datum in data]
    ys = [number(datum, "gflops_per_second") for datum in data]
    kinds = [kind for kind in ("training step", "matrix product") if any(d["kind"] == kind for d in data)]

    def draw(layout: theme.Layout) -> Any:
        x_scale, y_scale = theme.log_scale(xs, below=1, above=1), theme.log_scale(ys, below=1.3, above=1.5)
        width = layout.width + (layout.label_limit - 60 if layout.narrow else 0)
        base = alt.Chart(alt.NamedData("rows"), width=width, height=300).encode(
            x=alt.X(
                "intensity_flops_per_byte:Q",
                scale=alt.Scale(**x_scale),
                axis=alt.Axis(**theme.log_axis(x_scale, layout, "arithmetic intensity, FLOP a byte (log scale)")),
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
                    scale=alt.Scale(domain=kinds, range=["circle", "square"]),
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

    said = [
        f"{d['name']} on {d['roof']} reaches {number(d, 'gflops_per_second'):.4g} GFLOP/s at "
        f"{number(d, 'intensity_flops_per_byte'):.3g} FLOP a byte"
        for d in data
        if d["kind"] == "training step"
    ]
    caption = (
        "The slope is the measured copy bandwidth, the level the best matrix product measured on the same device. A training "
        "step's bytes are the least it must move (each activation five times, each parameter eight), so its point lies as far "
        "right as it can: below the roof by what the kernels leave unused."
    )
    alt_text = f"Roofline on log scales: {'; '.join(said[:12])}."
    return theme.make(
        "roofline", "Roofline: how far each step is from what its device can do", alt_text, caption, data, draw
    )
