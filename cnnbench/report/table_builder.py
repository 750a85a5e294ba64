"""Build tables from declarations: a `TableSpec` declares a table's columns, groups and notes, `build_table` makes it.

A column is a `ColumnSpec` for the table's own kind of line, or a metric of `analysis.metrics`: `METRICS_HERE` marks the place
for the metrics that name the table, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, Generic, Literal

from cnnbench.analysis import metrics
from cnnbench.analysis.metrics import UNFIT_MARK, Figure, Subject
from cnnbench.analysis.ratio import group_by
from cnnbench.analysis.rows import Row, follow
from cnnbench.report import cells
from cnnbench.report.model import Cell, Column, Line, LineKind, RowGroup, Table


@dataclass(frozen=True)
class ColumnSpec(Generic[Subject]):
    """A column: its heading, and the cell of each line. Without `cell`, `build_table` uses its argument `named`."""

    key: str
    title: str
    priority: int
    cell: Callable[[Subject], Cell] | None = None
    unit: str = ""
    align: Literal["left", "right"] = "right"
    optional: bool = False
    """Whether the column is left out where it is blank in every line."""


METRICS_HERE = ColumnSpec[Any]("metrics", "", 1)
"""Marks the place of the metrics that name the table."""
left_column = partial(ColumnSpec[Any], align="left")
PROCESSOR = left_column("processor", "processor", 1)
"""The processor, as the page names it."""


def find_row(subject: Any) -> tuple[Row, ...]:
    """Return a line if it is a row, else the row in its attribute `row`; empty without one."""
    row = getattr(subject, "row", subject)
    return (row,) if isinstance(row, Row) else ()


def require_value(read: str | Callable[[Any], Any]) -> Callable[[Any], LineKind]:
    """Make the rule for a line's kind: `measured` if the value, which may be a path of attributes, is known."""
    return lambda subject: "measured" if follow(subject, read) else "failed"


@dataclass(frozen=True)
class TableSpec(Generic[Subject]):
    """A table declaration: words in braces, in titles and the clock rule, are filled in when it is built."""

    key: str
    title: str
    columns: tuple[ColumnSpec[Subject], ...]
    clock: str = ""
    group: Callable[[Subject], str] = lambda subject: ""
    """The title of a line's group; lines with equal titles form a group."""
    order: Callable[[Subject], Any] | None = None
    """The key that groups are sorted by, before their title; None keeps the order of the lines."""
    notes: Callable[[Subject], Iterable[str]] = lambda subject: ()
    kind: Callable[[Subject], LineKind] = lambda subject: "measured"
    rows: Callable[[Subject], tuple[Row, ...]] = find_row
    """The raw rows behind a line, its own first."""
    folded: bool = False
    select: Callable[[Sequence[Row]], Iterable[Subject]] = lambda rows: ()
    """The lines that a comparison's rows give."""
    arrange: Callable[[Sequence[Row]], Iterable[tuple[str, Iterable[Subject]]]] | None = None
    """The lines in groups with titles, for a table in which several groups share a title."""


def make_cell(subject: Subject, figure: Figure[Subject]) -> Cell:
    """Show the subject's figure as text, with its details and its raw values."""
    found, name = figure.find(subject), figure.raw_name or figure.name
    raw = {} if not name else cells.values(name, found) if figure.estimated else {name: found}
    raw |= figure.find_further(subject)
    if found is None:
        return Cell(figure.absent(subject), raw)
    text = figure.text(found.value if figure.estimated else found)
    unfit = UNFIT_MARK if figure.timed and any(row.unfit for row in find_row(subject)) else ""
    return Cell(unfit + figure.mark(subject) + text, raw, figure.describe(subject, found))


def metric_cell(row: Row, name: str) -> Cell:
    """Make the cell of the metric of that name."""
    return make_cell(row, metrics.get_metric(name))


def metric_column(name: str, priority: int, **changes: Any) -> ColumnSpec[Row]:
    """Declare a metric as a column of a table that the metric does not name, with changes to its declaration."""
    metric = replace(metrics.get_metric(name), **changes)
    cell = partial(make_cell, figure=metric)
    return ColumnSpec(metric.column_key, metric.heading, priority, cell, metric.unit, metric.align, metric.optional)


def figure(
    key: str,
    title: str,
    priority: int,
    read: str | Callable[[Subject], Any],
    text: Callable[[Any], str] = str,
    *,
    name: str | None = None,
    unit: str = "",
    align: Literal["left", "right"] = "right",
    **declared: Any,
) -> ColumnSpec[Subject]:
    """Declare a column of one figure; its raw value is called `name` (None: like the key; empty: no raw value)."""
    found = Figure(text=text, read=read, raw_name=key if name is None else name, **declared)
    return ColumnSpec(key, title, priority, partial(make_cell, figure=found), unit, align)


wording = partial(figure, align="left")
"""Declare a column of words, left-aligned."""


def build_table(
    spec: TableSpec[Subject],
    subjects: Iterable[Subject] = (),
    *,
    groups: Iterable[tuple[str, Iterable[Subject]]] | None = None,
    named: Callable[[Subject], Cell] = lambda subject: cells.EMPTY,
    hidden: Collection[str] = (),
    words: Mapping[str, str] | None = None,
    keep_optional: bool = False,
) -> Table:
    """Build the table of these lines, grouped as the spec says or as given; `hidden` columns are left out."""

    def fill(text: str) -> str:
        # Without words the text may come from a record, and contain braces.
        return text if words is None else text.format(**words)

    def build_line(subject: Subject) -> Line:
        shown = tuple((column.cell or named)(subject) for column in chosen)
        return Line(shown, tuple(spec.notes(subject)), spec.kind(subject), cells.name_raw_rows(*spec.rows(subject)))

    measured: list[ColumnSpec[Any]] = [
        metric_column(metric.name, metric.tables[spec.key]) for metric in metrics.METRICS if spec.key in metric.tables
    ]
    listed = chain.from_iterable(measured if column is METRICS_HERE else [column] for column in spec.columns)
    chosen = [column for column in listed if column.key not in hidden]
    if groups is None:
        found = group_by(subjects, lambda subject: (spec.order and spec.order(subject), spec.group(subject)))
        groups = [(key[1], found[key]) for key in (sorted(found) if spec.order else found)]
    groups = [(title, list(members)) for title, members in groups]
    every = [subject for _, members in groups for subject in members]
    if not keep_optional:
        chosen = [each for each in chosen if not each.optional or any((each.cell or named)(one).text for one in every)]
    columns = (Column(each.key, fill(each.title), fill(each.unit), each.priority, each.align) for each in chosen)
    made = tuple(RowGroup(title, tuple(map(build_line, members))) for title, members in groups)
    return Table(spec.key, fill(spec.title), fill(spec.clock), tuple(columns), made, spec.folded)
