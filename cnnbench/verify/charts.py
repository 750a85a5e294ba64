"""Charts against the records: the digest of a chart's data, every field of every mark, what is said of it in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.schema import digest
from cnnbench.verify import alt_text, chart_values, field_checks, svg_text
from cnnbench.verify.expectations import Expectations, ExpectedRow
from cnnbench.verify.field_checks import FieldChecks, Mark, MarkContext
from cnnbench.verify.pages import PrintedChart
from cnnbench.verify.raw_rows import RawRow
from cnnbench.verify.tables import Checked

_ROWS = ',"rows":'


@dataclass(frozen=True)
class StoredData:
    """What a chart shows: its key, its marks, and what is wrong in how they are stored."""

    key: str
    marks: tuple[Mark, ...]
    errors: tuple[str, ...] = ()


def read_data(chart: PrintedChart) -> StoredData:
    """The chart's data as stored in it."""
    try:
        stored: Any = json.loads(chart.stored)
        key, stated, found = stored["chart"], stored["sha256"], stored["rows"]
        every = tuple(dict(mark) for mark in found)
        body = chart.stored[chart.stored.index(_ROWS) + len(_ROWS) :].rstrip().removesuffix("}")
    except (ValueError, KeyError, TypeError):
        return StoredData("", (), ("its data cannot be read",))
    changed = ("its data were changed after it was drawn: their digest is another",)
    return StoredData(key, every, () if digest(f"{key}\n{body}") == stated else changed)


def check_chart(chart: PrintedChart, data: StoredData, view: Expectations) -> Checked:
    """Every mark held against the row it says it is, and the drawings and words against the marks."""
    wrong = list(data.errors)
    if data.key not in chart_values.RULES:
        wrong += [f"no rule to check chart {data.key!r}"] if data.key else []
        return Checked(0, tuple((chart.line, each) for each in wrong))
    try:
        wrong += _find_errors_of_marks(chart, data, view)
    except (KeyError, TypeError, ValueError) as error:
        wrong.append(f"a mark lacks a field, or has a text for a number: {error!r}")
    return Checked(len(data.marks), tuple((chart.line, f"chart {data.key}: {message}") for message in wrong))


def _find_errors_of_marks(chart: PrintedChart, data: StoredData, view: Expectations) -> Iterator[str]:
    for number, mark in enumerate(data.marks, start=1):
        for message in _find_mark_errors(data, mark, view):
            yield f"mark {number}: {message}"
    for drawing in chart.drawings:
        yield from svg_text.find_errors(data.key, data.marks, drawing, view)
    for words in chart.words:
        yield from alt_text.find_errors(data.key, data.marks, chart.title, words, view)


def find_rows(mark: Mark, view: Expectations) -> list[ExpectedRow]:
    """The rows that a mark can be: by run and key, or by the published processor's name."""
    if mark.get("run") is None:
        named = [row for row in view.references if row.processor == mark.get("processor")]
        return [view.expect_published(row) for row in named]
    return [view.expect_row(row) for row in view.rows_by_mark.get((str(mark["run"]), str(mark.get("row"))), [])]


def _find_mark_errors(data: StoredData, mark: Mark, view: Expectations) -> Sequence[str]:
    if data.key == "roofline" and mark.get("kind") == "roof":
        steps = [
            each for each in data.marks if str(each.get("kind")).endswith(" step") and each["roof"] == mark["roof"]
        ]
        expected_rows = [wanted for each in steps for wanted in find_rows(each, view)]
        return list(
            _find_field_errors(
                mark, chart_values.roof(mark, expected_rows), expected_rows[0] if expected_rows else None
            )
        )
    candidates = find_rows(mark, view)
    if not candidates:
        return [f"no raw record is row {mark.get('row')} of run {mark.get('run')}"]
    found = []
    for wanted in candidates:
        marked = MarkContext(mark, wanted, data.marks, view)
        fields = chart_values.RULES[data.key](marked)
        found.append(
            list(_find_field_errors(mark, fields and {**field_checks.check_identity(marked), **fields}, wanted))
        )
    return min(found, key=len)


def _find_field_errors(mark: Mark, fields: FieldChecks | None, wanted: ExpectedRow | None) -> Iterator[str]:
    """Fields that are not what the row gives, that are missing, and that there is no rule for."""
    row = wanted.row if wanted else None
    name = f"{row.place} of {row.header.run_id}" if isinstance(row, RawRow) else mark.get("processor")
    if fields is None:
        yield f"no rule to check {mark.get('kind', 'such a mark')!r} of {name}, or the records have no such figure"
        return
    for field, check in fields.items():
        if field not in mark:
            yield f"{name} has no {field}"
        elif not check(mark[field]):
            yield f"{name}: {field} is {mark[field]!r}, the records say otherwise"
    for field in mark.keys() - fields.keys():
        yield f"no rule to check {field!r} of {name}"
