"""A table of any values by its columns: each with what it shows of one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

from cnnbench import units
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table

ShownValue = TypeVar("ShownValue")
ValueColumn = tuple[Column, Callable[[ShownValue], Cell | str | int]]
"""A column and what it shows of a value: a cell, a text, or a count."""


def count_column(key: str, title: str, unit: str, priority: int) -> ValueColumn[Any]:
    """Declare a column of the values' counts that have its key as their name."""
    return Column(key, title, unit, priority), attrgetter(key)


def make_line(columns: Sequence[ValueColumn[ShownValue]], value: ShownValue) -> Line:
    """Make the value's row."""
    return Line(tuple(_make_cell(show(value)) for _, show in columns))


def make_table(
    key: str,
    title: str,
    columns: Sequence[ValueColumn[ShownValue]],
    groups: Iterable[tuple[str, Iterable[ShownValue]]],
    clock: str = "",
) -> Table:
    """Make a table of the values of each group, under the group's title."""
    made = tuple(RowGroup(name, tuple(make_line(columns, value) for value in values)) for name, values in groups)
    return Table(key, title, clock, tuple(column for column, _ in columns), made)


def _make_cell(shown: Cell | str | int) -> Cell:
    if isinstance(shown, int):
        return Cell(units.count(shown))
    return Cell(shown) if isinstance(shown, str) else shown
