"""Charts against the records: the digest of a chart's data, every field of every mark, what is said of it in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench.audit import checks, described, drawn, marks
from cnnbench.audit.checks import Fields, Mark, Marked
from cnnbench.audit.pages import Chart
from cnnbench.audit.raw import RawRow
from cnnbench.audit.tables import Checked
from cnnbench.audit.views import View, Wanted
from cnnbench.schema import digest

_ROWS = ',"rows":'


@dataclass(frozen=True)
class Data:
    """What a chart shows: its key, its marks, and what is wrong in how they are stored."""

    key: str
    marks: tuple[Mark, ...]
    wrong: tuple[str, ...] = ()


def data_of(chart: Chart) -> Data:
    """The chart's data as stored in it."""
    try:
        stored: Any = json.loads(chart.stored)
        key, said, found = stored["chart"], stored["sha256"], stored["rows"]
        every = tuple(dict(mark) for mark in found)
        body = chart.stored[chart.stored.index(_ROWS) + len(_ROWS) :].rstrip().removesuffix("}")
    except (ValueError, KeyError, TypeError):
        return Data("", (), ("its data cannot be read",))
    changed = ("its data were changed after it was drawn: their digest is another",)
    return Data(key, every, () if digest(f"{key}\n{body}") == said else changed)


def check(chart: Chart, data: Data, view: View) -> Checked:
    """Every mark held against the row it says it is, and the drawings and words against the marks."""
    wrong = list(data.wrong)
    if data.key not in marks.RULES:
        wrong += [f"no rule to check chart {data.key!r}"] if data.key else []
        return Checked(0, tuple((chart.line, each) for each in wrong))
    try:
        wrong += _wrong_marks(chart, data, view)
    except (KeyError, TypeError, ValueError) as error:
        wrong.append(f"a mark lacks a field, or has a text for a number: {error!r}")
    return Checked(len(data.marks), tuple((chart.line, f"chart {data.key}: {message}") for message in wrong))


def _wrong_marks(chart: Chart, data: Data, view: View) -> Iterator[str]:
    for number, mark in enumerate(data.marks, start=1):
        for message in _wrong_mark(data, mark, view):
            yield f"mark {number}: {message}"
    for drawing in chart.drawings:
        yield from drawn.wrong(data.key, data.marks, drawing, view)
    for words in chart.words:
        yield from described.wrong(data.key, data.marks, chart.title, words, view)


def rows_of(mark: Mark, view: View) -> list[Wanted]:
    """The rows that a mark can be: by run and key, or by the published processor's name."""
    if mark.get("run") is None:
        named = [row for row in view.references if row.processor == mark.get("processor")]
        return [view.of_published(row) for row in named]
    return [view.wanted(row) for row in view.by_mark.get((str(mark["run"]), str(mark.get("row"))), [])]


def _wrong_mark(data: Data, mark: Mark, view: View) -> Sequence[str]:
    if data.key == "roofline" and mark.get("kind") == "roof":
        steps = [
            each for each in data.marks if str(each.get("kind")).endswith(" step") and each["roof"] == mark["roof"]
        ]
        under = [wanted for each in steps for wanted in rows_of(each, view)]
        return list(_wrong_fields(mark, marks.roof(mark, under), under[0] if under else None))
    candidates = rows_of(mark, view)
    if not candidates:
        return [f"no raw record is row {mark.get('row')} of run {mark.get('run')}"]
    found = []
    for wanted in candidates:
        marked = Marked(mark, wanted, data.marks, view)
        fields = marks.RULES[data.key](marked)
        found.append(list(_wrong_fields(mark, fields and {**checks.identity(marked), **fields}, wanted)))
    return min(found, key=len)


def _wrong_fields(mark: Mark, fields: Fields | None, wanted: Wanted | None) -> Iterator[str]:
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
