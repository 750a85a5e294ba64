"""Render a report as text: for a terminal, as Markdown, LaTeX, CSV, JSON. Each format has every figure of the report, except
that a narrow terminal drops the least important columns and names them. All text from records passes through `escaping`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from cnnbench import __version__
from cnnbench.report import escaping
from cnnbench.report.model import Line, RawValues, Report, Table
from cnnbench.report.render import latex, markdown

Format = Literal["table", "markdown", "latex", "csv", "json"]
_CSV_ENDS = ("row_notes", "clock_rule", "report_notes", "options")
"""Columns at the end of the CSV."""


def render(report: Report, format: Format, *, width: int | None = None, color: bool = False) -> str:
    """Render the report as text ending in a newline. `width` (None: as wide as needed) and `color` are for `table`."""
    if format == "table":
        from cnnbench.report.render import terminal  # loads rich, which no other format needs

        return terminal.render(report, width=width, color=color)
    renderers = {"markdown": markdown.render, "latex": latex.render, "csv": comma_separated, "json": as_json}
    return renderers[format](report)


def comma_separated(report: Report) -> str:
    """Write one line per row, with raw SI values, printed texts and the row's notes.

    The report's notes and options are in the first line only: in every line they would make up nine tenths of the file.
    """
    first = {"report_notes": " ".join(note.text for note in report.notes)}
    if "runs" in report.options:
        first["options"] = escaping.as_json(report.options)
    rows: list[RawValues] = []
    for table in report.tables:
        for title, line in table.lines:
            own = {"row_notes": "; ".join(line.notes), "clock_rule": table.clock}
            rows.append({"table": table.key, "group": title, **flatten(table, line), **own, **({} if rows else first)})
    names = dict.fromkeys(name for row in rows for name in row)
    return write_csv(rows, sorted(names, key=lambda name: name in _CSV_ENDS))


def write_csv(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Write rows as CSV: numbers unchanged, unknown values empty, texts escaped so that a spreadsheet shows them."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        shown = {name: escaping.csv(value) if isinstance(value, str) else value for name, value in row.items()}
        writer.writerow(shown)
    return out.getvalue()


def as_json(report: Report) -> str:
    """Write the report's own document if any, else everything as one object; keys carry units, unknown is null."""
    tables = [
        {
            "key": table.key,
            "title": table.title,
            "clock_rule": table.clock,
            "rows": [
                {"group": title, "kind": line.kind, **flatten(table, line), "notes": list(line.notes)}
                for title, line in table.lines
            ],
        }
        for table in report.tables
    ]
    notes = list(map(vars, report.notes))
    made_of = {"options": report.options} if "runs" in report.options else {}
    found = {**made_of, "tables": tables, "notes": notes} if report.document is None else report.document
    return escaping.as_json({"cnnbench": __version__, **found}, indent=2) + "\n"


def flatten(table: Table, line: Line) -> RawValues:
    """Collect a line's raw values by name, and each column's printed text as `<column>_text`."""
    row: RawValues = {}
    for column, cell in zip(table.columns, line.cells, strict=True):
        row |= cell.values
        row[f"{column.key}_text"] = cell.one_line
    return row
