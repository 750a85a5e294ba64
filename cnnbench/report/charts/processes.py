"""Charts of single processes: their accuracy over time, and the spread of their timed blocks around the row's mean."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from operator import attrgetter

from cnnbench import naming, units
from cnnbench.analysis import stats
from cnnbench.analysis.rows import Row
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import (
    ChartData,
    identity,
    keep_different,
    list_numbers,
    list_values,
    one_line,
    row_names,
    series_names,
)
from cnnbench.report.charts.kinds import (
    WHERE,
    ChartSpec,
    Shown,
    Specification,
    TooltipField,
    choose,
    colour_series,
    frame_rows,
    layer,
    number,
    place,
    share,
    show_rows,
)
from cnnbench.report.model import Datum
from cnnbench.schema import Evaluation, Record, Trial

MOST_POINTS = 100
"""Most points of one curve; longer ones are thinned evenly, the last point kept."""
SAMPLE, WHOLE, FINAL = "sample after an epoch", "every test image, on the way to a target", "all test images at the end"
_SHAPES = {SAMPLE: "circle", WHOLE: "square", FINAL: "diamond"}
LearningCurve = tuple[Row, Record, Trial]


def _select_curves(chart_data: ChartData) -> Shown:
    """Select one curve per process, also of those that missed their target, from as many kinds of row as possible."""
    curves = [
        (row, record, trial)
        for row in chart_data.training
        for record, trial in chart_data.list_trials(row, missed=True)
        if trial.epoch_evaluations
    ]
    kind = attrgetter("device.name", "job.precision", "job.workload", "job.target")
    shown, more = keep_different(curves, lambda curve: kind(curve[0]), 6, "processes")
    pairs = zip(shown, series_names(_name_curves(shown)), strict=True)
    data = [{**identity(curve[0]), **datum, "series": name} for curve, name in pairs for datum in _mark_curve(*curve)]
    return Shown(data, _explain_points(data) + more)


def _name_curves(curves: Sequence[LearningCurve]) -> Iterator[tuple[str, ...]]:
    """Name each curve; if networks or targets must be named, what all share is omitted to save room."""
    rows = [row for row, _, _ in curves]
    several = len({row.job.workload for row in rows}) > 1
    aimed = several or any(row.job.target is not None for row in rows)
    places = {(row.machine.id, naming.processor_name(row.device), naming.place_label(row.job)) for row in rows}
    for (row, record, _), name in zip(curves, row_names(rows), strict=True):
        network = (row.job.workload,) if several else ()
        target = () if row.job.target is None else (f"to {units.exact_percent(row.job.target)}",)
        where = name[:2]
        if aimed and len(places) == 1:
            shared = naming.place_label(row.job).removeprefix("cpu, ")
            where = ("", name[1].removeprefix(shared).removeprefix(", "))
        yield (*where, *network, *target, name[3], f"process {record.job.round + 1}")


def _mark_curve(row: Row, record: Record, trial: Trial) -> list[Datum]:
    """Mark each evaluation's share right at its job-clock time, pre-training and evaluations so far included."""
    clock = trial.pretraining_seconds or 0.0
    kind = WHOLE if row.job.clock in ("accuracy", "recipe") else SAMPLE
    found = []

    def mark(kind: str, evaluation: Evaluation, **accuracy: float | None) -> Datum:
        counts = {"after_steps": evaluation.after_steps, "images": evaluation.images}
        return {"index": record.index, "kind": kind, "minutes": clock / 60, **counts, **accuracy}

    for block, each in zip(trial.block_seconds, trial.epoch_evaluations, strict=False):
        clock += block + each.seconds
        found.append(mark(kind, each, accuracy=each.correct / each.images))
    thinned = [*found[: -1 : max(1, -(-len(found) // MOST_POINTS))], *found[-1:]]
    if (test := trial.test) and test.images:
        right = stats.wilson(test.correct, test.images)
        thinned.append(mark(FINAL, test, accuracy=right.value, accuracy_low=right.low, accuracy_high=right.high))
    return thinned


def _draw_curves(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw a line for each curve, small marks on it, and a large one at its end."""
    data = shown.data
    colour = colour_series(data, "series")
    series = colour["scale"]["domain"]
    floor = max(0.0, min(list_numbers(data, "accuracy")) - 0.01)
    axis = {"format": ".1%", "gridOpacity": 0.7}
    shared = {
        "x": _encode_minutes(data, series, layout),
        "y": number("accuracy", title="test accuracy", scale={"domain": [floor, 1], "nice": False}, axis=axis),
        "color": colour if len(series) > 1 else {**colour, "legend": None},
    }
    tooltip = (
        "series",
        "kind",
        TooltipField("minutes", number=",.4~g"),
        TooltipField("accuracy", number=".2%"),
        TooltipField("images", "test images", ",d"),
        TooltipField("after_steps", "after steps", ",d"),
    )
    kinds = {kind: _SHAPES[kind] for kind in sorted(list_values(data, "kind"), key=lambda kind: kind == FINAL)}
    shape = choose(data, "kind", kinds, layout)
    on_the_way, at_the_end = (f"(datum.kind {same} '{FINAL}')" for same in ("!==", "==="))
    points = partial(layer, "point", shape=shape, tooltip=tooltip)
    layers = [
        layer("line", when=on_the_way, strokeWidth=1.5, opacity=0.6),
        points(when=on_the_way, size=22),
        points(when=at_the_end, size=160),
    ]
    return share(shared, layout.whole, 260, layers)


def _encode_minutes(data: Sequence[Datum], series: Sequence[str], layout: theme.ChartLayout) -> Specification:
    """Encode the job clock, on a log axis if the slowest job takes many times as long as the fastest."""
    ends = [max(list_numbers((d for d in data if d["series"] == name), "minutes")) for name in series]
    title = "minutes on the job clock"
    if max(ends) <= 8 * min(ends):  # beyond it a linear axis would press the fast ones together
        return number("minutes", title=title, scale={}, axis={"format": ",~r", "gridOpacity": 0.7})
    title = f"{title} (log scale)"
    log = theme.log_axis(theme.log_scale(list_numbers(data, "minutes")), layout, title, layout.whole)
    return number("minutes", title=title, **log)


def _explain_points(data: Sequence[Datum]) -> str:
    """Explain the points: those of a sample vary by chance, and those on the way to a target stop the training."""
    sentences = []
    sizes = sorted({datum["images"] for datum in data if datum["kind"] == SAMPLE})
    if sizes:
        half = 1.96 * (0.99 * 0.01 / sizes[0]) ** 0.5  # half a 95 % interval of a share near 99 % on so many images
        sentences.append(
            f"The job's own evaluations are on samples of {' or '.join(map(units.count, sizes))} random test images, so a "
            f"single point moves by about {units.percent(half, 1)} by chance alone: a sample that is all right "
            "does not mean 100 %."
        )
    if any(datum["kind"] == WHOLE for datum in data):
        sentences.append(
            "On the way to a target every evaluation is of all test images and counts in the time; a line ends where the "
            "target was first reached, or at its epoch limit."
        )
    return " ".join(sentences)


MOST_PROCESSES = 90
"""Most processes drawn, those of the noisiest rows first: more lines could not be distinguished."""
PERCENTILES = ("block_p05", "block_p50", "block_p95")


def _select_noise(chart_data: ChartData) -> Shown:
    """Select the noisiest rows, with the spread of each process's blocks."""
    blocks = [(row, found) for row in chart_data.comparison.rows if (found := _mark_blocks(chart_data, row))]
    blocks.sort(key=lambda pair: (-_spread(pair[1]), pair[0].row_key, pair[0].run_id))
    totals = accumulate(len(chart_data.list_trials(row)) for row, _ in blocks)
    shown = [row for (row, _), total in zip(blocks, totals, strict=True) if total <= MOST_PROCESSES]
    shown = shown or [row for row, _ in blocks[:1]]
    left_out = len(blocks) - len(shown)
    more = f" The noisiest rows are drawn; {left_out} quieter ones are left out." if left_out else ""
    return show_rows((shown, more), lambda row: _mark_blocks(chart_data, row))


def _spread(data: Sequence[Datum]) -> float:
    """Compute the widest 5-95 % span of a row's blocks over their mean."""
    ends = list_numbers(data, "block_p05", "block_p95")
    return max(ends) - min(ends)


def _mark_blocks(chart_data: ChartData, row: Row) -> list[Datum]:
    """Make one mark for each process: percentiles of its block times over the row's mean step (1 is the mean)."""
    found = []
    for record, trial in chart_data.list_trials(row) if row.step_seconds else ():
        mean = row.values["step_seconds"].value
        steps = [seconds / trial.steps_per_block / mean for seconds in trial.block_seconds]
        if len(steps) > 1 and min(steps) > 0:
            own = {"index": record.index, "round": record.job.round + 1, "blocks": len(steps)}
            found.append({**own, **dict(zip(PERCENTILES, quantiles(steps), strict=True))})
    return found


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Compute the 5th, 50th and 95th percentile, linear between order statistics (R's type 7)."""
    cuts = statistics.quantiles(sorted(values), n=20, method="inclusive")
    return cuts[0], cuts[9], cuts[18]


def _draw_noise(shown: Shown, layout: theme.ChartLayout) -> Specification:
    """Draw a line for each process from its 5th to its 95th percentile, the median as a mark on it."""
    data = shown.data
    labels = Counter(datum["label"] for datum in data)
    height = min(60, max(theme.MARK, 7 * max(labels.values())))  # pixels, 7 from one process's line to the next
    ends = list_numbers(data, *PERCENTILES)
    signed = "datum.value == 1 ? '0 %' : format(datum.value - 1, '+.0%')"
    x = place(
        title="block time relative to the mean",
        scale={"domain": [min(0.95, *ends), max(1.05, *ends)], "nice": False},
        axis={"format": "+.0%", "gridOpacity": 0.7, "tickCount": 4 if layout.narrow else 6, "labelExpr": signed},
    )
    low, middle, high = PERCENTILES
    parts = (TooltipField(name, f"{name[-2:]}th percentile, of the mean", ".4f") for name in PERCENTILES)
    tooltip = (*WHERE, "work", "round", TooltipField("blocks", "timed blocks"), *parts)
    return frame_rows(
        data,
        layout,
        {"yOffset": {"field": "round", "type": "ordinal"}},
        layer("rule", x=x(low), x2={"field": high}, strokeWidth=2.5, opacity=0.5, color=theme.BLUE),
        layer("point", x=x(middle), tooltip=tooltip, size=42, color=theme.BLUE),
        mark=height,
        bars=True,
    )


def _describe_noise(data: Sequence[Datum]) -> Iterator[str]:
    for label in list_values(data, "label"):
        own = [datum for datum in data if datum["label"] == label]
        ends = list_numbers(own, "block_p05", "block_p95")
        yield f"{one_line(label)}: {min(ends) - 1:+.0%} to {max(ends) - 1:+.0%} in {len(own)} processes"


CHARTS = (
    ChartSpec(
        key="learning",
        section="learning",
        title="Accuracy over time",
        caption="",
        select=_select_curves,
        describe=lambda data: [
            f"{d['series']}: {units.percent(d['accuracy'])} at the end" for d in data if d["kind"] == FINAL
        ],
        draw=_draw_curves,
    ),
    ChartSpec(
        key="noise",
        section="noise",
        title="Noise within and between processes",
        alt="Block times by process. {marks}.",
        caption="One line per process: from the 5th to the 95th percentile of its timed blocks, the median marked; 0 % is the "
        "mean of the row. Marks apart from one another are noise between processes, long lines noise within one. Error bars "
        "elsewhere are between processes.",
        select=_select_noise,
        describe=_describe_noise,
        draw=_draw_noise,
    ),
)
