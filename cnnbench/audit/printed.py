"""Printed text back to numbers: a page's tables, and a cell's value, interval and n with how finely they were printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Literal

Kind = Literal["giga", "duration", "ratio", "percent", "size", "time", "energy", "number"]

SCALES = {
    "giga": {"": 1e9},
    "ratio": {"x": 1.0},
    "percent": {"%": 0.01},
    "size": {"B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
    "time": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0},
    "energy": {"nJ": 1e-9, "uJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3},
    "number": {"": 1.0},
}
_INTERVAL = re.compile(r"([\d.,:]+)\s*–\s*([\d.,:]+)")
_N = re.compile(r"\bn=(\d+)")
_NUMBER = re.compile(r"[\d.,]+(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Number:
    """A value as printed, and half a unit of its last digit: any true value within that prints the same."""

    value: float
    tolerance: float

    def fits(self, value: float) -> bool:
        """Whether that value, rounded as this one was, prints so."""
        return abs(self.value - value) <= self.tolerance * 1.001 + abs(value) * 1e-9


@dataclass(frozen=True)
class Printed:
    """A cell read back; `number` is None where it says n/a or nothing."""

    text: str
    number: Number | None
    low: Number | None = None
    high: Number | None = None
    n: int | None = None


@dataclass
class PrintedTable:
    """A table of a page: where it begins, its headings without units, its rows of cell texts."""

    line: int
    headings: list[str] = field(default_factory=list)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read(kind: Kind, text: str) -> Printed:
    """The cell's numbers. Raises ValueError for text that is no figure of that kind."""
    main, _, details = text.strip().partition(" (")
    main = main.lstrip("~").strip()
    if main in ("", "n/a"):
        return Printed(text, None)
    found = _INTERVAL.search(details)
    low = high = None
    if found is not None:
        first, second = found.groups()
        if kind == "duration" and ":" not in second:  # 0:00:41.6–44.8
            second = f"{first.rpartition(':')[0]}:{second}"
        unit = re.sub(r"[\d.,:]", "", main).strip()
        low, high = (_number(kind, f"{end} {unit}") for end in (first, second))
    n = _N.search(details)
    return Printed(text, _number(kind, main), low, high, int(n.group(1)) if n else None)


def _number(kind: Kind, text: str) -> Number:
    if kind == "duration":
        hours, minutes, seconds = text.strip().split(":")
        decimals = len(seconds.partition(".")[2])
        return Number(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 0.5 * 10.0**-decimals)
    found = _NUMBER.search(text)
    if found is None:
        raise ValueError(f"{text!r} is no number")
    digits, unit = found.group().rstrip(".,"), text[found.end() :].strip()
    scales = SCALES[kind]
    if unit not in scales:
        raise ValueError(f"{text!r}: the unit {unit!r} is not one of {', '.join(scales)}")
    plain = digits.replace(",", "")
    exponent = int(plain.partition("e")[2] or 0)
    decimals = len(plain.partition("e")[0].partition(".")[2])
    return Number(float(plain) * scales[unit], 0.5 * 10.0 ** (exponent - decimals) * scales[unit])


def tables(text: str) -> Iterator[PrintedTable]:
    """Every table of a Markdown or HTML page."""
    if re.search(r"<table[\s>]", text):
        reader = _Html()
        reader.feed(text)
        yield from reader.tables
    yield from _markdown(text)


def _markdown(text: str) -> Iterator[PrintedTable]:
    current: PrintedTable | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith("|"):
            if current is not None and current.rows:
                yield current
            current = None
            continue
        cells = [unescape(cell).strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if current is None:
            current = PrintedTable(number, [_heading(cell) for cell in cells])
        elif not re.fullmatch(r"\|(\s*:?-+:?\s*\|)+\s*", line):
            current.rows.append((number, cells))
    if current is not None and current.rows:
        yield current


def unescape(text: str) -> str:
    """What GitHub shows of the text: a backslash before punctuation, comments and the tags around a dollar go."""
    return re.sub(r"\\([!-/:-@\[-`{-~])|<!-- -->|</?span>", r"\1", text)


def _heading(text: str) -> str:
    return text.partition(" [")[0].strip()


class _Html(HTMLParser):
    """Collects tables; a `<th>` in the first row is a heading."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[PrintedTable] = []
        self._cells: list[str] | None = None
        self._text: list[str] | None = None
        self._row_line = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A table, row or cell begins."""
        if tag == "table":
            self.tables.append(PrintedTable(self.getpos()[0]))
        elif tag == "tr":
            self._cells, self._row_line = [], self.getpos()[0]
        elif tag in ("td", "th"):
            self._text = []

    def handle_data(self, data: str) -> None:
        """Text inside a cell."""
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        """A cell or row ends."""
        if tag in ("td", "th") and self._text is not None and self._cells is not None:
            self._cells.append(" ".join("".join(self._text).split()))
            self._text = None
        elif tag == "tr" and self._cells and self.tables:
            table = self.tables[-1]
            if not table.headings:
                table.headings = [_heading(cell) for cell in self._cells]
            else:
                table.rows.append((self._row_line, self._cells))
            self._cells = None
