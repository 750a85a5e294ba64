"""Two sides in, a report out: what was divided in one table, what was not in a second, and below them how far to believe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import naming, units
from cnnbench.analysis.comparison import (
    TOLERANCE,
    ComparisonSide,
    SideComparison,
    Unpaired,
    classify_entry,
    compare_sides,
)
from cnnbench.analysis.ratio import ComparedEntry, RowRatio, SideName
from cnnbench.analysis.rows import Row
from cnnbench.errors import ComparisonError
from cnnbench.report import cells, comparison_notes, footnotes, job_fields
from cnnbench.report.comparison_notes import format_seconds
from cnnbench.report.model import Cell, Column, Line, Report, RowGroup, Table, Value
from cnnbench.report.published_rows import build_published_cells
from cnnbench.schema import digest

_PLACE = ("processor", "device", "threads", "allocator", "machine_id", "run_id", "torch", "year", "source")
"""What of an entry's identity is its own; the rest is the work, which both sides share."""


def build(
    base: ComparisonSide,
    new: ComparisonSide,
    *,
    tolerance: float = TOLERANCE,
    problems: Iterable[str] = (),
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The report of base's times over new's. The same rows in any order give an equal report.

    `digests` are the final digests of the ledgers by run. Raises ComparisonError, with what each side has, where there is
    no work that both have a time of.
    """
    found = compare_sides(base, new, tolerance)
    if all(pair.ratio is None for pair in found.pairs):
        raise ComparisonError(comparison_notes.explain_no_ratio(found))
    tables = [_compared_table(found)]
    if found.unpaired:
        tables.append(_unpaired_table(found))
    return Report(tuple(tables), comparison_notes.build(found, problems, digests or {}))


def _compared_table(found: SideComparison) -> Table:
    several = _several_machines(entry for pair in found.pairs for entry in (pair.base, pair.new))

    def new(pair: RowRatio) -> Cell:
        return _place("new", pair.new, several)

    def base(pair: RowRatio) -> Cell:
        ours, theirs = _place("base", pair.base, several), _place("new", pair.new, several)
        same = (ours.text, ours.details) == (theirs.text, theirs.details)
        return Cell("", (), ours.values) if same else ours

    def verdict(pair: RowRatio) -> Cell:
        return _verdict(pair, found.tolerance)

    columns: list[tuple[Column, Callable[[RowRatio], Cell]]] = [
        (Column("new", "new", "", 1, "left"), new),
        (Column("base", "base", "", 1, "left"), base),
        (Column("precision", "preci-\nsion", "", 1, "left"), lambda pair: _work(pair.row)),
        (Column("base_time", "base\ntime", "", 2), lambda pair: _seconds("base", pair)),
        (Column("new_time", "new\ntime", "", 2), lambda pair: _seconds("new", pair)),
        (Column("ratio", "base time /\nnew time", "", 1), _ratio),
        (Column("verdict", "new is", "", 1, "left"), verdict),
        (Column("base_accuracy", "base\naccuracy", "", 6), lambda pair: _accuracy("base", pair.base)),
        (Column("new_accuracy", "new\naccuracy", "", 5), lambda pair: _accuracy("new", pair.new)),
    ]
    if any(pair.row.job.size is not None for pair in found.pairs):
        columns.insert(3, (Column("size", "size", "", 1), lambda pair: _size(pair.row)))
    lines = [
        (
            pair.row,
            Line(
                tuple(cell(pair) for _, cell in columns),
                comparison_notes.build_pair_notes(pair),
                "failed" if pair.ratio is None else "measured",
                cells.name_raw_rows(*(side for side in (pair.new, pair.base) if isinstance(side, Row))),
            ),
        )
        for pair in found.pairs
    ]
    title = f"Comparison: {found.base.name} (base) and {found.new.name} (new)"
    return Table("compare", title, _clock(found.pairs), tuple(column for column, _ in columns), _groups(lines))


def _unpaired_table(found: SideComparison) -> Table:
    several = _several_machines(each.entry for each in found.unpaired)

    def processor(each: Unpaired) -> Cell:
        cell = _place("", each.entry, several)
        return dataclasses.replace(cell, values={**(cell.values or {}), "side": each.side})

    columns: list[tuple[Column, Callable[[Unpaired], Cell]]] = [
        (Column("side", "only in", "", 1, "left"), lambda each: Cell(each.side)),
        (Column("processor", "processor", "", 1, "left"), processor),
        (Column("precision", "preci-\nsion", "", 2, "left"), lambda each: _measured_cell(each.entry, _work)),
        (Column("size", "size", "", 1), lambda each: _measured_cell(each.entry, _size)),
        (Column("time", "time", "", 3), _own_seconds),
        (Column("outcome", "outcome", "", 4, "left"), lambda each: _measured_cell(each.entry, cells.outcome)),
        (Column("reason", "why not divided", "", 1, "left"), _reason),
    ]
    measured = [(each, each.entry) for each in found.unpaired if isinstance(each.entry, Row)]
    groups = _groups([(row, _unpaired_line(each, [cell for _, cell in columns])) for each, row in measured])
    published = [each for each in found.unpaired if not isinstance(each.entry, Row)]
    if published:
        lines = tuple(_unpaired_line(each, [cell for _, cell in columns]) for each in published)
        groups = (RowGroup("published", lines), *groups)
    heading = "Not compared: what only one side has"
    clock = "a time is of one step, or of the whole job where it was measured in one piece, by the clocks of the compared rows"
    return Table("unpaired", heading, clock, tuple(column for column, _ in columns), groups)


def _unpaired_line(each: Unpaired, columns: Sequence[Callable[[Unpaired], Cell]]) -> Line:
    row = each.entry if isinstance(each.entry, Row) else None
    shown = tuple(cell(each) for cell in columns)
    if row is None:
        return Line(shown, kind="reference")
    return Line(shown, row.failures, "measured" if row.ok else "failed", cells.name_raw_rows(row))


def _groups(lines: Iterable[tuple[Row, Line]]) -> tuple[RowGroup, ...]:
    """Lines of the same work together: measured jobs, those to a target, projected ones, rates, then products."""
    by_title: dict[tuple[int, str], list[Line]] = {}
    for row, line in lines:
        place = (
            4
            if classify_entry(row) == "gemm"
            else {"measured": 0, "to target": 1, "projected": 2, None: 3}[row.job_kind]
        )
        by_title.setdefault((place, naming.work_label(row.job, row.protocol)), []).append(line)
    return tuple(
        RowGroup(title, tuple(found)) for (_, title), found in sorted(by_title.items(), key=lambda item: item[0])
    )


def _several_machines(entries: Iterable[ComparedEntry]) -> bool:
    return len({entry.machine.id for entry in entries if isinstance(entry, Row)}) > 1


def _clock(pairs: Sequence[RowRatio]) -> str:
    clocks = sorted({footnotes.CLOCKS[pair.row.job.clock] for pair in pairs if classify_entry(pair.row) == "training"})
    products = [f"GEMM, {footnotes.GEMM_CLOCK}"] if any(classify_entry(pair.row) == "gemm" for pair in pairs) else []
    published = ["published: how it was timed is not said"] if any(pair.published for pair in pairs) else []
    return "; ".join((*clocks, *products, *published))


def _place(prefix: str, entry: ComparedEntry, several_machines: bool) -> Cell:
    """Processor and place, the raw values named by side."""
    if isinstance(entry, Row):
        cell = cells.processor(entry, several_machines=several_machines, all_runs=False)
    else:
        cell = build_published_cells(entry)["processor"]
        cell = dataclasses.replace(cell, details=(f"published {entry.published.year}",))
    known, start = cell.values or {}, f"{prefix}_" if prefix else ""
    return dataclasses.replace(cell, values={f"{start}{name}": known.get(name) for name in _PLACE})


def _work(row: Row) -> Cell:
    job = row.job
    raw: dict[str, Value] = {
        "precision": job.precision,
        "workload": job.workload,
        "division": job.division,
        "batch_size": job.batch_size,
        "clock": job.clock,
        "work_key_sha256": digest(row.work_key),
        "protocol": row.protocol,
        **job_fields.job_values(job),
    }
    return Cell(job.precision, (), raw)


def _size(row: Row) -> Cell:
    return cells.size(row) if row.job.size is not None else Cell("", (), {"size": None})


def _measured_cell(entry: ComparedEntry, cell: Callable[[Row], Cell]) -> Cell:
    return cell(entry) if isinstance(entry, Row) else cells.EMPTY


def _seconds(side: SideName, pair: RowRatio) -> Cell:
    entry, estimate = (pair.base, pair.base_seconds) if side == "base" else (pair.new, pair.new_seconds)
    raw = {**cells.values(f"{side}_seconds", estimate), f"{side}_seconds_of": pair.seconds_of}
    if not isinstance(entry, Row):
        return Cell(format_seconds(estimate, pair.seconds_of).removesuffix(".0"), ("published",), raw)
    if estimate is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    whole = pair.seconds_of == "job"
    details = (*((str(entry.job_kind),) if whole else ()), f"n={estimate.n}")
    mark = "~" if whole and entry.job_kind == "projected" else ""
    return Cell(mark + format_seconds(estimate, pair.seconds_of), details, raw)


def _own_seconds(each: Unpaired) -> Cell:
    estimate = each.seconds
    return Cell(format_seconds(estimate, each.seconds_of), (), cells.values("seconds", estimate))


def _ratio(pair: RowRatio) -> Cell:
    raw = {**cells.values("ratio", pair.ratio), "ratio_by_round": pair.by_round}
    if pair.ratio is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    mark = "~" if pair.published is not None and pair.row.job_kind == "projected" else ""
    details = (*cells.interval(pair.ratio, units.ratio), f"n={pair.ratio.n}")
    return Cell(mark + units.ratio(pair.ratio.value), details, raw)


def _verdict(pair: RowRatio, tolerance: float) -> Cell:
    raw: dict[str, Value] = {"verdict": pair.verdict, "tolerance": tolerance}
    if pair.ratio is None or pair.verdict is None:
        return Cell(units.NOT_AVAILABLE, (comparison_notes.explain_missing_time(pair),), raw)
    return Cell(pair.verdict, () if pair.ratio.low is not None else (f"only n={pair.ratio.n}",), raw)


def _accuracy(side: SideName, entry: ComparedEntry) -> Cell:
    if not isinstance(entry, Row) or classify_entry(entry) == "gemm":
        raw = cells.values(f"{side}_test_accuracy", None)
        return Cell("", (), {**raw, f"{side}_accuracy_after_steps": None, f"{side}_accuracy_data": None})
    cell = cells.accuracy(entry)
    return dataclasses.replace(cell, values={f"{side}_{name}": value for name, value in (cell.values or {}).items()})


def _reason(each: Unpaired) -> Cell:
    return Cell(comparison_notes.explain_unpaired(each), (), {"why": each.reason})
