"""A report for a terminal: columns as wide as they need, the least important left out, by name, where there is no room."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from cnnbench.report import escaping
from cnnbench.report.model import Cell, Column, Line, Note, Report, Table

GAPS = (2, 1)
"""Blank columns between two columns of a table: comfortable, and where columns would be lost otherwise, tight."""
MOST = {"processor": 24, "outcome": 11, "new": 24, "base": 24, "reason": 40}
"""Widest a column gets before it wraps: a CPU's name has up to 50 characters; `unsupported` and `interrupted` have 11."""
OTHERS = "markdown, latex, csv or json"
"""The formats of most commands that have no width."""
_STYLES = {"measured": "", "reference": "cyan", "failed": "red"}
_NOTE_STYLES = {
    "summary": "bold",
    "warning": "bold yellow",
    "problem": "bold red",
    "missing": "dim",
    "reference": "dim",
    "run": "dim",
}


def render(report: Report, *, width: int | None, color: bool, others: str = OTHERS) -> str:
    """The report as text of at most `width` columns, where it can; None is as wide as it needs.

    `others` are the command's other formats, which are named where columns are left out.
    """
    room = width if width is not None else max([natural_width(table) for table in report.tables], default=80)
    out = io.StringIO()
    console = Console(file=out, width=room, force_terminal=color, highlight=False, emoji=False, markup=False)
    folded = [table for table in report.tables if table.folded and len(report.tables) > 1]
    for table in report.tables:
        if table in folded:
            continue
        _print_table(console, table, room, others)
    for table in folded:
        where = f"`cnnbench show --only {table.key}` shows it, and so does --format markdown, latex, csv or json"
        console.print(_text(f"{table.title}: {where}.", "dim"))
    for note in report.notes:
        _print_note(console, note)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def natural_width(table: Table) -> int:
    """Columns of text the table takes with nothing left out and room between."""
    return _total(_widths(table), GAPS[0])


@dataclass(frozen=True)
class _ColumnLayout:
    """The columns that are shown, their widths, and the blanks between them."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    gap: int

    @property
    def width(self) -> int:
        return _total(self.widths, self.gap)

    def grid(self) -> RichTable:
        grid = RichTable.grid(padding=(0, self.gap, 0, 0), pad_edge=False)
        for column, width in zip(self.columns, self.widths, strict=True):
            grid.add_column(width=width, justify=column.align, vertical="top")
        return grid


def _print_table(console: Console, table: Table, room: int, others: str) -> None:
    layout = _fitting(table, room)
    rule = Text("─" * min(room, layout.width), style="dim")
    console.print(_text(table.title, "bold"))
    heading = layout.grid()
    heading.add_row(*(Text(_heading(column), style="bold") for column in layout.columns))
    console.print(heading)
    for group in table.groups:
        console.print(rule)
        console.print(_text(group.title, "bold"))
        rows = layout.grid()
        for line in group.lines:
            cells = zip(table.columns, line.cells, strict=True)
            rows.add_row(*(_cell(line, cell) for column, cell in cells if column in layout.columns))
        console.print(rows)
    console.print(rule)
    if table.clock:
        console.print(_text(f"Clock: {table.clock}."))
    left_out = [_flat(column.title) for column in table.columns if column not in layout.columns]
    if left_out:
        least = _total(_widths(table), GAPS[-1])
        them = "it" if len(left_out) == 1 else "them"
        text = f"Left out at {room} columns: {', '.join(left_out)}. A terminal of {least} columns shows {them}"
        console.print(_text(f"{text}, and so does --format {others}.", "yellow"))
    console.print()


def _widths(table: Table) -> list[int]:
    widths = []
    for index, column in enumerate(table.columns):
        lines = _heading(column).split("\n")
        for group in table.groups:
            for line in group.lines:
                lines += map(_shown, (line.cells[index].text, *line.cells[index].details))
        widest = max(len(text) for text in lines)
        widths.append(min(widest, MOST.get(column.key, widest)))
    return widths


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)


def _fitting(table: Table, room: int) -> _ColumnLayout:
    """The columns that fit, the highest priority number going first; priority 1 stays even where nothing fits. What is
    left of the room goes between them.
    """
    shown = list(zip(table.columns, _widths(table), strict=True))
    while _total([width for _, width in shown], GAPS[-1]) > room:
        last = max(shown, key=lambda item: item[0].priority)
        if last[0].priority == 1:
            break
        shown.remove(last)
    widths = tuple(width for _, width in shown)
    gap = next((gap for gap in GAPS if _total(widths, gap) <= room), GAPS[-1])
    return _ColumnLayout(tuple(column for column, _ in shown), widths, gap)


def _heading(column: Column) -> str:
    return escaping.printable(f"{column.title}\n{column.unit}" if column.unit else column.title)


def _flat(title: str) -> str:
    return title.replace("-\n", "").replace("\n", " ")


def _cell(line: Line, cell: Cell) -> Text:
    text = _text(cell.text, _STYLES[line.kind])
    for detail in cell.details:
        text.append(f"\n{_shown(detail)}", style="dim")
    return text


def _text(text: str, style: str = "") -> Text:
    return Text(_shown(text), style=style)


def _shown(text: str) -> str:
    """The text as it may reach a terminal: a record's words must neither clear it nor colour it."""
    return escaping.plain(text, longest=None)


def _print_note(console: Console, note: Note) -> None:
    item = RichTable.grid(padding=(0, 1, 0, 0), pad_edge=False)
    item.add_column(width=1)
    item.add_column(width=max(10, console.width - 2))
    style = _NOTE_STYLES.get(note.kind, "")
    item.add_row(Text("-", style=style), _text(note.text, style))
    console.print(item)
