"""A page as its values: what it says, as data, without any of its looks. `page.json`, and the same inside the HTML.

Each line of a table names the raw rows it is made of, each cell has its text and its raw values by name, each chart its
marks: so a page can be derived again, and read by a program, without reading its sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnbench import __version__
from cnnbench.report.model import Cell, Chart, Line, Note, Page, Report, Section, Table

MARK = "cnnbench_page"
"""The name by which a page's values are known; it has the version that made them."""


def page_values(made: Page | Report) -> dict[str, Any]:
    """The page, or tables and notes that are no page, as data that JSON can hold."""
    page = made if isinstance(made, Page) else _as_page(made)
    return {
        MARK: __version__,
        "options": dict(page.options),
        "title": page.title,
        "headline": {"sentences": list(page.headline), "rows": _names(page.headline_rows)},
        "sections": [_section(section) for section in page.sections],
        "notes": [_note(note) for note in page.notes],
    }


def _as_page(report: Report) -> Page:
    section = Section("tables", "", tables=report.tables, notes=report.notes)
    return Page("", (), (section,), report.notes, options=report.options)


def shown_values(page: Page) -> dict[str, Any]:
    """The same, small: without what is unknown, whose row a line is, which its rows name, and the data of the charts, which
    are stored with each.
    """
    values = page_values(page)
    for section in values["sections"]:
        for table in section["tables"]:
            for group in table["groups"]:
                group["lines"] = [_shorten(line) for line in group["lines"]]
        section["charts"] = [
            {name: chart[name] for name in ("key", "title", "alt", "caption")} for chart in section["charts"]
        ]
    return values


def _shorten(line: Mapping[str, Any]) -> dict[str, Any]:
    first, *others = line["cells"]
    kept = [{**cell, "values": _known(cell["values"])} for cell in others]
    return {**line, "cells": [{"text": first["text"]}, *kept]}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _section(section: Section) -> dict[str, Any]:
    return {
        **{"key": section.key, "title": section.title, "lead": section.lead},
        "tables": [_table(table) for table in section.tables],
        "charts": [_chart(chart) for chart in section.charts],
        "notes": [_note(note) for note in section.notes],
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        **{"key": table.key, "title": table.title, "clock": table.clock},
        "columns": [{"key": each.key, "title": each.title, "unit": each.unit} for each in table.columns],
        "groups": [{"title": each.title, "lines": [_line(line) for line in each.lines]} for each in table.groups],
    }


def _line(line: Line) -> dict[str, Any]:
    cells = [_cell(cell) for cell in line.cells]
    return {"rows": _names(line.rows), "kind": line.kind, "notes": list(line.notes), "cells": cells}


def _cell(cell: Cell) -> dict[str, Any]:
    return {"text": cell.one_line, "values": dict(cell.values or {})}


def _names(rows: tuple[tuple[str, str], ...]) -> list[list[str]]:
    return [list(row) for row in rows]


def _chart(chart: Chart) -> dict[str, Any]:
    words = {"key": chart.key, "title": chart.title, "alt": chart.alt, "caption": chart.caption}
    return {**words, "data": [dict(mark) for mark in chart.data]}


def _note(note: Note) -> dict[str, str]:
    return {"kind": note.kind, "text": note.text}
