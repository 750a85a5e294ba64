"""Two sides in, a report out: what was divided in one table, what was not in a second, and below them how far to believe it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from cnnbench import units
from cnnbench.analysis.comparison import (
    TOLERANCE,
    ComparisonSide,
    SideComparison,
    Unpaired,
    classify_entry,
    compare_sides,
)
from cnnbench.analysis.metrics import mark_projected
from cnnbench.analysis.ratio import ComparedEntry, RowRatio, SideName
from cnnbench.analysis.rows import Row
from cnnbench.errors import ComparisonError
from cnnbench.report import cells, comparison_notes, footnotes, specs
from cnnbench.report.comparison_notes import format_seconds
from cnnbench.report.model import Cell, Report, Table, Value
from cnnbench.report.table_builder import PROCESSOR, ColumnSpec, TableSpec, build_table, figure, metric_cell, wording
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
    """Build the report of base's times over new's. The same rows in any order give an equal report.

    `digests` are the final digests of the ledgers by run. Raises ComparisonError, with what each side has, where there is
    no work that both have a time of.
    """
    found = compare_sides(base, new, tolerance)
    if all(pair.ratio is None for pair in found.pairs):
        raise ComparisonError(comparison_notes.explain_no_ratio(found))
    tables = [_build_compared(found), *([_build_unpaired(found.unpaired)] if found.unpaired else [])]
    return Report(tuple(tables), comparison_notes.build(found, problems, digests or {}))


def _build_compared(found: SideComparison) -> Table:
    several = _several_machines(entry for pair in found.pairs for entry in (pair.base, pair.new))

    def base(pair: RowRatio) -> Cell:
        ours, theirs = _place("base", pair.base, several), _place("new", pair.new, several)
        same = (ours.text, ours.details) == (theirs.text, theirs.details)
        return Cell("", (), ours.values) if same else ours

    spec = TableSpec[RowRatio](
        "compare",
        "Comparison: {base} (base) and {new} (new)",
        (
            ColumnSpec("new", "new", 1, lambda pair: _place("new", pair.new, several), align="left"),
            ColumnSpec("base", "base", 1, base, align="left"),
            ColumnSpec("precision", "preci-\nsion", 1, lambda pair: _work(pair.row), align="left"),
            ColumnSpec("size", "size", 1, lambda pair: _size(pair.row)),
            ColumnSpec("base_time", "base\ntime", 2, lambda pair: _seconds("base", pair)),
            ColumnSpec("new_time", "new\ntime", 2, lambda pair: _seconds("new", pair)),
            figure(
                "ratio",
                "base time /\nnew time",
                1,
                "ratio",
                units.ratio,
                estimated=True,
                details="interval and n",
                further={"ratio_by_round": "by_round"},
                mark=lambda pair: mark_projected(pair.row) if pair.published is not None else "",
            ),
            ColumnSpec("verdict", "new is", 1, lambda pair: _verdict(pair, found.tolerance), align="left"),
            ColumnSpec("base_accuracy", "base\naccuracy", 6, lambda pair: _accuracy("base", pair.base)),
            ColumnSpec("new_accuracy", "new\naccuracy", 5, lambda pair: _accuracy("new", pair.new)),
        ),
        _clock(found.pairs),
        group=lambda pair: specs.title_work(pair.row),
        order=lambda pair: _order(pair.row),
        notes=comparison_notes.build_pair_notes,
        kind=lambda pair: "failed" if pair.ratio is None else "measured",
        rows=lambda pair: tuple(side for side in (pair.new, pair.base) if isinstance(side, Row)),
    )
    hidden = () if any(pair.row.job.size is not None for pair in found.pairs) else ("size",)
    return build_table(spec, found.pairs, hidden=hidden, words={"base": found.base.name, "new": found.new.name})


UNPAIRED = TableSpec[Unpaired](
    "unpaired",
    "Not compared: what only one side has",
    (
        wording("side", "only in", 1, "side", name=""),
        PROCESSOR,
        ColumnSpec("precision", "preci-\nsion", 2, lambda each: _measured_cell(each, _work), align="left"),
        ColumnSpec("size", "size", 1, lambda each: _measured_cell(each, _size)),
        ColumnSpec(
            "time",
            "time",
            3,
            lambda each: Cell(
                format_seconds(each.entry.cost, each.entry.cost_of), (), cells.values("seconds", each.entry.cost)
            ),
        ),
        ColumnSpec("outcome", "outcome", 4, lambda each: _measured_cell(each, cells.outcome), align="left"),
        figure(
            "reason",
            "why not divided",
            1,
            comparison_notes.explain_unpaired,
            name="",
            align="left",
            further={"why": "reason"},
        ),
    ),
    "a time is of one step, or of the whole job where it was measured in one piece, by the clocks of the compared rows",
    group=lambda each: specs.title_work(each.entry) if isinstance(each.entry, Row) else "published",
    order=lambda each: _order(each.entry) if isinstance(each.entry, Row) else -1,
    notes=lambda each: each.entry.failures if isinstance(each.entry, Row) else (),
    kind=lambda each: "reference" if not isinstance(each.entry, Row) else "measured" if each.entry.ok else "failed",
    rows=lambda each: (each.entry,) if isinstance(each.entry, Row) else (),
)


def _build_unpaired(found: Sequence[Unpaired]) -> Table:
    several = _several_machines(each.entry for each in found)

    def processor(each: Unpaired) -> Cell:
        cell = _place("", each.entry, several)
        return dataclasses.replace(cell, values={**(cell.values or {}), "side": each.side})

    return build_table(UNPAIRED, found, named=processor)


def _order(row: Row) -> int:
    """Measured jobs, those to a target, projected ones, rates, then products."""
    return 4 if classify_entry(row) == "gemm" else specs.order_work(row)[0]


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
        cell = cells.build_published_cells(entry)["processor"]
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
        **cells.job_values(job),
    }
    return Cell(job.precision, (), raw)


def _size(row: Row) -> Cell:
    return Cell("" if row.job.size is None else units.count(row.job.size), (), {"size": row.job.size})


def _measured_cell(each: Unpaired, cell: Callable[[Row], Cell]) -> Cell:
    return cell(each.entry) if isinstance(each.entry, Row) else cells.EMPTY


def _seconds(side: SideName, pair: RowRatio) -> Cell:
    entry = pair.base if side == "base" else pair.new
    estimate = pair.measure(entry)
    raw = {**cells.values(f"{side}_seconds", estimate), f"{side}_seconds_of": pair.seconds_of}
    if not isinstance(entry, Row):
        return Cell(format_seconds(estimate, pair.seconds_of).removesuffix(".0"), ("published",), raw)
    if estimate is None:
        return Cell(units.NOT_AVAILABLE, (), raw)
    whole = pair.seconds_of == "job"
    details = (*((str(entry.job_kind),) if whole else ()), f"n={estimate.n}")
    mark = "~" if whole and entry.job_kind == "projected" else ""
    return Cell(mark + format_seconds(estimate, pair.seconds_of), details, raw)


def _verdict(pair: RowRatio, tolerance: float) -> Cell:
    raw: dict[str, Value] = {"verdict": pair.verdict, "tolerance": tolerance}
    if pair.ratio is None or pair.verdict is None:
        return Cell(units.NOT_AVAILABLE, (comparison_notes.explain_missing_time(pair),), raw)
    return Cell(pair.verdict, () if pair.ratio.low is not None else (f"only n={pair.ratio.n}",), raw)


def _accuracy(side: SideName, entry: ComparedEntry) -> Cell:
    if not isinstance(entry, Row) or classify_entry(entry) == "gemm":
        raw = cells.values(f"{side}_test_accuracy", None)
        return Cell("", (), {**raw, f"{side}_accuracy_after_steps": None, f"{side}_accuracy_data": None})
    cell = metric_cell(entry, "test_accuracy")
    return dataclasses.replace(cell, values={f"{side}_{name}": value for name, value in (cell.values or {}).items()})
