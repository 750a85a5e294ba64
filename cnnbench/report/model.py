"""Tables, charts and pages as values, independent of any format: all that a renderer needs.

`page_values` turns them into plain data, stored as `page.json` and inside the HTML: each line of a table names its raw rows,
each cell has its text and its raw values by name, each chart its marks. So a page can be derived again, and read by a
program, without parsing its sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from cnnbench import __version__

Value = str | int | float | bool | None
RawValues = dict[str, Value]
"""Values by name; names carry units."""
Datum = dict[str, Any]
"""One row of a chart's data: fields to values in SI units, each a `Value`."""
Document = dict[str, Any]
"""An object of a JSON document; keys carry units."""
RawRows = tuple[tuple[str, str], ...]
"""Names of raw rows: a run id and the beginning of the SHA-256 of the row key."""
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
    """A column's heading, and its priority in narrow terminals: the highest number is dropped first, 1 never."""

    key: str
    title: str
    unit: str
    priority: int
    align: Literal["left", "right"] = "right"

    @property
    def heading(self) -> tuple[str, ...]:
        """The lines of the heading: the title, then the unit if it has one."""
        return (*self.title.split("\n"), *filter(None, (self.unit,)))

    @property
    def one_line(self) -> str:
        """The title on one line, hyphenated words joined again; the audit finds the column by it."""
        return " ".join(self.title.replace("-\n", "").split())


@dataclass(frozen=True)
class Cell:
    """A figure as text, its raw values in SI units by name, and its details (interval, n, `projected`)."""

    text: str
    values: Mapping[str, Value] = field(default_factory=dict)
    details: tuple[str, ...] = ()

    @property
    def one_line(self) -> str:
        """The cell on one line: `0:51:25 (0:50:02–0:52:50; projected, n=3)`."""
        return f"{self.text} ({'; '.join(self.details)})" if self.details else self.text

    def add_details(self, *further: str) -> Cell:
        """Return the cell with these details added, empty ones left out."""
        return replace(self, details=(*self.details, *filter(None, further)))

    @property
    def lines(self) -> tuple[str, ...]:
        """The cell on as many lines as it needs."""
        return (self.text, *self.details)


@dataclass(frozen=True)
class Line:
    """A table's row: one cell per column, and the notes that a reader of this row alone needs."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    kind: LineKind = "measured"
    rows: RawRows = ()
    """The raw rows behind the line, its own first."""


@dataclass(frozen=True)
class RowGroup:
    """Rows of the same work under one heading; rows of different groups do not compare."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """A table with a title. Its clock rule is one line and always printed."""

    key: str
    title: str
    clock: str
    columns: tuple[Column, ...]
    groups: tuple[RowGroup, ...]
    folded: bool = False
    """True for a long table of details: a page folds it up, a terminal leaves it out unless it is the only table."""

    @property
    def lines(self) -> tuple[tuple[str, Line], ...]:
        """Every row with the title of its group."""
        return tuple((group.title, line) for group in self.groups for line in group.lines)


FORMATS = "markdown, latex, csv or json"
"""The formats of most commands that are not limited by the terminal's width, in words."""


@dataclass(frozen=True)
class Report:
    """Tables, and the notes below them."""

    tables: tuple[Table, ...]
    notes: tuple[Note, ...]
    document: Mapping[str, Any] | None = None
    """What JSON prints instead of the tables. A report with a document does not come from ledgers and ends without a digest."""
    other_formats: str = FORMATS
    """The other formats of the command, in words, to name on a terminal that is too narrow for every column."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What the audit needs to make the report again: the command, its ledgers' runs, the reader's options."""
    headline: tuple[str, ...] = ()
    """Sentences that a terminal prints above the tables."""


@dataclass(frozen=True)
class Chart:
    """A picture as data and a drawing of it, twice: for a wide page and for a narrow one (a phone).

    `data` is what the chart shows, one flat object per mark, raw SI values with the unit in their name; both Vega-Lite
    specifications draw it as the data set named `rows`. `alt` describes the picture in words.
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
    """A part of a page with its anchor `key`: a sentence that tells the reader what to see, then charts, tables, notes."""

    key: str
    title: str
    lead: str = ""
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report: its claim in one or two sentences, its sections, and the notes under all tables."""

    title: str
    headline: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[Note, ...]
    headline_rows: RawRows = ()
    """The raw rows that the claim is about."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What the audit needs to make the page again: its ledgers' runs and the reader's options."""

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
        """Notes on what could mislead; they are printed above everything else."""
        return keep_notes(self.notes, "warning")

    @property
    def report(self) -> Report:
        """The tables of figures and the notes, for formats without sections."""
        figures = tuple(table for table in self.tables if table.key != "method")
        return Report(figures, self.notes, options=self.options)


PAGE_MARK = "cnnbench_page"
"""The first key of a page's values; its value is the version of cnnbench that made them."""


def page_values(made: Page | Report) -> Document:
    """Convert a page, or a report's tables and notes, to data for JSON."""
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
    """Convert a page to data for JSON without what is unknown or repeated.

    Left out are the values of each first cell, which the line's rows imply, and the data of charts, which each picture stores.
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
