"""Lines of tables that are no row of processors each: what every cell of a line should say, and what differs.

A table file names the row that a line is of. A page does not: there the lines of a group are held against every row that
the group's title can be of, and the one they depart least from counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench.audit import cells
from cnnbench.audit.pages import PrintedRow

Value = str | int | float | bool | None
_NUMBER = r"([+-]?\d[\d,]*(?:\.\d+)?)"


@dataclass(frozen=True)
class Expected:
    """A cell: its column by key and heading, its text with `{}` where a number stands, and the raw values beside it."""

    key: str
    heading: str
    template: str
    numbers: tuple[tuple[float, int], ...] = ()
    """In the unit that is printed, each with its decimals: rounded in another order a last digit may differ by half a unit."""
    values: Mapping[str, Value] = field(default_factory=dict)

    def wrong(self, text: str) -> Iterator[str]:
        """What is wrong with the printed text."""
        found = re.fullmatch(re.escape(self.template).replace(r"\{\}", _NUMBER), text)
        if found is None or not all(map(_fits, found.groups(), self.numbers)):
            right = self.template.format(*(f"{value:,.{decimals}f}" for value, decimals in self.numbers))
            yield f"{self.heading}: printed {text!r}, from the records it is {right!r}"

    def wrong_key(self, key: str, text: str) -> Iterator[str]:
        """What is wrong with what the cell sorts by: its first raw number, else its words without what is in brackets."""
        known = (each for each in self.values.values() if isinstance(each, int | float) and not isinstance(each, bool))
        try:
            fits = cells.close(float(key), next(known, float("nan")))
        except ValueError:
            fits = cells.sorts_by(key, text)
        if not fits:
            yield f"{self.heading}: {text!r} sorts by {key!r}"


def _fits(said: str, right: tuple[float, int]) -> bool:
    value, decimals = right
    bare = said.replace(",", "")
    exact = abs(float(bare) - value) <= 0.5 * 10.0**-decimals * 1.001 + 1e-9 * abs(value)
    return exact and len(bare.partition(".")[2]) == decimals


Line = Callable[[str], Sequence[Expected] | None]
"""The cells of the line that begins with this text, were the group of one certain row; None where it has no such line."""
Found = tuple[int, tuple[tuple[int, str], ...]]
"""How many cells were looked at, and what is wrong, each with the line of the page it stands on."""


def check(
    headings: Sequence[str],
    groups: Sequence[tuple[str, Sequence[PrintedRow]]],
    candidates: Callable[[str], Sequence[Line]],
) -> Found:
    """Each group of a page's table against what it can be by its title."""
    figures = 0
    wrong: list[tuple[int, str]] = []
    for title, rows in groups:
        figures += sum(len(row.cells) for row in rows)
        ways: list[list[tuple[int, str]]] = [list(_wrong(headings, rows, line)) for line in candidates(title)]
        if ways:
            best = min(ways, key=len)
            wrong += best
        else:
            wrong.append((rows[0].line, f"no raw record can be what is titled {title!r}"))
    return figures, tuple(wrong)


def _wrong(headings: Sequence[str], rows: Sequence[PrintedRow], line: Line) -> Iterator[tuple[int, str]]:
    for row in rows:
        expected = line(row.cells[0])
        if len(row.cells) != len(headings):
            yield row.line, f"{len(row.cells)} cells under {len(headings)} headings"
        elif expected is None:
            yield row.line, f"the records have no line {row.cells[0]!r} there"
        else:
            for message in _wrong_row(headings, row, {each.heading: each for each in expected}):
                yield row.line, message


def _wrong_row(headings: Sequence[str], row: PrintedRow, expected: Mapping[str, Expected]) -> Iterator[str]:
    keys = row.keys or (None,) * len(headings)
    for heading, text, key in zip(headings, row.cells, keys, strict=True):
        if heading not in expected:
            yield f"no rule to check column {heading!r}"
            continue
        yield from expected[heading].wrong(text)
        if key:
            yield from expected[heading].wrong_key(key, text)


def wrong_line(
    said: Mapping[str, object], expected: Sequence[Expected], same: Callable[[object, object], bool]
) -> Iterator[str]:
    """What is wrong in a line of a table file, its raw values and its texts; `same` says whether a file means a value."""
    known = {f"{each.key}_text" for each in expected}
    for each in expected:
        for name, value in each.values.items():
            known.add(name)
            if not same(said.get(name), value):
                yield f"{name} is {said.get(name)!r}, from the records it is {value!r}"
        yield from each.wrong(str(said.get(f"{each.key}_text", "")))
    for name in said:
        if name not in known:
            yield f"no rule to check column {name!r}"
