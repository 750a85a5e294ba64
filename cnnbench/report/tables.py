"""Comparison in, report out: the training table in the shape of the lecture's, and beside it those that `specs` declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cnnbench import naming, units
from cnnbench.analysis.speedup import Comparison, PublishedResult, Row
from cnnbench.report import cells, footnotes, specs
from cnnbench.report.cells import ProcessorCell
from cnnbench.report.escaping import plain
from cnnbench.report.model import Cell, Column, Line, Report, RowGroup, Table
from cnnbench.report.table_builder import TableSpec, build_table


def name_processors(rows: Sequence[Row], *, all_runs: bool = False) -> ProcessorCell:
    """How a page of these rows names their processors: with the machine where there are several, all job fields where rows
    are computed in several ways.
    """
    several = len({row.machine.id for row in rows}) > 1
    with_job_fields = cells.any_variant(rows)
    return lambda row: cells.processor(
        row, several_machines=several, all_runs=all_runs, with_job_fields=with_job_fields
    )


def build(
    comparison: Comparison,
    *,
    with_published: bool = False,
    all_runs: bool = False,
    problems: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    only: str | None = None,
) -> Report:
    """Build the report of these rows; published rows first where asked for. The same rows in any order give an equal report.

    `digests` are the final digests of the ledgers by run; `only` keeps one table, by its key.
    """
    published_rows = comparison.published_rows if with_published else ()
    found = build_tables(comparison, name_processors(comparison.rows, all_runs=all_runs), published_rows)
    kept = tuple(table for table in found if only in (None, table.key))
    options = {
        **{"command": "show", "published": with_published, "only": only, "all_runs": all_runs},
        **{"baseline": comparison.baseline, "runs": sorted(digests or {}), "problems": list(problems)},
    }
    return Report(kept, footnotes.build(comparison, published_rows, problems, digests or {}), options=options)


def build_tables(
    comparison: Comparison, processor: ProcessorCell, published_rows: Sequence[PublishedResult] = ()
) -> list[Table]:
    """Build the tables that these rows have, in order: training, resources, tta, seeds, bounds, ladder, scaling, copies,
    gemm.
    """
    rows = comparison.rows
    found = [_training(processor, [row for row in rows if specs.trains(row)], published_rows, comparison)]
    found += [_build_declared(spec, rows, processor) for spec in specs.TABLES]
    return [table for table in found if table.groups]


def _build_declared(spec: TableSpec[Any], rows: Sequence[Row], processor: ProcessorCell) -> Table:
    return build_table(
        spec,
        spec.select(rows),
        groups=None if spec.arrange is None else spec.arrange(rows),
        named=lambda subject: processor(spec.rows(subject)[0]),
        words=None if spec.words is None else spec.words(rows),
    )


def build_lecture_table(
    processor: ProcessorCell,
    rows: Sequence[Row],
    published_rows: Sequence[PublishedResult],
    comparison: Comparison,
) -> Table | None:
    """Build the lecture's table: the measured rows of its job under it, few columns; all training rows where none is of it."""
    same = [row for row in rows if row.speedup_over_published is not None] or [row for row in rows if row.ok]
    if not same and not published_rows:
        return None

    def named(row: Row) -> Cell:
        cell = processor(row)
        timed = "whole job" if row.job.timed_whole else f"{units.count(row.timed_steps)} steps timed"
        batch = () if row.speedup_over_published is not None else (f"{row.job.workload}, batch {row.job.batch_size}",)
        way = naming.deviations(row.job)
        return dataclasses.replace(cell, details=(*cell.details, *batch, *((", ".join(way),) if way else ()), timed))

    hidden = () if comparison.published_cpu is not None else ("versus",)
    words = {"clock": footnotes.list_clocks(row.job for row in same) or "as published", **_name_baselines(comparison)}
    table = build_table(specs.LECTURE, same, named=named, hidden=hidden, words=words)
    lines = [line for group in table.groups for line in group.lines]
    title = _published_title(published_rows) if published_rows else "Measured here"
    title += " · ours below" if same and published_rows else ""
    published = [_published_line(found, table.columns) for found in published_rows]
    return dataclasses.replace(table, groups=(RowGroup(title, (*published, *lines)),))


def abridge(table: Table, most: int) -> Table:
    """Cut the table to at most about `most` lines: of each group that is too long the first, the last and evenly some between."""
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


def _training(
    processor: ProcessorCell,
    rows: Sequence[Row],
    published_rows: Sequence[PublishedResult],
    comparison: Comparison,
) -> Table:
    optional = {
        "pretraining": any(row.pretraining_seconds is not None for row in rows),
        "versus": comparison.published_cpu is not None
        and (bool(published_rows) or any(row.speedup_over_published is not None for row in rows)),
    }
    words = {
        "what": "Training and inference" if any(row.job.task == "inference" for row in rows) else "Training",
        "clock": footnotes.list_clocks(row.job for row in rows) or "as published",
        **_name_baselines(comparison),
    }
    hidden = [key for key, shown in optional.items() if not shown]
    table = build_table(specs.TRAINING, rows, named=processor, hidden=hidden, words=words)
    if not published_rows:
        return table
    lines = tuple(_published_line(found, table.columns) for found in published_rows)
    return dataclasses.replace(table, groups=(RowGroup(_published_title(published_rows), lines), *table.groups))


def _name_baselines(comparison: Comparison) -> dict[str, str]:
    """Whom the columns of speed-ups are over."""
    cpu = comparison.published_cpu
    published = "" if cpu is None else f"{cpu.year}'s\n{plain(cpu.processor).rpartition(' ')[2]}"
    return {"baseline": comparison.baseline or "CPU", "published": published}


def _published_line(found: PublishedResult, columns: Sequence[Column]) -> Line:
    known = cells.build_published_cells(found)
    row = found.published
    note = tuple(part for part in (row.note, row.theoretical_note) if part)
    return Line(tuple(known.get(column.key, cells.EMPTY) for column in columns), note, "reference")


def _published_title(published_rows: Sequence[PublishedResult]) -> str:
    images = next((found.published.job_images for found in published_rows if found.published.job_images), None)
    job = "" if images is None else f" · the job is assumed: {units.count(images)} images"
    return f"{published_rows[0].published.year}, the lecture's table · FLOPS as printed{job}"
