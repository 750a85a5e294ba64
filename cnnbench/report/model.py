"""Tables, charts and pages as values, without any format: what a renderer gets and all it needs.

And the same as plain data, without any looks, which is `page.json` and inside the HTML: each line of a table names the raw
rows it is made of, each cell has its text and its raw values by name, each chart its marks. So a page can be derived again,
and read by a program, without reading its sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cnnbench import __version__

Value = str | int | float | bool | None
RawValues = dict[str, Value]
"""Values by their names, which have the unit."""
Datum = dict[str, Any]
"""One row of a chart's data: field to value, in SI units. A `Value` each; what a field holds is known by its name."""
Document = dict[str, Any]
"""An object of a JSON document; keys carry units."""
RawRows = tuple[tuple[str, str], ...]
"""Raw rows by name: each a run and the beginning of the SHA-256 of the row key."""
LineKind = Literal["measured", "reference", "failed"]
NoteKind = Literal["summary", "clock", "rule", "warning", "doubt", "missing", "reference", "run", "problem"]


@dataclass(frozen=True)
class Note:
    """One line under a table."""

    kind: NoteKind
    text: str


def make_notes(kind: NoteKind, texts: Iterable[str]) -> tuple[Note, ...]:
    """Make each text a note of that kind."""
    return tuple(Note(kind, text) for text in texts)


def keep_notes(notes: Iterable[Note], *kinds: NoteKind) -> tuple[Note, ...]:
    """Keep the notes of these kinds."""
    return tuple(note for note in notes if note.kind in kinds)


@dataclass(frozen=True)
class Column:
    """A column's heading, and how soon it goes where there is no room: 1 never, the highest number first."""

    key: str
    title: str
    unit: str
    priority: int
    align: Literal["left", "right"] = "right"

    @property
    def heading(self) -> tuple[str, ...]:
        """The lines of the heading: the title's, then the unit where there is one."""
        return (*self.title.split("\n"), *filter(None, (self.unit,)))

    @property
    def one_line(self) -> str:
        """The title on one line, a word that was divided put together again: what the audit knows the column by."""
        return " ".join(self.title.replace("-\n", "").split())


@dataclass(frozen=True)
class Cell:
    """A figure as text, its raw values in SI units by name, and what must stand beside it (interval, n, `projected`)."""

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)
    details: tuple[str, ...] = ()

    @property
    def one_line(self) -> str:
        """The cell where there is only one line: `0:51:25 (0:50:02–0:52:50; projected, n=3)`."""
        return f"{self.text} ({'; '.join(self.details)})" if self.details else self.text

    def add_details(self, *further: str) -> Cell:
        """Return the cell with these details too, but for those that are empty."""
        return replace(self, details=(*self.details, *filter(None, further)))

    @property
    def lines(self) -> tuple[str, ...]:
        """The cell where it has as many lines as it needs."""
        return (self.text, *self.details)


@dataclass(frozen=True)
class Line:
    """A table's row: one cell a column, and what a reader of this row alone must know."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    kind: LineKind = "measured"
    rows: RawRows = ()
    """The raw rows it is made of, its own first."""


@dataclass(frozen=True)
class RowGroup:
    """Rows of the same work under one heading; rows of different groups do not compare."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A titled table. Its clock rule is one line and always printed."""

    key: str
    title: str
    clock: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    folded: bool = False
    """Long, and a detail of the table before it: a page folds it up, a terminal leaves it out where it is not alone."""

    @property
    def lines(self) -> tuple[tuple[str, Line], ...]:
        """Every row with the title of its group."""
        return tuple((group.title, line) for group in self.groups for line in group.lines)


FORMATS = "markdown, latex, csv or json"
"""The formats of most commands that have no width, in words."""


@dataclass(frozen=True)
class Report:
    """The tables and the notes that stand under them."""

    tables: tuple[Table, ...]
    notes: tuple[Note, ...]
    document: Mapping[str, Any] | None = None
    """What JSON prints in place of the tables: a report with one is made of no ledger, so no digest is at its end."""
    other_formats: str = FORMATS
    """What the command can print besides, in words, for a terminal that has no room for every column."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What to make the report of again, for the audit: the command, its ledgers' runs, what the reader asked for."""
    headline: tuple[str, ...] = ()
    """What a terminal prints above the tables."""


