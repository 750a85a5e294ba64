"""Comparison in, report out: the training table in the shape of the lecture's, and the GEMM ceiling in one of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis.bottleneck import FloorKind
from cnnbench.analysis.speedup import Comparison, PublishedResult, Row
from cnnbench.report import ablation, cells, concurrent, footnotes, job_fields, scaling, time_to_accuracy
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Report, RowGroup, Table
from cnnbench.report.published_rows import build_published_cells
from cnnbench.schema import PublishedRow

Cells = dict[str, Callable[[Row], Cell]]


def build(
    comparison: Comparison,
    *,
    with_published: bool = False,
    all_runs: bool = False,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
    only: str | None = None,
) -> Report:
    """The report of these rows; published rows first where asked for. The same rows in any order give an equal report.

    `digests` are the final digests of the ledgers by run; `only` keeps one table, by its key.
    """
    published_rows = comparison.published_rows if with_published else ()
    several = len({row.machine.id for row in comparison.rows}) > 1
    with_job_fields = job_fields.any_variant(comparison.rows)

    def processor(row: Row) -> Cell:
        return cells.processor(row, several_machines=several, all_runs=all_runs, with_job_fields=with_job_fields)

    found = build_tables(comparison, processor, published_rows=published_rows)
    kept = tuple(table for table in found if only in (None, table.key))
    return Report(kept, footnotes.build(comparison, published_rows, problems, digests or {}))


def build_tables(
    comparison: Comparison,
    processor: Callable[[Row], Cell],
    published_rows: Sequence[PublishedResult] = (),
) -> list[Table]:
    """The tables that these rows have, in order: training, resources, tta, seeds, bounds, ladder, scaling, copies,
    gemm.
    """
    training = [row for row in comparison.rows if row.job.workload != "gemm"]
    gemm = [row for row in comparison.rows if row.job.workload == "gemm"]
    tables = []
    if training or published_rows:
        tables.append(_training(processor, training, published_rows, comparison))
    if any(row.ok for row in training):
        tables.append(_resources(processor, [row for row in training if row.ok]))
    tables += time_to_accuracy.tables(processor, training)
    if any(row.bottleneck is not None and row.bottleneck.floors for row in training):
        tables.append(_bounds(processor, [row for row in training if row.job.processes == 1]))
    tables += ablation.tables(processor, comparison.rows)
    tables += scaling.tables(processor, comparison.rows)
    tables += concurrent.tables(processor, comparison.rows)
    if gemm:
        tables.append(_gemm(processor, gemm))
    return tables


def build_lecture_table(
    processor: Callable[[Row], Cell],
    rows: Sequence[Row],
    published_rows: Sequence[PublishedResult],
    comparison: Comparison,
) -> Table | None:
    """The lecture's table with the measured rows of its job under it, few columns; all training rows where none is of it."""
    same = [row for row in rows if row.speedup_over_published is not None] or [row for row in rows if row.ok]
    if not same and not published_rows:
        return None

    def named(row: Row) -> Cell:
        cell = processor(row)
        timed = "whole job" if row.job.timed_whole else f"{units.count(row.timed_steps)} steps timed"
        batch = () if row.speedup_over_published is not None else (f"{row.job.workload}, batch {row.job.batch_size}",)
        way = naming.deviations(row.job)
        return dataclasses.replace(cell, details=(*cell.details, *batch, *((", ".join(way),) if way else ()), timed))

    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), named),
        (Column("peak", "theo-\nretical", "GFLOP/s", 3), cells.peak),
        (Column("ceiling", "measured\npeak", "GFLOP/s", 4), cells.ceiling),
        (Column("achieved", "achieved", "GFLOP/s", 2), cells.achieved),
        (Column("job", "time of the job", "h:mm:ss", 1), cells.job_time),
        (Column("speedup", f"speed-up\nover {comparison.baseline or 'CPU'}", "", 2), cells.speedup),
    ]
    if comparison.published_cpu is not None:
        columns.append((Column("versus", _over_published_title(comparison.published_cpu), "", 1), cells.over_published))
    lines = [_published_line(found, [column for column, _ in columns]) for found in published_rows]
    lines += [
        Line(tuple(cell(row) for _, cell in columns), footnotes.build_row_notes(row), rows=cells.name_raw_rows(row))
        for row in same
    ]
    title = _published_title(published_rows) if published_rows else "Measured here"
    clocks = "; ".join(footnotes.CLOCKS[name] for name in sorted({row.job.clock for row in same})) or "as published"
    group = RowGroup(title + (" · ours below" if same and published_rows else ""), tuple(lines))
    return Table(
        "lecture", "The lecture's table, then and now", clocks, tuple(column for column, _ in columns), (group,)
    )


