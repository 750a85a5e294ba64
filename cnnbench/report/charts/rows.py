"""Charts of rows side by side: speed-ups, FLOPS printed and FLOP/s achieved, the roofline (what memory and arithmetic of each
processor allow, and how far below its training steps are), peak memory and what the layers need, and energy per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.ceiling import bytes_per_step
from cnnbench.analysis.metrics import find_workload, name_baseline, step_flops
from cnnbench.analysis.ratio import PublishedResult, group_by
from cnnbench.analysis.rows import Row
from cnnbench.analysis.stats import COVERS, Estimate
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    describe_texts,
    identity,
    keep_different,
    keep_evenly,
    keep_fastest,
    label_published,
    label_rows,
    list_numbers,
    list_values,
    one_line,
    series_names,
    tell_apart,
)
from cnnbench.report.charts.kinds import (
    WHERE,
    ChartSpec,
    Shown,
    Specification,
    TooltipField,
    choose,
    colour_series,
    count_processes,
    draw_bars,
    draw_points,
    frame_rows,
    layer,
    list_estimate,
    number,
    share,
    show_rows,
    word,
)
from cnnbench.report.model import Datum
from cnnbench.report.table_builder import metric_cell

OVER_PUBLISHED = "speedup_over_reference"
PUBLISHED, MEASURED = "published in 2017", "measured"
PROJECTED, BASELINE = "projected from timed steps", "baseline"


def _select_over_published(chart_data: ChartData) -> Shown:
    """Select the lecture's chart: its published rows in grey, every measured row of the same job beside them."""
    comparison = chart_data.comparison
    base = comparison.published_cpu
    if base is None:
        return Shown([])
    rows, more = keep_fastest(chart_data.training, lambda row: row.speedup_over_published)
    data = [
        {
            **own,
            "kind": PUBLISHED,
            "text": units.ratio(found.speedup),
            **cells.values(OVER_PUBLISHED, Estimate(found.speedup, None, None, 1)),
        }
        for found, own in label_published(comparison.published_rows)
        if found.speedup is not None
    ]
    for row, own in label_rows(rows):
        kind = f"{MEASURED}, whole job" if row.job_kind == "measured" else PROJECTED
        text = metric_cell(row, OVER_PUBLISHED).text
        data.append({**own, "kind": kind, "text": text, **cells.values(OVER_PUBLISHED, row.speedup_over_published)})
    blanks = {"processor": base.processor, "year": str(base.year), "seconds": units.count(base.job_seconds)}
    return Shown(_sort(data, OVER_PUBLISHED), more, blanks)


def _select_over_cpu(chart_data: ChartData) -> Shown:
    """Select every row with its speed-up over the CPU row of the same work, or over the baseline asked for.

    The chart is left out if each row is only compared with itself.
    """
    wanted = {row.work_key for row in chart_data.training if row.speedup and not row.speedup.is_baseline}
    compared = [row for row in chart_data.training if row.work_key in wanted]
    rows, more = keep_fastest(compared, lambda row: None if row.speedup is None else row.speedup.ratio)
    data = [
        {
            **own,
            "kind": BASELINE if row.speedup.is_baseline else MEASURED,
            "baseline": name_baseline(row),
            "text": metric_cell(row, "speedup").text,
            **cells.values("speedup", row.speedup.ratio),
        }
        for row, own in label_rows(rows, batch=True)
        if row.speedup is not None
    ]
    key = chart_data.comparison.baseline
    names = "; ".join(sorted(list_values(data, "baseline"))[:4])
    whom = "CPU row" if key is None else f"row of {key}"
    return Shown(_sort(data, "speedup"), more, {"baseline": key or "the CPU baseline", "whom": whom, "names": names})


def _sort(data: Sequence[Datum], value: str) -> list[Datum]:
    """Sort marks, slowest first, and add the place where each bar ends."""
    for datum in data:
        datum["edge"] = max(1.0, *list_numbers([datum], value, f"{value}_low", f"{value}_high"))
    return sorted(data, key=lambda datum: (datum[value], datum["label"]))


def _declare_speed(value: str, **texts: Any) -> ChartSpec:
    """Declare one of the two charts of speed-ups, which look alike."""
    draw = partial(
        draw_points,
        value=value,
        axis="times the speed (log scale)",
        tooltip=(*WHERE, "kind", *list_estimate(value, "times the speed", ".6g"), "work"),
        colours={PUBLISHED: theme.GREY, BASELINE: theme.GREY, PROJECTED: theme.ORANGE},
        stems=True,
    )
    return ChartSpec(alt="{title}, on a log scale: {marks}.", describe=describe_texts, draw=draw, **texts)


