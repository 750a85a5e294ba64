"""Memory measured against what the layers need, and energy an image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cnnbench import units
from cnnbench.analysis.metrics import find_workload
from cnnbench.analysis.rows import Row
from cnnbench.report import cells
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import ChartData, describe_texts, keep_evenly, one_line
from cnnbench.report.charts.kinds import (
    WHERE,
    ChartSpec,
    Shown,
    TooltipField,
    count_processes,
    draw_bars,
    draw_points,
    show_rows,
)
from cnnbench.report.model import Datum

MARK, ANALYTIC = "measured high-water mark", "analytic: what the layers need"
STATE_COPIES = {"sgd": 0, "momentum": 1, "rmsprop": 1, "rmsprop-tf1": 1, "adam": 2}
"""Values that the optimiser keeps of each weight."""
TWO_BARS = 30
"""Pixels that two bars with a line of text each need."""
JOULES = "energy_joules_per_image"


def _select_memory(chart_data: ChartData) -> Shown:
    """Select the high-water mark of each row, beside the least that the layers' shapes say its training needs."""
    known = [(row, mark) for row in chart_data.training if (mark := _read_mark(row)) is not None]
    known.sort(key=lambda pair: (pair[0].job.batch_size, pair[0].device.kind, pair[1], pair[0].row_key))
    return show_rows(keep_evenly([row for row, _ in known]), _mark_memory)


def _mark_memory(row: Row) -> Iterator[Datum]:
    where = "the device's allocator" if row.device.kind != "cpu" else "the whole process"
    for kind, size in ((MARK, _read_mark(row)), (ANALYTIC, compute_needed_bytes(row))):
        if size is not None:
            yield {"kind": kind, "bytes": size, "mib": size / 2**20, "text": units.data_size(size), "where": where}


def _read_mark(row: Row) -> int | None:
    """Read on a device the allocator's peak, on a CPU the process's."""
    return row.host_peak_bytes if row.device.kind == "cpu" else row.device_peak_bytes


def compute_needed_bytes(row: Row) -> int | None:
    """Compute what the layers need: one batch's activations, weights, gradients and the optimiser's state; None if unknown."""
    workload = find_workload(row.job)
    state = STATE_COPIES.get(row.job.optimizer or "")
    if workload is None or state is None or row.job.precision not in ("fp32", "tf32") or row.job.task == "inference":
        return None
    return row.job.rank_batch * workload.activation_bytes_per_image + (2 + state) * workload.parameter_bytes


def _select_energy(chart_data: ChartData) -> Shown:
    """Select the rows with a counter that was read."""
    return show_rows(keep_evenly([row for row in chart_data.training if row.energy is not None]), _mark_energy)


def _mark_energy(row: Row) -> Iterator[Datum]:
    if row.energy is not None:
        joules = row.energy.gross_joules
        yield {"text": units.joules(joules.value), "watts": row.energy.watts, **cells.values(JOULES, joules)}


CHARTS = (
    ChartSpec(
        key="memory",
        section="resources",
        title="Memory, measured against what the layers need",
        alt="{title}. {marks}.",
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
            mark=TWO_BARS,
        ),
    ),
    ChartSpec(
        key="energy",
        section="resources",
        title="Energy an image",
        alt="{title}: {marks}.",
        caption="From the counter named in the table, over a window of at least 10 s; idle power is in it.",
        select=_select_energy,
        describe=describe_texts,
        draw=partial(
            draw_points,
            value=JOULES,
            axis="joules an image, gross (log scale)",
            tooltip=(
                *(*WHERE, "precision", TooltipField(JOULES, "J an image", ".6g")),
                *(TooltipField("watts", "mean power, W", ".4~g"), count_processes(JOULES)),
            ),
            colours=theme.GREEN,
            interval=False,
        ),
    ),
)
