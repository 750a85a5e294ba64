"""A report as text: for a terminal, as Markdown, LaTeX, CSV, JSON. Every figure of the report is in each of them, except
that a narrow terminal loses the least important columns, and says which. What the records say goes through `escaping`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Literal

from cnnbench import __version__
from cnnbench.report import escaping
from cnnbench.report.model import Line, Report, RowGroup, Table, Value
from cnnbench.report.render import latex, terminal
from cnnbench.schema import digest

PAGE_DIGEST = "<!-- cnnbench page sha256:"

Format = Literal["table", "markdown", "latex", "csv", "json"]


def render(report: Report, format: Format, *, width: int | None = None, color: bool = False) -> str:
    """The report as text ending in a newline. `width` and `color` are for `table`; None is as wide as it needs."""
    if format == "table":
        return terminal.render(report, width=width, color=color)
    formats: dict[Format, Callable[[Report], str]] = {
        "markdown": markdown,
        "latex": latex.render,
        "csv": comma_separated,
        "json": as_json,
    }
    return formats[format](report)


def markdown(report: Report) -> str:
    """GitHub's tables, one a group, with the notes as a list; the last line holds the digest of all above, for the audit."""
    parts: list[str] = []
    for table in report.tables:
        parts += [f"## {escaping.markdown(table.title)}", "", *markdown_groups(table)]
    parts += [f"- {escaping.markdown(note.text)}" for note in report.notes]
    return seal("\n".join(parts)) if parts else "\n"


def markdown_groups(table: Table) -> list[str]:
    """The lines of a table: each group under its title, then the clock rule."""
    parts: list[str] = []
    for group in table.groups:
        parts += [f"**{escaping.markdown(group.title)}**", "", *_markdown_table(table, group), ""]
    return [*parts, f"Clock: {escaping.markdown(table.clock)}.", ""] if table.clock else parts


def seal(text: str) -> str:
    """The text ending in a line with the digest of all above it."""
    page = text.rstrip("\n") + "\n"
    return f"{page}\n{PAGE_DIGEST}{digest(page)} -->\n"


def _markdown_table(table: Table, group: RowGroup) -> list[str]:
    titles = [escaping.markdown(_join_title(column.title)) for column in table.columns]
    heads = [
        f"{title} [{column.unit}]" if column.unit else title
        for title, column in zip(titles, table.columns, strict=True)
    ]
    rules = ["---" if column.align == "left" else "---:" for column in table.columns]
    body = [[escaping.markdown(cell.one_line) for cell in line.cells] for line in group.lines]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rules, *body)]


def _join_title(title: str) -> str:
    return title.replace("-\n", "").replace("\n", " ")


def comma_separated(report: Report) -> str:
    """One line a row, raw SI values and the printed texts side by side; notes of the row in a column, those of the
    report in the first row's: in every row they would be nine tenths of the file.
    """
    rows: list[dict[str, Value]] = [
        {
            "table": table.key,
            "group": group.title,
            **flatten(table, line),
            "row_notes": "; ".join(line.notes),
            "clock_rule": table.clock,
            "report_notes": "",
        }
        for table in report.tables
        for group in table.groups
        for line in group.lines
    ]
    if rows:
        rows[0]["report_notes"] = " ".join(note.text for note in report.notes)
    names = list(dict.fromkeys(name for row in rows for name in row))
    ends: list[str] = [name for name in ("row_notes", "clock_rule", "report_notes") if name in names]
    out = io.StringIO()
    writer = csv.DictWriter(out, [name for name in names if name not in ends] + ends, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(
        {name: escaping.csv(value) if isinstance(value, str) else value for name, value in row.items()} for row in rows
    )
    return out.getvalue()


def as_json(report: Report) -> str:
    """Everything as one object; keys carry units, unknown is null."""
    tables = [
        {
            "key": table.key,
            "title": table.title,
            "clock_rule": table.clock,
            "rows": [
                {"group": group.title, "kind": line.kind, **flatten(table, line), "notes": list(line.notes)}
                for group in table.groups
                for line in group.lines
            ],
        }
        for table in report.tables
    ]
    notes = [{"kind": note.kind, "text": note.text} for note in report.notes]
    document = {"cnnbench": __version__, "tables": tables, "notes": notes}
    return escaping.as_json(document, indent=2) + "\n"


def flatten(table: Table, line: Line) -> dict[str, Value]:
    """A row's raw values by name, and each column's printed text as `<column>_text`."""
    row: dict[str, Value] = {}
    for column, cell in zip(table.columns, line.cells, strict=True):
        row |= cell.values or {}
        row[f"{column.key}_text"] = cell.one_line
    return row