PRINTED, THEORETICAL, CEILING, ACHIEVED = "printed", "theoretical peak", "measured peak (GEMM)", "achieved in the job"
_SHAPES = {PRINTED: "diamond", THEORETICAL: "diamond", CEILING: "square", ACHIEVED: "circle"}


def describe_point(published_rows: tuple[PublishedResult, ...]) -> str:
    """Compare the fastest published row with the published CPU; empty without both.

    Example: `264 times the FLOPS, 19 times the speed`.
    """
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
    """Select one row per processor: the FLOP/s promised, and those that the job achieved."""
    same = [row for row in chart_data.training if row.speedup_over_published is not None]
    rows, more = keep_fastest(same or chart_data.training, lambda row: row.flops_per_second)
    more += _explain_zeros(chart_data)
    data: list[Datum] = []
    for found, own in label_published(chart_data.comparison.published_rows):
        if found.flops_per_second is not None:
            printed = found.published.printed_flops_per_second
            data += _mark_known(own, PUBLISHED, {PRINTED: printed, ACHIEVED: found.flops_per_second})
    for row, own in label_rows(rows[::-1]):
        estimates = {CEILING: row.ceiling_flops_per_second, ACHIEVED: row.flops_per_second}
        reached = {kind: each.value if each else None for kind, each in estimates.items()}
        data += _mark_known(own, MEASURED, {THEORETICAL: row.peak_flops_per_second, **reached})
    return Shown(data, more)


def _explain_zeros(chart_data: ChartData) -> str:
    """Explain why rows whose kernels leave out products with zeros have no mark; empty without such rows."""
    if not any(row.model_flops_per_second for row in chart_data.training):
        return ""
    return " Rows whose kernels leave out products with zeros are not drawn: their model FLOP/s have no peak."


def _mark_known(own: Datum, source: str, flops_per_second: Mapping[str, float | None]) -> Iterator[Datum]:
    """Make a mark for each known figure; only the least and the greatest have room for their value."""
    known = {kind: value for kind, value in flops_per_second.items() if value is not None}
    sides = {min(known.values()): "least", max(known.values()): "most"}
    for kind, value in known.items():
        figures = {"flops_per_second": value, "gflops_per_second": value / 1e9, "text": units.giga(value)}
        yield {**own, "source": source, "kind": kind, **figures, "side": sides.get(value, "")}


