"""Which columns of tables a reader asked for, and the order of their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from cnnbench.errors import UsageError
from cnnbench.report.model import Line, RowGroup, Table

Sortable = TypeVar("Sortable")


def arrange_tables(tables: Sequence[Table], columns: Sequence[str] = (), sort: str | None = None) -> tuple[Table, ...]:
    """Keep the first column, which names the row, and the `columns` asked for, in that order; sort the rows by a column's raw
    value, `-KEY` from the largest down. A table with none of the columns is left out, one without the key keeps its order.

    Raises UsageError for a column that no table has.
    """
    known = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    key, falling = (sort or "").removeprefix("-"), (sort or "").startswith("-")
    for option, wanted in (("--columns", columns), ("--sort", [key] if sort else [])):
        if unknown := [name for name in wanted if name not in known]:
            raise UsageError(f"{option} {','.join(unknown)}: no such column here; there are: {', '.join(known)}")
    ordered = [sort_lines(table, key, falling=falling) if sort else table for table in tables]
    asked = set(columns)
    kept = [table for table in ordered if not asked or asked & {column.key for column in table.columns}]
    return tuple(select_columns(table, columns) if asked else table for table in kept)


def select_columns(table: Table, columns: Iterable[str]) -> Table:
    """Keep the first column and those of these keys, in this order."""
    places = {column.key: n for n, column in enumerate(table.columns)}
    kept = tuple(dict.fromkeys((0, *(places[key] for key in columns if key in places))))
    groups = (
        RowGroup(group.title, tuple(replace(line, cells=tuple(line.cells[n] for n in kept)) for line in group.lines))
        for group in table.groups
    )
    return replace(table, columns=tuple(table.columns[n] for n in kept), groups=tuple(groups))


def sort_lines(table: Table, key: str, *, falling: bool = False) -> Table:
    """Sort the lines of each group by that column, and the groups by their first line; unknown values are last."""
    place = next((n for n, column in enumerate(table.columns) if column.key == key), None)
    if place is None:
        return table

    def read_value(line: Line) -> float | str | None:
        cell = line.cells[place]
        value = next(iter(cell.values.values()), cell.text)
        return value if value is None or isinstance(value, str) else float(value)

    def sort_by(items: Sequence[Sortable], read_line: Callable[[Sortable], Line]) -> tuple[Sortable, ...]:
        found = [(value, item) for item in items if (value := read_value(read_line(item))) is not None]
        found.sort(key=lambda each: (isinstance(each[0], str), each[0]), reverse=falling)
        return tuple(item for _, item in found) + tuple(item for item in items if read_value(read_line(item)) is None)

    groups = [replace(group, lines=sort_by(group.lines, lambda line: line)) for group in table.groups]
    return replace(table, groups=sort_by(groups, lambda group: group.lines[0]))
