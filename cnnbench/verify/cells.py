"""One printed cell against what it should say: number, interval, n, the mark of a projection, all that stands beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cnnbench.verify import number_parser
from cnnbench.verify.expectations import ExpectedRow
from cnnbench.verify.intervals import ExpectedFigure, RequiredText
from cnnbench.verify.number_parser import Number, NumberKind, ParsedCell
from cnnbench.verify.raw_rows import is_same_text

KINDS: dict[str, NumberKind] = {
    "theoretical": "giga",
    "measured peak": "giga",
    "achieved": "giga",
    "measured": "giga",
    "MFU": "percent",
    "of peak": "percent",
    "time of the job": "duration",
    "speed-up": "ratio",
    "over": "ratio",
    "images": "number",
    "host peak": "size",
    "device peak": "size",
    "test accuracy": "percent",
    "device reserved": "size",
    "device used": "size",
    "activations an image": "size",
    "parameters": "size",
    "energy an image": "energy",
    "energy of the job": "energy",
    "price an hour": "number",
    "cost of the job": "number",
    "cold start": "time",
    "size": "number",
    "one step": "time",
    "compute floor": "time",
    "bandwidth floor": "time",
    "launch floor": "time",
    "input floor": "time",
    "pretraining": "time",
    "median time": "number",
    "mean time": "number",
    "fastest": "number",
    "slowest": "number",
    "median steps": "number",
    "median epochs": "number",
    "seed": "number",
    "time to target": "number",
    "steps": "number",
    "epochs": "number",
    "last accuracy": "percent",
    "speed over the one before": "ratio",
    "speed over the first": "ratio",
    "scaled": "ratio",
    "efficiency": "percent",
    "exchange": "percent",
    "launch": "time",
    "copies": "number",
    "median copy": "time",
    "slowest over median": "ratio",
}
"""Every column of figures by its heading, and how its cells are printed."""
WORDS = {
    *("precision", "outcome", "blocks x products after warm-up", "what binds", "mark"),
    *("mode", "target", "seeds that reached it", "ended", "rung", "why not", "scaling", "slowest copy"),
}
"""Columns of words, held letter by letter; `mark` is the column without a heading."""
WITH_INTERVAL = {"of peak"}
"""Columns that print n always, and the interval where there is one."""
NAMES = {"processor"}
"""Columns that say which row it is."""
SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class ReadCell:
    """A cell read once, however many rows it is held against; what it sorts by where the page sorts."""

    column: str
    text: str
    parsed: ParsedCell | None
    """None for words."""
    key: str | None = None


def find_column_rule(heading: str) -> str | None:
    """The rule for a column by its heading; None where there is none."""
    if heading in ("", "mark"):
        return "mark"
    for start in ("speed-up over ", "over "):
        if heading.startswith(start):
            return start.removesuffix(" ").removesuffix(" over")
    return heading if heading in KINDS or heading in WORDS or heading in NAMES else None


def read_cell(name: str, text: str, key: str | None = None) -> ReadCell:
    """The cell of that column. Raises ValueError where it is none such."""
    return ReadCell(name, text, number_parser.parse_cell(KINDS[name], text) if name in KINDS else None, key)


def find_cell_errors(cell: ReadCell, wanted: ExpectedRow) -> Iterator[str]:
    """What in the cell is not what the row should say."""
    name, reported = cell.column, cell.parsed
    if reported is None:
        right = wanted.words.get(name, "")
        if cell.text.strip() != right and not (name == "why not" and is_same_text(cell.text.strip(), right)):
            yield f"{name}: printed {cell.text!r}, from the records it is {right!r}"
        if cell.key and not can_sort_by(cell.key, right) and not (name == "why not" and is_same_text(cell.key, right)):
            yield f"{name}: sorts by {cell.key!r}, from the records it is {right!r}"
        return
    figure = wanted.metrics.get(name)
    if (
        name in WITH_INTERVAL
        and reported.number
        and figure
        and None in (reported.n, reported.low or figure.low is None or None)
    ):
        yield f"{name}: printed {cell.text!r} without its interval or n"
    for message in _find_figure_errors(reported, figure):
        yield f"{name}: printed {cell.text!r}, {message}"
    if cell.key and (figure is None or not _is_same_number(cell.key, figure.value)):
        yield f"{name}: sorts by {cell.key}, from the records it is {figure.value if figure else 'unknown'!r}"


def can_sort_by(key: str, text: str) -> bool:
    """Whether words in a column can sort by this: by themselves without what stands in brackets, or by their first number."""
    first = re.match(r"\d+", text)
    return (
        text == key or text.startswith(f"{key} (") or (first is not None and _is_same_number(key, float(first.group())))
    )


def _is_same_number(key: str, value: float) -> bool:
    try:
        return is_close(float(key), value)
    except ValueError:
        return False


def is_close(reported: float, value: float) -> bool:
    """Equal but for the order of a sum."""
    return abs(reported - value) <= 1e-9 * max(abs(value), abs(reported))


def _find_figure_errors(reported: ParsedCell, figure: ExpectedFigure | None) -> Iterator[str]:
    if reported.number is None or figure is None:
        if (reported.number is None) != (figure is None):
            yield "from the records it is " + ("unknown" if figure is None else f"{figure.value:.6g}")
        return
    for part, number, value in (
        ("", reported.number, figure.value),
        ("lower end: ", reported.low, figure.low),
        ("upper end: ", reported.high, figure.high),
    ):
        if number is not None and (value is None or not number.fits(value)):
            yield f"{part}from the records it is {_format_value(value, number)}"
    if reported.n is not None and figure.n is not None and reported.n != figure.n:
        yield f"there are n={figure.n} processes"
    if reported.marked != figure.projected:
        yield f"it is {'projected and lacks' if figure.projected else 'not projected and has'} the mark ~"
    yield from _find_detail_errors(list(reported.details), figure.details)


SHOWN = 400
"""A page shows at least so many characters of a name before it cuts it."""


def _find_detail_errors(left: list[str], wanted: tuple[str | RequiredText, ...]) -> Iterator[str]:
    """What must stand beside a figure, and what there is no rule for."""
    for want in wanted:
        words = want if isinstance(want, str) else want.words
        rest = ".*" if len(words) > SHOWN else ""
        pattern = re.compile(re.escape(words[:SHOWN]).replace(r"\{\}", "(.+)") + rest)
        place = next((span for span in _spans(len(left)) if pattern.fullmatch("; ".join(left[slice(*span)]))), None)
        if place is None:
            yield f"it should say {words!r}"
            continue
        found = pattern.fullmatch("; ".join(left[slice(*place)]))
        del left[slice(*place)]
        if isinstance(want, RequiredText):
            yield from _find_text_errors(want, found.group(1) if found else "")
    for part in left:
        yield f"no rule to check {part!r}"


def _spans(parts: int) -> list[tuple[int, int]]:
    """Runs of neighbouring parts, single ones first: a name of the records may have a `; ` of its own."""
    spans = [(start, end) for start in range(parts) for end in range(start + 1, parts + 1)]
    return sorted(spans, key=lambda span: (span[1] - span[0], span))


def _find_text_errors(want: RequiredText, text: str) -> Iterator[str]:
    try:
        number = number_parser.parse_number(want.kind, text)
    except ValueError as error:
        yield str(error)
        return
    if not number.fits(want.value):
        yield f"{text!r} should be {want.value:.6g}"


def _format_value(value: float | None, number: Number) -> str:
    if value is None:
        return "unknown"
    return f"{value:.6g} (in SI units; printed to within {number.tolerance:.1g})"
