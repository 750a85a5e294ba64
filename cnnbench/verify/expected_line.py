"""Lines of tables that are no row of processors each: what every cell of a line should say, and what differs.

A table file names the row that a line is of. A page does not: there the lines of a group are held against every row that
the group's title can be of, and the one they depart least from counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench.verify import cells
from cnnbench.verify.pages import PrintedRow
from cnnbench.verify.raw_rows import RawValue

_NUMBER = r"([+-]?\d[\d,]*(?:\.\d+)?)"


@dataclass(frozen=True)
class ExpectedCell:
    """A cell: its column by key and heading, its text with `{}` where a number stands, and the raw values beside it."""

    key: str
    heading: str
    template: str
    numbers: tuple[tuple[float, int], ...] = ()
    """In the unit that is printed, each with its decimals: rounded in another order a last digit may differ by half a unit."""
    values: Mapping[str, RawValue] = field(default_factory=dict)

    def find_errors(self, text: str) -> Iterator[str]:
        """What is wrong with the printed text."""
        found = re.fullmatch(re.escape(self.template).replace(r"\{\}", _NUMBER), text)
        if found is None or not all(map(_fits, found.groups(), self.numbers)):
            right = self.template.format(*(f"{value:,.{decimals}f}" for value, decimals in self.numbers))
            yield f"{self.heading}: printed {text!r}, from the records it is {right!r}"

    def find_key_errors(self, key: str, text: str) -> Iterator[str]:
        """What is wrong with what the cell sorts by: its first raw number, else its words without what is in brackets."""
        known = (each for each in self.values.values() if isinstance(each, int | float) and not isinstance(each, bool))
        try:
            fits = cells.is_close(float(key), next(known, float("nan")))
        except ValueError:
            fits = cells.can_sort_by(key, text)
        if not fits:
            yield f"{self.heading}: {text!r} sorts by {key!r}"


def _fits(printed: str, right: tuple[float, int]) -> bool:
    value, decimals = right
    bare = printed.replace(",", "")
    exact = abs(float(bare) - value) <= 0.5 * 10.0**-decimals * 1.001 + 1e-9 * abs(value)
    return exact and len(bare.partition(".")[2]) == decimals


LineRule = Callable[[str], Sequence[ExpectedCell] | None]
"""The cells of the line that begins with this text, were the group of one certain row; None where it has no such line."""
CheckedLines = tuple[int, tuple[tuple[int, str], ...]]
"""How many cells were looked at, and what is wrong, each with the line of the page it stands on."""


def check_groups(
    headings: Sequence[str],
    groups: Sequence[tuple[str, Sequence[PrintedRow]]],
    candidates: Callable[[str], Sequence[LineRule]],
) -> CheckedLines:
    """Each group of a page's table against what it can be by its title."""
    figures = 0
    wrong: list[tuple[int, str]] = []
    for title, rows in groups:
        figures += sum(len(row.cells) for row in rows)
        ways: list[list[tuple[int, str]]] = [list(_find_errors(headings, rows, line)) for line in candidates(title)]
        if ways:
            best = min(ways, key=len)
            wrong += best
        else:
            wrong.append((rows[0].line, f"no raw record can be what is titled {title!r}"))
    return figures, tuple(wrong)


def _find_errors(headings: Sequence[str], rows: Sequence[PrintedRow], line: LineRule) -> Iterator[tuple[int, str]]:
    for row in rows:
        expected = line(row.cells[0])
        if len(row.cells) != len(headings):
            yield row.line, f"{len(row.cells)} cells under {len(headings)} headings"
        elif expected is None:
            yield row.line, f"the records have no line {row.cells[0]!r} there"
        else:
            for message in _find_row_errors(headings, row, {each.heading: each for each in expected}):
                yield row.line, message


def _find_row_errors(headings: Sequence[str], row: PrintedRow, expected: Mapping[str, ExpectedCell]) -> Iterator[str]:
    keys = row.keys or (None,) * len(headings)
    for heading, text, key in zip(headings, row.cells, keys, strict=True):
        if heading not in expected:
            yield f"no rule to check column {heading!r}"
            continue
        yield from expected[heading].find_errors(text)
        if key:
            yield from expected[heading].find_key_errors(key, text)


def find_line_errors(
    printed: Mapping[str, object], expected: Sequence[ExpectedCell], same: Callable[[object, object], bool]
) -> Iterator[str]:
    """What is wrong in a line of a table file, its raw values and its texts; `same` says whether a file means a value."""
    known = {f"{each.key}_text" for each in expected}
    for each in expected:
        for name, value in each.values.items():
            known.add(name)
            if not same(printed.get(name), value):
                yield f"{name} is {printed.get(name)!r}, from the records it is {value!r}"
        yield from each.find_errors(str(printed.get(f"{each.key}_text", "")))
    for name in printed:
        if name not in known:
            yield f"no rule to check column {name!r}"
