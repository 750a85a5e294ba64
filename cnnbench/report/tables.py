"""Build a report of a comparison: the tables of rows are declared (columns, titles, clock rule) and built here.

The table of training has the shape of the lecture's; published rows come before its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, Unpack

from cnnbench import naming, units
from cnnbench.analysis.ratio import PublishedResult, compare_copies, find_ladders, find_scaling_sets
from cnnbench.analysis.rows import Row, SeedResult
from cnnbench.analysis.speedup import Comparison
from cnnbench.plain_text import plain
from cnnbench.report import cells, footnotes
from cnnbench.report.arrangement import arrange_tables
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.model import Cell, Column, Line, Report, RowGroup, Table
from cnnbench.report.table_builder import (
    METRICS_HERE,
    PROCESSOR,
    ColumnSpec,
    TableSpec,
    build_table,
    figure,
    find_row,
    left_column,
    metric_cell,
    metric_column,
    require_value,
    wording,
)

precision_column = partial(wording, "precision", "preci-\nsion", read="job.precision")
"""Declare the precision asked for, at a priority."""
outcome_column = partial(left_column, "outcome", "outcome", cell=cells.outcome)
"""Declare how the processes ended, at a priority."""


def title_work(row: Row) -> str:
    """Title the work that rows of a group share."""
    return naming.work_label(row.job, row.protocol)


def order_work(row: Row) -> tuple[int, str, int]:
    """Order measured whole jobs first, then trainings to a target, projections, and rates."""
    place = {"measured": 0, "to target": 1, "projected": 2, None: 3}[row.job_kind]
    return place, row.job.workload, row.job.batch_size


def trains(row: Row) -> bool:
    """Check that a row is of a network, not of a matrix product."""
    return row.job.workload != "gemm"


def _failures(row: Row) -> Iterable[str]:
    return map(plain, row.failures)


def _mode_column(at: str = "") -> ColumnSpec[Any]:
    """Declare the column for the way a row is computed; `at` is the path to the row, with its dot."""
    precision = {"mode_precision": f"{at}job.precision"}
    return wording("mode", "mode", 1, f"{at}job", naming.variant_label, name="", further=precision)


_declare = partial(
    TableSpec[Row], group=title_work, order=order_work, notes=footnotes.build_row_notes, kind=require_value("ok")
)
TRAINING = _declare(
    "training",
    "{what}: the same job on every processor",
    (PROCESSOR, precision_column(1), METRICS_HERE, outcome_column(2)),
    "{clock}",
    select=lambda rows: filter(trains, rows),
)
LECTURE = TableSpec[Row](
    "lecture",
    "The lecture's table, then and now",
    (PROCESSOR, METRICS_HERE),
    "{clock}",
    notes=footnotes.build_row_notes,
)


def _memory(row: Row) -> Cell:
    """Show the most memory held while training: the device's where its allocator counts, else the process's."""
    device = metric_cell(row, "device_peak_bytes")
    return device if device.values["device_peak_bytes"] is not None else metric_cell(row, "host_peak_bytes")


FIRST_SCREEN = TableSpec[Row](
    "first_screen",
    "",
    (
        PROCESSOR,
        *(metric_column(name, 1) for name in ("job_seconds", "speedup", "speedup_over_reference", "flops_per_second")),
        ColumnSpec("memory", "memory", 1, _memory),
    ),
    "~ is projected from timed steps; in brackets 95 % intervals between n fresh processes; published rows as printed, the job "
    "they timed is assumed; memory is the largest while training, of the process or, on a GPU, of the device",
)
"""The lecture's table for a page that says more below: six columns, and at most six rows, see `build_first_screen`."""
RESOURCES = _declare(
    "resources",
    "Memory, energy and cold start: high-water marks, what the layers alone need, what the counter shows",
    (PROCESSOR, precision_column(3), METRICS_HERE),
    "memory marks are of the timed steps alone, process and data included; activations are one image's forward pass; energy "
    "is a window of at least 10 s of further steps; cold start is process spawn to first step",
    select=lambda rows: (row for row in rows if row.ok and trains(row)),
)