@dataclass(frozen=True)
class Chart:
    """A picture as data and a drawing of it, twice: for a wide page and for a narrow one (a phone).

    `data` is what the chart shows, one flat value a mark, raw SI values with the unit in their name; both Vega-Lite
    specifications draw the data set named `rows`, which is this. `alt` says in words what the picture shows.
    """

    key: str
    title: str
    alt: str
    caption: str
    data: tuple[Mapping[str, Value], ...]
    wide: Mapping[str, Any]
    narrow: Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of a page with its anchor `key`: a sentence that says what to see, then charts, tables, notes."""

    key: str
    title: str
    lead: str = ""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report: what it claims in one or two sentences, its sections, and the notes under all tables."""

    title: str
    headline: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[Note, ...]
    headline_rows: RawRows = ()
    """The raw rows that the claim is about."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What to make the page of again, for the audit: its ledgers' runs and what the reader asked for."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """All tables in the order of the page."""
        return tuple(table for section in self.sections for table in section.tables)

    @property
    def charts(self) -> tuple[Chart, ...]:
        """All charts in the order of the page."""
        return tuple(chart for section in self.sections for chart in section.charts)

    @property
    def warnings(self) -> tuple[Note, ...]:
        """What could mislead, and so is above everything else."""
        return keep_notes(self.notes, "warning")

    @property
    def report(self) -> Report:
        """The tables of figures and the notes alone, for the formats that have no sections."""
        figures = tuple(table for table in self.tables if table.key != "method")
        return Report(figures, self.notes, options=self.options)


PAGE_MARK = "cnnbench_page"
"""The name by which a page's values are known; it has the version that made them."""


def page_values(made: Page | Report) -> Document:
    """The page, or tables and notes that are no page, as data that JSON can hold."""
    if isinstance(made, Report):
        section = Section("tables", "", tables=made.tables, notes=made.notes)
        made = Page("", (), (section,), made.notes, options=made.options)
    return {
        PAGE_MARK: __version__,
        "options": dict(made.options),
        "title": made.title,
        "headline": {"sentences": list(made.headline), "rows": list(map(list, made.headline_rows))},
        "sections": [_section(section) for section in made.sections],
        "notes": list(map(vars, made.notes)),
    }


def shown_values(page: Page) -> Document:
    """The same, small: without what is unknown, whose row a line is, which its rows name, and the data of the charts, which
    are stored with each.
    """
    values = page_values(page)
    for section in values["sections"]:
        for line in (line for table in section["tables"] for group in table["groups"] for line in group["lines"]):
            del line["cells"][0]["values"]
            for cell in line["cells"][1:]:
                cell["values"] = {name: value for name, value in cell["values"].items() if value is not None}
        for chart in section["charts"]:
            del chart["data"]
    return values


def _section(section: Section) -> Document:
    charts = [
        {
            **{name: getattr(chart, name) for name in ("key", "title", "alt", "caption")},
            "data": list(map(dict, chart.data)),
        }
        for chart in section.charts
    ]
    return {
        "key": section.key,
        "title": section.title,
        "lead": section.lead,
        "tables": [_table(table) for table in section.tables],
        "charts": charts,
        "notes": list(map(vars, section.notes)),
    }


def _table(table: Table) -> Document:
    return {
        "key": table.key,
        "title": table.title,
        "clock": table.clock,
        "columns": [{"key": each.key, "title": each.title, "unit": each.unit} for each in table.columns],
        "groups": [{"title": each.title, "lines": [_line(line) for line in each.lines]} for each in table.groups],
    }


def _line(line: Line) -> Document:
    cells = [{"text": cell.one_line, "values": cell.values} for cell in line.cells]
    return {"rows": list(map(list, line.rows)), "kind": line.kind, "notes": list(line.notes), "cells": cells}