def abridge(table: Table, most: int) -> Table:
    """The table with at most about `most` lines: of each group that is too long the first, the last and evenly some between."""
    total = sum(len(group.lines) for group in table.groups)
    if total <= most:
        return table
    groups = table.groups[:most]
    share = max(3, most // len(groups))
    kept = tuple(_abridge_group(group, share) for group in groups)
    more = f" · {len(table.groups) - len(groups)} more groups in the files" if len(table.groups) > len(groups) else ""
    return dataclasses.replace(table, groups=(*kept[:-1], dataclasses.replace(kept[-1], title=kept[-1].title + more)))


def _abridge_group(group: RowGroup, most: int) -> RowGroup:
    lines = group.lines
    if len(lines) <= most:
        return group
    kept = sorted({round(n * (len(lines) - 1) / (most - 1)) for n in range(most)})
    title = f"{group.title} · {len(kept)} of {units.count(len(lines))} rows, the others in the CSV, JSON and ledgers"
    return RowGroup(title, tuple(lines[n] for n in kept))


def _over_published_title(baseline: PublishedRow) -> str:
    return f"over {baseline.year}'s\n{plain(baseline.processor).rpartition(' ')[2]}"


def _training(
    processor: Callable[[Row], Cell],
    rows: Sequence[Row],
    published_rows: Sequence[PublishedResult],
    comparison: Comparison,
) -> Table:
    baseline = comparison.published_cpu
    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 1, "left"), cells.precision),
        (Column("peak", "theo-\nretical", "GFLOP/s", 7), cells.peak),
        (Column("ceiling", "measured\npeak", "GFLOP/s", 8), cells.ceiling),
        (Column("achieved", "achieved", "GFLOP/s", 4), cells.achieved),
        (Column("mfu", "MFU", "theor.", 10), cells.utilisation),
        (Column("of_ceiling", "of peak", "measured", 7), cells.share_of_ceiling),
        (Column("job", "time of the job", "h:mm:ss", 1), cells.job_time),
        (Column("speedup", f"speed-up\nover {comparison.baseline or 'CPU'}", "", 1), cells.speedup),
        (Column("images", "images", "/s", 6), cells.images),
        (Column("host_peak", "host\npeak", "", 8), cells.host_peak),
        (Column("device_peak", "device\npeak", "", 9), cells.device_peak),
        (Column("accuracy", "test\naccuracy", "", 5), cells.accuracy),
        (Column("outcome", "outcome", "", 2, "left"), cells.outcome),
    ]
    if baseline is not None and (published_rows or any(row.speedup_over_published is not None for row in rows)):
        columns.insert(9, (Column("versus", _over_published_title(baseline), "", 3), cells.over_published))
    if any(row.pretraining_seconds is not None for row in rows):
        columns.insert(8, (Column("pretraining", "pre-\ntraining", "", 3), time_to_accuracy.pretraining))
    groups = _groups(rows, [cell for _, cell in columns])
    if published_rows:
        lines = tuple(_published_line(found, [column for column, _ in columns]) for found in published_rows)
        groups = (RowGroup(_published_title(published_rows), lines), *groups)
    what = "Training and inference" if any(row.job.task == "inference" for row in rows) else "Training"
    heading = f"{what}: the same job on every processor"
    clocks = sorted({row.job.clock for row in rows})
    clock = "; ".join(footnotes.CLOCKS[name] for name in clocks) or "as published"
    return Table("training", heading, clock, tuple(column for column, _ in columns), groups)


