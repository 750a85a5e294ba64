"""The roofline: what memory and arithmetic of each processor allow, and how far below it its training steps are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnbench import naming, units
from cnnbench.analysis.ceiling import bytes_per_step
from cnnbench.analysis.metrics import step_flops
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.rows import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    identity,
    keep_different,
    list_numbers,
    name_series,
)
from cnnbench.report.charts.kinds import (
    ChartSpec,
    Shown,
    Specification,
    TooltipField,
    choose,
    colour_series,
    count_processes,
    layer,
    number,
    share,
)
from cnnbench.report.model import Datum

Place = tuple[str, ...]
MOST_ROOFS = 6
STEPS = ("training step", "inference step")
_SHAPES = {STEPS[0]: "circle", STEPS[1]: "triangle-up", "matrix product": "square"}
COPY = "copy_bytes_per_second"
BYTES = {"fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2}
X, Y, RATE = "intensity_flops_per_byte", "gflops_per_second", "achieved_flops_per_second"


def _select(chart_data: ChartData) -> Shown:
    """Select roofs from the measured copy bandwidth and the best GEMM; each workload's point at its intensity and rate."""
    alone = (row for row in chart_data.training if row.job.processes == 1)
    known = (row for row in alone if row.ceiling_flops_per_second and row.floors.get(COPY) and row.flops_per_second)
    by_place = group_by(known, _place)
    places = sorted(by_place, key=lambda place: (-_height(by_place[place]), place))
    shown, more = keep_different(places, lambda place: place[3:], MOST_ROOFS, "processors")
    firsts = [by_place[place][0] for place in shown]
    words = [(naming.processor_name(row.device), naming.place_label(row.job), row.job.precision) for row in firsts]
    names = dict(zip(shown, name_series(words, firsts), strict=True))
    data: list[Datum] = []
    for place, name in names.items():
        data += _mark_roof(name, by_place[place])
        data += [datum for row in by_place[place] for datum in _mark_point(row, name)]
    products = [row for row in chart_data.gemm if row.flops_per_second and _place(row) in names]
    data += [datum for row in products for datum in _mark_point(row, names[_place(row)])]
    if any(datum["kind"] == STEPS[1] for datum in data):
        more = f" An inference step moves activations twice and parameters once.{more}"
    return Shown(data, more)


def _place(row: Row) -> Place:
    """Tell what has a roof of its own; processors of a kind differ in the first three alone: machine, device and run."""
    job, run = row.job, row.ceiling_run_id or row.run_id
    return row.machine.id, job.device, run, row.device.name, f"{row.device.kind} {job.threads}", job.precision


def _height(rows: Sequence[Row]) -> float:
    return max(row.ceiling_flops_per_second.value for row in rows if row.ceiling_flops_per_second)


def _mark_roof(place: str, rows: list[Row]) -> Iterator[Datum]:
    """Mark the three corners of the roof: from the left edge up the bandwidth's slope to the ridge, then level."""
    ceiling = _height(rows)
    ridge = ceiling / max(row.floors.get(COPY, 0.0) for row in rows)
    corners = [(ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling)]
    for order, (x, y) in enumerate(corners):
        own = {"order": order, "machine": rows[0].machine.id, "run": rows[0].run_id}
        yield {"kind": "roof", "roof": place, **own, X: x, Y: y / 1e9}


def _mark_point(row: Row, place: str) -> Iterator[Datum]:
    """Mark a step, if its bytes and FLOPs are known, or a product: of side n, it reads two matrices and writes one, which is
    2 n^3 FLOP over 3 n^2 values.
    """
    job, rate = row.job, row.flops_per_second
    side, moved, flops = job.size or 1, bytes_per_step(job), step_flops(job)
    own: Datum
    if job.workload == "gemm":
        own = {"kind": "matrix product", "name": f"gemm {units.count(side)}", X: 2 * side / (3 * BYTES[job.precision])}
    elif moved is not None and flops is not None:
        # The precision is the roof's.
        name = f"{' '.join((job.workload, *naming.deviations(job, 'precision')))}, batch {job.batch_size}"
        verdict = "n/a" if row.bottleneck is None else row.bottleneck.summary
        own = {"kind": f"{job.task} step", "name": name, X: flops / moved, "verdict": verdict}
    else:
        return
    reached = {Y: (rate.value if rate else 0.0) / 1e9, **cells.values(RATE, rate)}
    yield {**identity(row), "roof": place, **own, **reached}


def _draw(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw roofs as lines and steps and products as points, on two log axes."""
    data = shown.data
    x_scale = theme.log_scale(list_numbers(data, X), below=1, above=1)
    y_scale = theme.log_scale(list_numbers(data, Y), below=1.3, above=1.5)
    x_title = "arithmetic intensity, FLOP a byte (log scale)"
    shared = {
        "x": number(X, **theme.log_axis(x_scale, layout, x_title, layout.whole)),
        "y": number(Y, **theme.log_axis(y_scale, layout, "GFLOP/s (log scale)")),
        "color": colour_series(data, "roof", symbolOpacity=1),
    }
    rates = (TooltipField(Y, "GFLOP/s", ",.6~g"), TooltipField(X, "FLOP a byte", ",.4~g"), count_processes(RATE))
    roof, point = (f"(datum.kind {same} 'roof')" for same in ("===", "!=="))
    shape, tooltip = choose(data, "kind", _SHAPES, layout), ("roof", "name", "verdict", *rates)
    layers = [
        layer("line", order={"field": "order", "type": "ordinal"}, when=roof, strokeWidth=2.5),
        layer("point", shape=shape, tooltip=tooltip, when=point, size=100, opacity=0.9),
    ]
    return share(shared, layout.whole, 300, layers)


CHARTS = (
    ChartSpec(
        key="roofline",
        section="why",
        title="Roofline: how far each step is from what its device can do",
        alt="Roofline on log scales: {marks}.",
        caption="The slope is the measured copy bandwidth, the level the best matrix product measured on the same device in the "
        "same run. A training step's bytes are the least it must move (each activation five times, each parameter eight), so "
        "its point lies as far right as it can: below the roof by what the kernels leave unused.",
        select=_select,
        describe=lambda data: [
            f"{d['name']} on {d['roof']} reaches {d[Y]:.4g} GFLOP/s at {d[X]:.3g} FLOP a byte"
            for d in data
            if d["kind"] in STEPS
        ][:12],
        draw=_draw,
    ),
)