def _select_bounded(rows: Sequence[Row]) -> list[Row]:
    """Rows of one process, if floors were measured beside any row."""
    training = [row for row in rows if trains(row)]
    bounded = any(row.bottleneck and row.bottleneck.floors for row in training)
    return [row for row in training if row.job.processes == 1] if bounded else []


BOUNDS = _declare(
    "bounds",
    "Why not N times faster: one step against the floors measured beside it",
    (PROCESSOR, precision_column(2), METRICS_HERE),
    "floors are the best of 5 in the same process: operators x smallest operator, bytes moved at copy speed, FLOPs at the "
    "best GEMM of the same run, one batch drawn; without that GEMM the highest floor is unknown, so no limit is named",
    select=_select_bounded,
)
GEMM = _declare(
    "gemm",
    "Ceiling: what bare matrix products reach",
    (
        PROCESSOR,
        precision_column(1),
        figure("size", "size", 1, "job.size", units.count),
        metric_column("flops_per_second", 1, heading="measured", details="interval and n"),
        wording("ceiling", "", 1, "is_ceiling", lambda best: "ceiling" if best else "", name="is_ceiling"),
        METRICS_HERE,
        figure(
            "products",
            "blocks x products\nafter warm-up",
            5,
            lambda row: f"{row.job.blocks} x {row.job.block_steps} after {row.job.warmup_steps}",
            name="",
            further={"blocks": "job.blocks", "block_steps": "job.block_steps", "warmup_steps": "job.warmup_steps"},
        ),
        outcome_column(2),
    ),
    footnotes.GEMM_CLOCK,
    select=lambda rows: (row for row in rows if not trains(row)),
)


LADDER = TableSpec[Row](
    "ladder",
    "The ladder: the same work on the same device, computed another way on each rung",
    (
        PROCESSOR,
        wording("rung", "rung", 1, "job", naming.step_label, name="", further={"rung_precision": "job.precision"}),
        metric_column("step_seconds", 1),
        metric_column("speed_over_rung_before", 2),
        metric_column("speed_over_first_rung", 1),
        METRICS_HERE,
        outcome_column(3),
        # The reason why a rung has no time, in the words of its processes.
        wording("why_not", "why not", 2, lambda row: "" if row.costs else plain("; ".join(row.reasons)), name=""),
    ),
    "times of rows of different precision are divided here on purpose, to show what each rung brings, and nowhere else; ratios "
    "are of a step (of the whole job where it was measured), paired by round where both ran in it; rungs in a fixed order: "
    "division, precision (fp32, tf32, bf16, fp16), layout, execution, loader; of peak is of the measured peak of the rung's own "
    "run and precision",
    kind=require_value("costs"),
    # The title is the work without what rungs differ in, and the place.
    arrange=lambda rows: (
        (naming.ladder_label(rungs[0].job, rungs[0].protocol), rungs) for rungs in find_ladders(rows)
    ),
)