def _resources(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 3, "left"), cells.precision),
        (Column("host_peak", "host\npeak", "", 1), cells.host_peak),
        (Column("device_peak", "device\npeak", "", 1), cells.device_peak),
        (Column("device_reserved", "device\nreserved", "", 4), cells.device_reserved),
        (Column("device_used", "device\nused", "", 5), cells.device_used),
        (Column("activations", "activations\nan image", "", 2), cells.activations),
        (Column("parameters", "para-\nmeters", "", 2), cells.parameters),
        (Column("energy", "energy\nan image", "", 1), cells.energy),
        (Column("cold_start", "cold\nstart", "", 3), cells.cold_start),
    ]
    groups = _groups(rows, [cell for _, cell in columns])
    heading = "Memory, energy and cold start: high-water marks, what the layers alone need, what the counter says"
    return Table("resources", heading, footnotes.RESOURCE_CLOCK, tuple(column for column, _ in columns), groups)


def _bounds(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    def floor_cell(kind: FloorKind) -> Callable[[Row], Cell]:
        return lambda row: cells.floor(row, kind)

    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 2, "left"), cells.precision),
        (Column("step", "one step", "", 1), cells.step),
        (Column("verdict", "what binds", "", 1, "left"), cells.what_binds),
        (Column("compute", "compute\nfloor", "", 1), floor_cell("compute")),
        (Column("bandwidth", "bandwidth\nfloor", "", 3), floor_cell("bandwidth")),
        (Column("launch", "launch\nfloor", "", 3), floor_cell("launch")),
        (Column("input", "input\nfloor", "", 4), floor_cell("input")),
    ]
    groups = _groups(rows, [cell for _, cell in columns])
    heading = "Why not N times faster: one step against the floors measured beside it"
    return Table("bounds", heading, footnotes.BOUND_CLOCK, tuple(column for column, _ in columns), groups)


def _gemm(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    def achieved(row: Row) -> Cell:
        return cells.achieved(row, with_interval=True)

    def ceiling(row: Row) -> Cell:
        return Cell("ceiling" if row.is_ceiling else "", (), {"is_ceiling": row.is_ceiling})

    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 1, "left"), cells.precision),
        (Column("size", "size", "", 1), cells.size),
        (Column("achieved", "measured", "GFLOP/s", 1), achieved),
        (Column("ceiling", "", "", 1, "left"), ceiling),
        (Column("peak", "theo-\nretical", "GFLOP/s", 4), cells.peak),
        (Column("products", "blocks x products\nafter warm-up", "", 5), cells.products),
        (Column("outcome", "outcome", "", 2, "left"), cells.outcome),
    ]
    groups = _groups(rows, [cell for _, cell in columns])
    heading = "Ceiling: what bare matrix products reach"
    return Table("gemm", heading, footnotes.GEMM_CLOCK, tuple(column for column, _ in columns), groups)


def _groups(rows: Sequence[Row], columns: Sequence[Callable[[Row], Cell]]) -> tuple[RowGroup, ...]:
    """Rows of the same work together: whole jobs that were measured first, trainings to a target, projections, then rates."""
    by_title: dict[tuple[int, str, int, str], list[Line]] = {}
    for row in rows:
        place = {"measured": 0, "to target": 1, "projected": 2, None: 3}[row.job_kind]
        line = Line(
            tuple(cell(row) for cell in columns),
            footnotes.build_row_notes(row),
            "measured" if row.ok else "failed",
            cells.name_raw_rows(row),
        )
        key = (place, row.job.workload, row.job.batch_size, naming.work_label(row.job, row.protocol))
        by_title.setdefault(key, []).append(line)
    return tuple(RowGroup(key[-1], tuple(lines)) for key, lines in sorted(by_title.items(), key=lambda item: item[0]))


def _published_line(found: PublishedResult, columns: Sequence[Column]) -> Line:
    known = build_published_cells(found)
    row = found.published
    note = tuple(part for part in (row.note, row.theoretical_note) if part)
    return Line(tuple(known.get(column.key, cells.EMPTY) for column in columns), note, "reference")


def _published_title(published_rows: Sequence[PublishedResult]) -> str:
    images = next((found.published.job_images for found in published_rows if found.published.job_images), None)
    job = "" if images is None else f" · the job is assumed: {units.count(images)} images"
    return f"{published_rows[0].published.year}, the lecture's table · FLOPS as printed{job}"
