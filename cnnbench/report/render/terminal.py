"""Render a report for a terminal: columns as wide as needed; if room is short, the least important are left out and named."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from cnnbench.report import escaping
from cnnbench.report.model import FORMATS, Cell, Column, Line, Report, Table

GAPS = (2, 1)
"""Blanks between two columns of a table: comfortable, or tight if columns would be lost otherwise."""
MOST = {
    "processor": 24,
    "outcome": 11,
    "new": 24,
    "base": 24,
    "reason": 40,
    "measured": 25,
    "change": 22,
    "predicted": 22,
}
"""Width from which a column wraps: a CPU's name has up to 50 characters; `unsupported` and `interrupted` have 11."""
_ROW_STYLES = {"reference": "cyan", "failed": "red"}
_NOTE_STYLES = {
    "summary": "bold",
    "warning": "bold yellow",
    "problem": "bold red",
    **dict.fromkeys(("missing", "reference", "run"), "dim"),
}
"""Style by the kind of a note; other kinds are plain."""


def render(report: Report, *, width: int | None, color: bool) -> str:
    """Render the report as text of at most `width` columns if possible; None means as wide as needed."""
    room = width if width is not None else max(map(natural_width, report.tables), default=80)
    out = io.StringIO()
    console = Console(file=out, width=room, force_terminal=color, highlight=False, emoji=False, markup=False)
    for sentence in report.headline:
        console.print(_text(sentence, "bold"), end="\n\n")
    folded = [table for table in report.tables if table.folded and len(report.tables) > 1]
    for table in report.tables:
        if table not in folded:
            _print_table(console, table, room, report.other_formats)
    for table in folded:
        where = f"`cnnbench show --only {table.key}` shows it, and so does --format {FORMATS}"
        console.print(_text(f"{table.title}: {where}.", "dim"))
    for note in report.notes:
        style = _NOTE_STYLES.get(note.kind, "")
        item = RichTable.grid(padding=(0, 1, 0, 0), pad_edge=False)
        item.add_column(width=1)
        item.add_column(width=max(10, room - 2))
        item.add_row(Text("-", style=style), _text(note.text, style))
        console.print(item)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def natural_width(table: Table) -> int:
    """Compute the width of a table with all its columns and comfortable gaps."""
    return _total(_widths(table), GAPS[0])


def _print_table(console: Console, table: Table, room: int, others: str) -> None:
    widths, gap = _fit_columns(table, room)

    def print_rows(rows: Iterable[Sequence[Text]]) -> None:
        grid = RichTable.grid(padding=(0, gap, 0, 0), pad_edge=False)
        for number, width in widths.items():
            grid.add_column(width=width, justify=table.columns[number].align, vertical="top")
        for row in rows:
            grid.add_row(*(row[number] for number in widths))
        console.print(grid)

    rule = Text("─" * min(room, _total(widths.values(), gap)), style="dim")
    console.print(_text(table.title, "bold"))
    print_rows([[Text(_heading(column), style="bold") for column in table.columns]])
    for group in table.groups:
        console.print(rule)
        console.print(_text(group.title, "bold"))
        print_rows([[_cell(line, cell) for cell in line.cells] for line in group.lines])
    console.print(rule)
    if table.clock:
        console.print(_text(f"Clock: {table.clock}."))
    left_out = [column.one_line for number, column in enumerate(table.columns) if number not in widths]
    if left_out:
        least, them = _total(_widths(table), GAPS[-1]), "it" if len(left_out) == 1 else "them"
        text = f"Left out at {room} columns: {', '.join(left_out)}. A terminal of {least} columns shows {them}"
        console.print(_text(f"{text}, and so does --format {others}.", "yellow"))
    console.print()


def _widths(table: Table) -> list[int]:
    widths = []
    for index, column in enumerate(table.columns):
        texts = [_shown(text) for _, line in table.lines for text in line.cells[index].lines]
        widest = max(map(len, (*_heading(column).split("\n"), *texts)))
        widths.append(min(widest, MOST.get(column.key, widest)))
    return widths


def _total(widths: Collection[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _fit_columns(table: Table, room: int) -> tuple[dict[int, int], int]:
    """Find the widths of the columns that fit, by their numbers, and the blanks between two.

    Columns with the highest priority number are dropped first, priority 1 always stays; spare room goes between columns.
    """
    widths = dict(enumerate(_widths(table)))
    while _total(widths.values(), GAPS[-1]) > room:
        last = max(widths, key=lambda number: table.columns[number].priority)
        if table.columns[last].priority == 1:
            break
        del widths[last]
    return widths, next((gap for gap in GAPS if _total(widths.values(), gap) <= room), GAPS[-1])


def _heading(column: Column) -> str:
    return escaping.printable("\n".join(column.heading))


def _cell(line: Line, cell: Cell) -> Text:
    text = _text(cell.text, _ROW_STYLES.get(line.kind, ""))
    for detail in cell.details:
        text.append(f"\n{_shown(detail)}", style="dim")
    return text


def _text(text: str, style: str = "") -> Text:
    return Text(_shown(text), style=style)


def _shown(text: str) -> str:
    """Escape a text for the terminal, which a record's words must neither clear nor colour."""
    return escaping.plain(text, None)