def _draw_flops(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw a line from each row's least to its greatest figure, hollow marks for promised ones, filled for the job."""
    data = shown.data
    before, after = (
        theme.text_width(datum["text"] for datum in data if datum["side"] == side) for side in ("least", "most")
    )
    figures = list_numbers(data, "gflops_per_second")
    scale = theme.log_scale_with_room(figures, layout.width, before=before, after=after)
    x = number("gflops_per_second", **theme.log_axis(scale, layout, "GFLOP/s (log scale)", layout.width))
    colour = choose(data, "source", {PUBLISHED: theme.GREY, MEASURED: theme.BLUE})
    flops = TooltipField("gflops_per_second", "GFLOP/s", ",.6~g")
    tooltip = (*WHERE, "precision", "kind", flops, "work")
    shape = choose(data, "kind", _SHAPES, layout)
    marks = partial(layer, "point", shape=shape, tooltip=tooltip, size=120, strokeWidth=2)
    text = partial(layer, "text", text=word("text"), color={"value": theme.MUTED})
    return frame_rows(
        data,
        layout,
        {"x": x, "color": colour},
        layer("line", detail=word("label"), strokeWidth=3, opacity=0.3),
        marks(when=f"(datum.kind !== '{ACHIEVED}')", filled=False),
        marks(when=f"(datum.kind === '{ACHIEVED}')"),
        text(when="(datum.side === 'least')", align="right", dx=-10),
        text(when="(datum.side === 'most')", align="left", dx=10),
    )


def _describe_flops(data: Sequence[Datum]) -> Iterator[str]:
    for label in list_values(data, "label"):
        parts = [f"{datum['kind']} {datum['text']}" for datum in data if datum["label"] == label]
        yield f"{one_line(label)}: {', '.join(parts)}"


STEPS = ("training step", "inference step")
_STEP_SHAPES = {STEPS[0]: "circle", STEPS[1]: "triangle-up", "matrix product": "square"}
COPY = "copy_bytes_per_second"
X, Y, RATE = "intensity_flops_per_byte", "gflops_per_second", "achieved_flops_per_second"


def _select_roofs(chart_data: ChartData) -> Shown:
    """Select roofs from the measured copy bandwidth and the best GEMM, and each workload's point below its roof."""
    alone = (row for row in chart_data.training if row.job.processes == 1)
    known = (row for row in alone if row.ceiling_flops_per_second and row.floors.get(COPY) and row.flops_per_second)
    by_place = group_by(known, _place)
    heights = {
        place: max(row.ceiling_flops_per_second.value for row in rows if row.ceiling_flops_per_second)
        for place, rows in by_place.items()
    }
    places = sorted(by_place, key=lambda place: (-heights[place], place))
    shown, more = keep_different(places, lambda place: place[3:], 6, "processors")
    firsts = [by_place[place][0] for place in shown]
    words = [(naming.processor_name(row.device), naming.place_label(row.job), row.job.precision) for row in firsts]
    names = dict(zip(shown, series_names(tell_apart(words, firsts)), strict=True))
    data: list[Datum] = []
    for place, name in names.items():
        data += _mark_roof(name, by_place[place], heights[place])
        data += [datum for row in by_place[place] for datum in _mark_point(row, name)]
    for row in chart_data.comparison.rows:
        if row.job.workload == "gemm" and row.flops_per_second and _place(row) in names:
            data += _mark_point(row, names[_place(row)])
    if any(datum["kind"] == STEPS[1] for datum in data):
        more = f" An inference step moves activations twice and parameters once.{more}"
    more += _explain_zeros(chart_data)
    return Shown(data, more)


def _place(row: Row) -> tuple[str, ...]:
    """Identify a roof; processors of one kind differ only in the first three fields: machine, device and run."""
    job, run = row.job, row.ceiling_run_id or row.run_id
    return row.machine.id, job.device, run, row.device.name, f"{row.device.kind} {job.threads}", job.precision


def _mark_roof(place: str, rows: list[Row], ceiling: float) -> Iterator[Datum]:
    """Mark the three corners of the roof: from the left edge up the bandwidth's slope to the ridge, then level."""
    ridge = ceiling / max(row.floors[COPY] for row in rows)
    corners = [(ridge / 16, ceiling / 16), (ridge, ceiling), (max(1000.0, 4 * ridge), ceiling)]
    for order, (x, y) in enumerate(corners):
        where = {"machine": rows[0].machine.id, "run": rows[0].run_id}
        yield {"kind": "roof", "roof": place, "order": order, **where, X: x, Y: y / 1e9}


def _mark_point(row: Row, place: str) -> Iterator[Datum]:
    """Mark a step, if its bytes and FLOPs are known, or a matrix product.

    A product of side n reads two matrices and writes one: 2 n^3 FLOP over 3 n^2 values.
    """
    job, rate = row.job, row.values["flops_per_second"]
    side, moved, flops = job.size or 1, bytes_per_step(job), step_flops(job)
    if job.workload == "gemm":
        size = 2 if job.precision in ("bf16", "fp16") else 4  # bytes per value
        own = {"kind": "matrix product", "name": f"gemm {units.count(side)}", X: 2 * side / (3 * size)}
    elif moved is not None and flops is not None:
        # The roof names the precision.
        name = f"{' '.join((job.workload, *naming.deviations(job, 'precision')))}, batch {job.batch_size}"
        verdict = "n/a" if row.bottleneck is None else row.bottleneck.summary
        own = {"kind": f"{job.task} step", "name": name, X: flops / moved, "verdict": verdict}
    else:
        return
    yield {**identity(row), "roof": place, **own, Y: rate.value / 1e9, **cells.values(RATE, rate)}


def _draw_roofs(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw roofs as lines and steps and products as points, on two log axes."""
    data = shown.data
    x_scale = theme.log_scale(list_numbers(data, X), below=1, above=1)
    y_scale = theme.log_scale(list_numbers(data, Y), below=1.3, above=1.5)
    x_title = "arithmetic intensity, FLOP per byte (log scale)"
    shared = {
        "x": number(X, **theme.log_axis(x_scale, layout, x_title, layout.whole)),
        "y": number(Y, **theme.log_axis(y_scale, layout, "GFLOP/s (log scale)")),
        "color": colour_series(data, "roof", symbolOpacity=1),
    }
    rates = (TooltipField(Y, "GFLOP/s", ",.6~g"), TooltipField(X, "FLOP per byte", ",.4~g"), count_processes(RATE))
    roof, point = (f"(datum.kind {same} 'roof')" for same in ("===", "!=="))
    shape, tooltip = choose(data, "kind", _STEP_SHAPES, layout), ("roof", "name", "verdict", *rates)
    layers = [
        layer("line", order={"field": "order", "type": "ordinal"}, when=roof, strokeWidth=2.5),
        layer("point", shape=shape, tooltip=tooltip, when=point, size=100, opacity=0.9),
    ]
    return share(shared, layout.whole, 300, layers)


MARK, ANALYTIC = "measured high-water mark", "analytic: what the layers need"
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""Values that the optimiser stores per weight."""
JOULES = "energy_joules_per_image"


def _select_memory(chart_data: ChartData) -> Shown:
    """Select the peak memory of each row, and the least its training needs by the shapes of the layers."""
    known = [row for row in chart_data.training if _read_mark(row) is not None]
    known.sort(key=lambda row: (row.job.batch_size, row.device.kind, _read_mark(row), row.row_key))
    return show_rows(keep_evenly(known), _mark_memory)


def _mark_memory(row: Row) -> Iterator[Datum]:
    where = "the device's allocator" if row.device.kind != "cpu" else "the whole process"
    for kind, size in ((MARK, _read_mark(row)), (ANALYTIC, compute_needed_bytes(row))):
        if size is not None:
            yield {"kind": kind, "bytes": size, "mib": size / 2**20, "text": units.data_size(size), "where": where}


def _read_mark(row: Row) -> int | None:
    """Read the peak memory in bytes: the allocator's on a device, the process's on a CPU."""
    return row.host_peak_bytes if row.device.kind == "cpu" else row.device_peak_bytes


def compute_needed_bytes(row: Row) -> int | None:
    """Compute the bytes layers need: activations of a batch, weights, gradients, optimiser state; None if unknown."""
    workload = find_workload(row.job)
    state = STATE_COPIES.get(row.job.optimizer or "")
    if workload is None or state is None or row.job.precision not in ("fp32", "tf32") or row.job.task == "inference":
        return None
    return row.job.rank_batch * workload.activation_bytes_per_image + (2 + state) * workload.parameter_bytes


def _mark_energy(row: Row) -> Iterator[Datum]:
    if row.energy is not None:
        joules = row.energy.gross_joules
        yield {"text": units.joules(joules.value), "watts": row.energy.watts, **cells.values(JOULES, joules)}


CHARTS = (
    _declare_speed(
        OVER_PUBLISHED,
        key="speedup",
        section="lecture",
        title="Speed-up over the {processor} of {year}, the same training job",
        caption="Times the speed of the {processor} (its published {seconds} s; the job is assumed, since the source does not "
        f"say what was timed). Bars: {COVERS}, from three on.",
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
    ChartSpec(
        key="roofline",
        section="why",
        title="Roofline: how far each step is from what its device can do",
        alt="Roofline on log scales: {marks}.",
        caption="The slope is the measured copy bandwidth, the level the best matrix product measured on the same device in the "
        "same run. A training step's bytes are the least it must move (each activation five times, each parameter eight), so "
        "its point is as far right as it can be: below the roof by what the kernels leave unused.",
        select=_select_roofs,
        describe=lambda data: [
            f"{d['name']} on {d['roof']} reaches {d[Y]:.4g} GFLOP/s at {d[X]:.3g} FLOP per byte"
            for d in data
            if d["kind"] in STEPS
        ][:12],
        draw=_draw_roofs,
    ),
    _declare_speed(
        "speedup",
        key="speedup-cpu",
        section="training",
        title="Speed-up over {baseline}",
        caption="Same work, over the fastest {whom} ({names}). Bars: "
        f"{COVERS}; of a baseline in another run also how much runs differ.",
        select=_select_over_cpu,
    ),
    ChartSpec(
        key="memory",
        section="resources",
        title="Memory, measured against what the layers need",
        caption="Measured: on a GPU the allocator's peak; on a CPU the whole process, interpreter, libraries and data included, "
        "so that only its growth over batch sizes compares with the analytic figure. Analytic: one batch's forward activations "
        "in float32, and weights, gradients and the optimiser's state once each.",
        select=_select_memory,
        describe=lambda data: [f"{one_line(d['label'])}: {d['text']} {d['kind'].partition(':')[0]}" for d in data],
        draw=partial(
            draw_bars,
            value="mib",
            axis="MiB",
            tooltip=(*WHERE, "kind", "where", TooltipField("bytes", number=",d"), "work"),
            colours={MARK: theme.BLUE, ANALYTIC: theme.GREY},
            ink=theme.MUTED,
            ticks=6,
            number_format=",~r",
            mark=30,  # pixels that two bars with a line of text each need
        ),
    ),
    ChartSpec(
        key="energy",
        section="resources",
        title="Energy per image",
        alt="{title}: {marks}.",
        caption="From the counter named in the table, over a window of at least 10 s; idle power is included.",
        select=lambda chart_data: show_rows(
            keep_evenly([row for row in chart_data.training if row.energy]), _mark_energy
        ),
        describe=describe_texts,
        draw=partial(
            draw_points,
            value=JOULES,
            axis="joules per image, gross (log scale)",
            tooltip=(
                *WHERE,
                "precision",
                TooltipField(JOULES, "J per image", ".6g"),
                TooltipField("watts", "mean power, W", ".4~g"),
                count_processes(JOULES),
            ),
            colours=theme.GREEN,
            interval=False,
        ),
    ),
)
