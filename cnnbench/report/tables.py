"""Comparison in, report out: the training table in the shape of the lecture's, and the GEMM ceiling in one of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import units
from cnnbench.analysis.bound import Kind
from cnnbench.analysis.compare import Comparison, Reference, Row
from cnnbench.report import cells, labels, notes
from cnnbench.report.model import Cell, Column, Group, Line, Report, Table
from cnnbench.schema import PROTOCOL, ReferenceRow

Cells = dict[str, Callable[[Row], Cell]]


def build(
    comparison: Comparison,
    *,
    with_references: bool = False,
    all_runs: bool = False,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
    only: str | None = None,
) -> Report:
    """The report of these rows; published rows first where asked for. The same rows in any order give an equal report.

    `digests` are the final digests of the ledgers by run; `only` keeps one table (training, bounds or gemm).
    """
    references = comparison.references if with_references else ()
    training = [row for row in comparison.rows if row.job.workload != "gemm"]
    gemm = [row for row in comparison.rows if row.job.workload == "gemm"]
    several = len({row.machine.id for row in comparison.rows}) > 1

    def processor(row: Row) -> Cell:
        return cells.processor(row, several_machines=several, all_runs=all_runs)

    tables = []
    if training or references:
        tables.append(_training(processor, training, references, comparison.reference_baseline))
    if any(row.ok for row in training):
        tables.append(_resources(processor, [row for row in training if row.ok]))
    if any(row.bound is not None and row.bound.floors for row in training):
        tables.append(_bounds(processor, training))
    if gemm:
        tables.append(_gemm(processor, gemm))
    kept = tuple(table for table in tables if only in (None, table.key))
    return Report(kept, notes.under(comparison, references, problems, digests or {}))


def _training(
    processor: Callable[[Row], Cell],
    rows: Sequence[Row],
    references: Sequence[Reference],
    baseline: ReferenceRow | None,
) -> Table:
    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 1, "left"), cells.precision),
        (Column("peak", "theo-\nretical", "GFLOP/s", 7), cells.peak),
        (Column("ceiling", "measured\npeak", "GFLOP/s", 8), cells.ceiling),
        (Column("achieved", "achieved", "GFLOP/s", 4), cells.achieved),
        (Column("mfu", "MFU", "theor.", 10), cells.utilisation),
        (Column("of_ceiling", "of peak", "measured", 7), cells.share_of_ceiling),
        (Column("job", "time of the job", "h:mm:ss", 1), cells.job_time),
        (Column("speedup", "speed-up\nover CPU", "", 1), cells.speedup),
        (Column("images", "images", "/s", 6), cells.images),
        (Column("host_peak", "host\npeak", "", 8), cells.host_peak),
        (Column("device_peak", "device\npeak", "", 9), cells.device_peak),
        (Column("accuracy", "test\naccuracy", "", 5), cells.accuracy),
        (Column("outcome", "outcome", "", 2, "left"), cells.outcome),
    ]
    if baseline is not None and (references or any(row.versus_reference is not None for row in rows)):
        title = f"over {baseline.year}'s\n{baseline.processor.split()[-1]}"
        columns.insert(9, (Column("versus", title, "", 3), cells.versus))
    groups = _groups(rows, [cell for _, cell in columns])
    if references:
        lines = tuple(_reference_line(found, [column for column, _ in columns]) for found in references)
        groups = (Group(_reference_title(references), lines), *groups)
    heading = "Training: the same job on every processor"
    clocks = sorted({row.job.clock for row in rows})
    clock = "; ".join(notes.CLOCKS[name] for name in clocks) or "as published"
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
    return Table("resources", heading, notes.RESOURCE_CLOCK, tuple(column for column, _ in columns), groups)


def _bounds(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    def floor_cell(kind: Kind) -> Callable[[Row], Cell]:
        return lambda row: cells.floor(row, kind)

    columns: list[tuple[Column, Callable[[Row], Cell]]] = [
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 2, "left"), cells.precision),
        (Column("step", "one step", "", 1), cells.step),
        (Column("verdict", "what binds", "", 1, "left"), cells.verdict),
        (Column("compute", "compute\nfloor", "", 1), floor_cell("compute")),
        (Column("bandwidth", "bandwidth\nfloor", "", 3), floor_cell("bandwidth")),
        (Column("launch", "launch\nfloor", "", 3), floor_cell("launch")),
        (Column("input", "input\nfloor", "", 4), floor_cell("input")),
    ]
    groups = _groups(rows, [cell for _, cell in columns])
    heading = "Why not N times faster: one step against the floors measured beside it"
    return Table("bounds", heading, notes.BOUND_CLOCK, tuple(column for column, _ in columns), groups)


def _gemm(processor: Callable[[Row], Cell], rows: Sequence[Row]) -> Table:
    def achieved(row: Row) -> Cell:
        return cells.achieved(row, with_interval=True)

    def ceiling(row: Row) -> Cell:
        return Cell("ceiling" if id(row) in best else "", (), {"is_ceiling": id(row) in best})

    best = {id(row) for row in _ceilings(rows)}
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
    return Table("gemm", heading, notes.GEMM_CLOCK, tuple(column for column, _ in columns), groups)


def _ceilings(rows: Sequence[Row]) -> list[Row]:
    """The fastest size of each processor, thread count and precision."""
    best: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.machine.id, row.protocol, row.job.precision, labels.place(row.job))
        rate = row.flops_per_second
        held = best[key].flops_per_second if key in best else None
        if rate is not None and (held is None or rate.value > held.value):
            best[key] = row
    return list(best.values())


def _groups(rows: Sequence[Row], columns: Sequence[Callable[[Row], Cell]]) -> tuple[Group, ...]:
    """Rows of the same work together: whole jobs that were measured first, then projections, then rates; batch 128 before
    batch 1024.
    """
    by_title: dict[tuple[int, str], list[Line]] = {}
    for row in rows:
        protocol = "" if row.protocol == PROTOCOL else f" · protocol {row.protocol}"
        place = {"measured": 0, "projected": 1, None: 2}[row.job_kind]
        line = Line(tuple(cell(row) for cell in columns), notes.of_row(row), "measured" if row.ok else "failed")
        by_title.setdefault((place, labels.work(row.job) + protocol), []).append(line)

    def order(item: tuple[tuple[int, str], list[Line]]) -> tuple[object, ...]:
        (place, title), _ = item
        parts = [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", title))]
        return (place, parts, title)

    return tuple(Group(title, tuple(lines)) for (_, title), lines in sorted(by_title.items(), key=order))


def _reference_line(found: Reference, columns: Sequence[Column]) -> Line:
    known = cells.reference(found)
    row = found.published
    note = tuple(part for part in (row.note, row.theoretical_note) if part)
    return Line(tuple(known.get(column.key, cells.EMPTY) for column in columns), note, "reference")


def _reference_title(references: Sequence[Reference]) -> str:
    images = next((found.published.job_images for found in references if found.published.job_images), None)
    job = "" if images is None else f" · the job is assumed: {units.count(images)} images"
    return f"{references[0].published.year}, the lecture's table · FLOPS as printed{job}"
