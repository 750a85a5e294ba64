"""A page as its values: what it says, as data, without any of its looks. `page.json`, and the same inside the HTML.

Each line of a table names the raw rows it is made of, each cell has its text and its raw values by name, each chart its
marks: so a page can be derived again, and read by a program, without reading its sentences.
"""

from __future__ import annotations

from typing import Any

from cnnbench import __version__
from cnnbench.report.model import Line, Page, Report, Section, Table

MARK = "cnnbench_page"
"""The name by which a page's values are known; it has the version that made them."""


def page_values(made: Page | Report) -> dict[str, Any]:
    """The page, or tables and notes that are no page, as data that JSON can hold."""
    if isinstance(made, Report):
        section = Section("tables", "", tables=made.tables, notes=made.notes)
        made = Page("", (), (section,), made.notes, options=made.options)
    return {
        MARK: __version__,
        "options": dict(made.options),
        "title": made.title,
        "headline": {"sentences": list(made.headline), "rows": list(map(list, made.headline_rows))},
        "sections": [_section(section) for section in made.sections],
        "notes": [dict(vars(note)) for note in made.notes],
    }


def shown_values(page: Page) -> dict[str, Any]:
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


def _section(section: Section) -> dict[str, Any]:
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
        "notes": [dict(vars(note)) for note in section.notes],
    }


def _table(table: Table) -> dict[str, Any]:
    return {
        "key": table.key,
        "title": table.title,
        "clock": table.clock,
        "columns": [{"key": each.key, "title": each.title, "unit": each.unit} for each in table.columns],
        "groups": [{"title": each.title, "lines": [_line(line) for line in each.lines]} for each in table.groups],
    }


def _line(line: Line) -> dict[str, Any]:
    cells = [{"text": cell.one_line, "values": cell.values} for cell in line.cells]
    return {"rows": list(map(list, line.rows)), "kind": line.kind, "notes": list(line.notes), "cells": cells}