def _find_scaling(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield the rows of one job on one process and on several ranks, titled with one process's work and the sharding.

    The ranks share the batch of one process, or each rank has a batch of that size.
    """
    for found in find_scaling_sets(rows):
        row = found.points[0]
        alone = row.job.model_copy(update={"world": 1, "scaling": None, "nodes": 1, "batch_size": found.base_batch})
        work = naming.work_label(alone)
        if found.scaling == "weak":
            work = work.replace(f"batch {found.base_batch}", f"{found.base_batch} per rank", 1)
        place = f"on {plain(row.job.device)}{naming.format_protocol(row.protocol)}"
        yield f"{found.scaling}: {work} · {place}", found.points


SCALING = TableSpec[Row](
    "scaling",
    "Scaling: one job on more than one device",
    (
        PROCESSOR,
        wording(
            "scaling",
            "scaling",
            1,
            lambda row: row.job.scaling or "one process",
            name="",
            further={"scaling": "job.scaling", "world": "job.world", "nodes": "job.nodes"},
        ),
        metric_column("step_seconds", 1),
        metric_column("images_per_second", 2),
        metric_column("scaling_speedup", 1),
        metric_column("scaling_efficiency", 1),
        metric_column("exchange_ratio", 1),
        METRICS_HERE,
        outcome_column(2),
    ),
    "blocks begin and end with all ranks, so a step is as long as on the slowest; images are those of all ranks together; scaled "
    "is images per second over those of one process with the fewest threads, paired by round where both ran in it; efficiency is "
    "that over the processors used (cores on a CPU); exchange is the share of a step that is gone in blocks without the exchange "
    "of gradients, timed in turn with blocks with it; memory is the rank's that took most; launch is the part of the cold start "
    "in which the ranks were started and joined",
    notes=_failures,
    kind=require_value("costs"),
    arrange=_find_scaling,
)


COPIES = _declare(
    "copies",
    "Copies: the same job on every device at once, to find the slow one",
    (
        PROCESSOR,
        precision_column(3),
        figure("size", "size", 3, "job.size", units.count),
        figure("copies", "copies", 2, "job.copies", units.count),
        metric_column("median_copy_seconds", 1),
        metric_column("slowest_copy", 1),
        metric_column("slowest_over_median", 1),
        METRICS_HERE,
        outcome_column(2),
    ),
    "copies begin their timed steps together, each is timed by itself; the median is over the copies of a launch, the slowest is "
    "the one that is slowest over all launches; n counts launches; other tables show the slowest copy of each launch",
    order=lambda row: 0,
    notes=_failures,
    select=lambda rows: (compare_copies(row) for row in rows if row.job.copies > 1),
)


def _seeds(row: Row) -> Cell:
    """Show the seeds that reached the target, of all planned, and how the others ended: `7 of 8 (1 missed)`."""
    total, missed = sum(row.outcomes.values()), row.outcomes.get("missed", 0)
    others = tuple(f"{n} {status}" for status, n in cells.list_bad_endings(row))
    return Cell(f"{row.ok} of {total}", {"seeds": total, "seeds_reached": row.ok, "seeds_missed": missed}, others)


def _select_to_target(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if trains(row) and row.job.clock == "accuracy"]


TIME_TO_ACCURACY = _declare(
    "tta",
    "Time to accuracy",
    (
        PROCESSOR,
        _mode_column(),
        figure("target", "target", 2, "job.target", units.exact_percent, name=""),
        left_column("seeds", "seeds that\nreached it", 1, _seeds),
        METRICS_HERE,
        metric_column("step_seconds", 5),
    ),
    "first crossing: first batch drawn to the end of the first evaluation, on all test images, that reaches the target; "
    "evaluations every {every} steps counted, build and compile outside",
    group=lambda row: naming.target_label(row.job, row.protocol),
    order=lambda row: (row.job.workload, row.job.target or 0.0),
    notes=_failures,
    select=_select_to_target,
)


class SeedLine(NamedTuple):
    """One seed of a row."""

    row: Row
    seed: SeedResult


SEEDS = TableSpec[SeedLine](
    "seeds",
    "Time to accuracy, seed by seed",
    (
        PROCESSOR,
        _mode_column("row."),
        figure("seed", "seed", 1, "seed.seed"),
        wording(
            "reached",
            "ended",
            1,
            "seed.reached",
            lambda reached: "reached" if reached else "missed",
            name="reached_target",
            further={"clock_seconds": "seed.clock_seconds"},
        ),
        figure("seconds", "time to\ntarget", 1, "seed.seconds", units.number, name="seconds_to_target", unit="s"),
        figure(
            "steps",
            "steps",
            2,
            "seed.steps",
            units.count,
            name="steps_to_target",
            further={"evaluations": "seed.evaluations"},
        ),
        figure("epochs", "epochs", 3, "seed.epochs", units.number, name="epochs_to_target"),
        figure(
            "last",
            "last\naccuracy",
            2,
            lambda each: each.seed.last.correct / each.seed.last.images,
            units.percent,
            name="last_accuracy",
            further={"last_correct": "seed.last.correct", "last_images": "seed.last.images"},
        ),
    ),
    "as above; a missed seed has no time, its steps and accuracy are those at its epoch limit",
    group=lambda each: naming.target_label(each.row.job, each.row.protocol),
    order=lambda each: (each.row.job.workload, each.row.job.target or 0.0),
    kind=require_value("seed.reached"),
    folded=True,
    select=lambda rows: (
        SeedLine(row, seed)
        for row in _select_to_target(rows)
        if row.time_to_accuracy
        for seed in row.time_to_accuracy.seed_results
    ),
)
TABLES: tuple[TableSpec[Any], ...] = (
    TRAINING,
    RESOURCES,
    TIME_TO_ACCURACY,
    SEEDS,
    BOUNDS,
    LADDER,
    SCALING,
    COPIES,
    GEMM,
)
"""The tables in the order in which they are shown."""


def build(
    comparison: Comparison,
    *,
    with_published: bool = False,
    all_runs: bool = False,
    only: str | None = None,
    columns: Sequence[str] = (),
    sort: str | None = None,
    **sources: Unpack[footnotes.Sources],
) -> Report:
    """Build the report of these rows, published rows first if asked for.

    The same rows in any order give an equal report. `only` keeps one table, by its key; for `columns` and `sort` see
    `arrange_tables`.
    """
    published_rows = comparison.published_rows if with_published else ()
    found = build_tables(comparison, cells.name_processors(comparison.rows, all_runs=all_runs), published_rows)
    kept = arrange_tables([table for table in found if only in (None, table.key)], columns, sort)
    options = {
        "command": "show",
        "published": with_published,
        "only": only,
        "all_runs": all_runs,
        "baseline": comparison.baseline,
        **({"columns": list(columns)} if columns else {}),
        **({"sort": sort} if sort else {}),
        **footnotes.name_sources(**sources),
    }
    return Report(kept, footnotes.build(comparison, published_rows, **sources), options=options)


def build_tables(
    comparison: Comparison, processor: ProcessorCell, published_rows: Sequence[PublishedResult] = ()
) -> list[Table]:
    """Build the tables that these rows have, in the order of `TABLES`."""
    rows = comparison.rows
    training = list(filter(trains, rows))
    compared = published_rows or any(row.speedup_over_published for row in training)
    hidden = {
        "" if any(row.pretraining_seconds for row in training) else "pretraining",
        "" if any("r_squared" in row.values for row in training) else "r_squared",
        "" if comparison.published_cpu and compared else "versus",
    }
    intervals = {units.count(row.job.evaluate_every) for row in _select_to_target(rows)}
    words = {
        "what": "Training and inference" if any(row.job.task == "inference" for row in training) else "Training",
        "every": " or ".join(sorted(intervals, key=lambda text: (len(text), text))),
        **word_columns(comparison, training),
    }
    found = [
        build_table(
            spec,
            spec.select(rows),
            groups=spec.arrange and spec.arrange(rows),
            named=lambda subject: processor(find_row(subject)[0]),
            hidden=hidden,
            words=words,
        )
        for spec in TABLES
    ]
    found[0] = replace(found[0], groups=(*group_published(published_rows, found[0].columns), *found[0].groups))
    return [table for table in found if table.groups]


def build_lecture_table(comparison: Comparison, processor: ProcessorCell) -> Table | None:
    """Build the lecture's table: few columns, and the measured rows of its job, or all training rows if none has it."""
    rows = list(filter(trains, comparison.rows))
    same = [row for row in rows if row.speedup_over_published] or [row for row in rows if row.ok]
    if not same and not comparison.published_rows:
        return None

    hidden = () if comparison.published_cpu else ("versus",)
    named, words = partial(_name_timed, processor), word_columns(comparison, same)
    table = build_table(LECTURE, same, named=named, hidden=hidden, words=words)
    published = group_published(comparison.published_rows, table.columns)
    title = published[0].title + (" · ours below" if same else "") if published else "Measured here"
    lines = (line for group in (*published, *table.groups) for line in group.lines)
    return replace(table, groups=(RowGroup(title, tuple(lines)),))


def _name_timed(processor: ProcessorCell, row: Row) -> Cell:
    """Name the row's processor with what was timed on it."""
    timed = "whole job" if row.job.timed_whole else f"{units.count(row.steps)} steps timed"
    batch = "" if row.speedup_over_published else f"{row.job.workload}, batch {row.job.batch_size}"
    return processor(row).add_details(batch, ", ".join(naming.deviations(row.job)), timed)


def build_first_screen(comparison: Comparison, processor: ProcessorCell, rows: Sequence[Row]) -> Table:
    """Build the short table: the CPU and the fastest processor among the published rows, where these rows are of their job, and
    below them these rows.
    """
    hidden = () if comparison.published_cpu else ("versus",)
    named, words = partial(_name_timed, processor), word_columns(comparison, rows)
    table = build_table(FIRST_SCREEN, rows, named=named, hidden=hidden, words=words)
    lines = [line for group in table.groups for line in group.lines]
    timed = sorted((each for each in comparison.published_rows if each.speedup), key=attrgetter("speedup"))
    if not timed or not all(row.speedup_over_published for row in rows):
        return replace(table, groups=(RowGroup("Measured here", tuple(lines)),))
    (published,) = group_published(list(dict.fromkeys((timed[0], timed[-1]))), table.columns)
    year, images = timed[0].published.year, timed[0].published.job_images
    job = f"The same training job of {units.count(images)} images" if images else "The same training job"
    title = f"{job}, published in {year}" + (" and measured here" if lines else "")
    dated = (
        replace(line, cells=(line.cells[0].add_details(f"published {year}"), *line.cells[1:]))
        for line in published.lines
    )
    return replace(table, groups=(RowGroup(title, (*dated, *lines)),))


def word_columns(comparison: Comparison, rows: Sequence[Row]) -> dict[str, str]:
    """Name the clocks of these rows, and the rows that the columns of speed-ups divide by."""
    cpu = comparison.published_cpu
    return {
        "clock": footnotes.list_clocks(row.job for row in rows) or "as published",
        "baseline": comparison.baseline or "CPU",
        "published": "" if cpu is None else f"{cpu.year}'s\n{plain(cpu.processor).rpartition(' ')[2]}",
    }


def group_published(published_rows: Sequence[PublishedResult], columns: Sequence[Column]) -> tuple[RowGroup, ...]:
    """Make the published rows' group in these columns; empty without published rows."""
    if not published_rows:
        return ()
    lines = []
    for found in published_rows:
        known, row = cells.build_published_cells(found), found.published
        notes = tuple(filter(None, (row.note, row.theoretical_note)))
        lines.append(Line(tuple(known.get(column.key, cells.EMPTY) for column in columns), notes, "reference"))
    images = next((found.published.job_images for found in published_rows if found.published.job_images), None)
    job = f" · the job is assumed: {units.count(images)} images" if images else ""
    title = f"{published_rows[0].published.year}, the lecture's table · FLOPS as printed{job}"
    return (RowGroup(title, tuple(lines)),)


def abridge(table: Table, most: int) -> Table:
    """Cut a table to about `most` lines: a group that is too long keeps its first, its last and evenly some between."""
    if len(table.lines) <= most:
        return table
    groups = table.groups[:most]
    share = max(3, most // len(groups))
    kept = []
    for group in groups:
        title, lines, many = group.title, group.lines, len(group.lines)
        if many > share:
            lines = tuple(lines[n] for n in sorted({round(n * (many - 1) / (share - 1)) for n in range(share)}))
            title += f" · {len(lines)} of {units.count(many)} rows, the others in the CSV, JSON and ledgers"
        if group is groups[-1] and len(table.groups) > most:
            title += f" · {len(table.groups) - most} more groups in the files"
        kept.append(RowGroup(title, lines))
    return replace(table, groups=tuple(kept))
