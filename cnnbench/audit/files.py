"""Tables for other programs, CSV and JSON: each line names its row exactly, and has raw values beside what was printed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnbench.audit import ceilings, cells, columns, converging, expected, machines, stopping, tables
from cnnbench.audit.raw import RawRow, shown
from cnnbench.audit.tables import Checked
from cnnbench.audit.views import View, Wanted
from cnnbench.schema import ReferenceRow

META = {"kind", "notes", "row_notes", "clock_rule", "report_notes"}
"""What is said about a line and its table in prose, or in a word that its figures repeat."""
NOTED = {"training", "lecture", "resources", "bounds", "gemm"}
"""Tables whose lines have all notes of their rows."""
_OURS = re.compile(r'\s*\{\s*"cnnbench":')
IDENTITY = ("run_id", "work_key_sha256", "protocol", "device", "threads", "allocator")
_MACHINE = re.compile(r"machine_(\d+)")


@dataclass(frozen=True)
class Line:
    """A line of such a file: where it stands, of which table it is, what it says under each name. Unknown is not there."""

    line: int
    table: str
    group: str
    said: Mapping[str, Any]
    notes: str = ""
    """What it says in prose of its own row."""

    @property
    def run(self) -> str | None:
        """The run it is of; None for a published row or a machine."""
        return self.said.get("run_id")


def comma_separated(text: str) -> list[Line] | None:
    """The lines of a CSV file, without the ' that keeps a sheet from calculating; None where it is none of ours."""
    reader = csv.DictReader(io.StringIO(text))
    if not {"table", "group", "clock_rule"} <= set(reader.fieldnames or ()):
        return None
    found = []
    for row in reader:
        table, group = row.pop("table") or "", row.pop("group") or ""
        said = {name: value.removeprefix("'") for name, value in row.items() if value and name not in META}
        found.append(Line(reader.line_num, table, group, said, row.get("row_notes") or ""))
    return found


def as_json(text: str) -> list[Line] | None:
    """The rows of a JSON file, by number; None where it is none of ours. Raises ValueError where it was and is broken."""
    try:
        document = json.loads(text, object_pairs_hook=_each_once)
    except ValueError:
        if _OURS.match(text):
            raise
        return None
    if not isinstance(document, dict) or not {"cnnbench", "tables"} <= document.keys():
        return None
    found: list[Line] = []
    try:
        for table in document["tables"]:
            for row in table["rows"]:
                said = {name: value for name, value in row.items() if value not in (None, "") and name not in META}
                notes = "; ".join(map(str, row.get("notes") or ()))
                found.append(Line(len(found) + 1, table["key"], said.pop("group", ""), said, notes))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it has no tables of rows: {error!r}") from error
    return found


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no name stands twice: a reader would see the last alone."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(list(found)[:4])}, ...")
    return found


def speedups(lines: Sequence[Line], view: View) -> Iterator[tuple[RawRow, float]]:
    """Each row with the speed-up that the file says it has: over whom, it says in words alone."""
    for line in lines:
        row, value = _row(line, view), _number(line.said.get("speedup"))
        if isinstance(row, RawRow) and value is not None:
            yield row, value


def check(lines: Sequence[Line], view: View) -> Checked | None:
    """Every line of one table held against its row; None where there are no rules for such a table."""
    first = lines[0]
    if {"fact", "machine_id"} & first.said.keys() and "processor" not in first.said:
        found = [(line, list(_wrong_machines(line, view))) for line in lines]
    elif first.table in (*stopping.TABLES, converging.TABLE):
        found = [(line, list(_wrong_learning(line, view))) for line in lines]
    elif "processor" in first.said:
        found = [(line, list(_wrong(line, view))) for line in lines]
        found += [(line, list(tables.wrong_title(line.group, (), view))) for line in _each_group(lines)]
    else:
        return None
    wrong = tuple((line.line, f"{first.table}: {message}") for line, messages in found for message in messages)
    return Checked(sum(len(line.said) for line in lines), wrong)


def _each_group(lines: Sequence[Line]) -> list[Line]:
    return list({line.group: line for line in lines}.values())


def _row(line: Line, view: View) -> RawRow | ReferenceRow | None:
    """The row that the line names; None where there is none such."""
    said = line.said
    if line.run is None:
        named = [row for row in view.references if same(said.get("processor"), row.processor)]
        return next((row for row in named if same(said.get("year"), row.year)), None)
    return view.by_identity.get(tuple(str(said.get(name, "")) for name in IDENTITY))


def same(said: object, value: object) -> bool:
    """Whether a file that says this means that: CSV has numbers as text."""
    if value in (None, "") or said is None:
        return said in (None, "") and value in (None, "")
    if isinstance(value, bool):
        return str(said) == str(value)
    if isinstance(value, int | float):
        try:
            return cells.close(float(str(said)), value)
        except ValueError:
            return False
    return columns.same_words(str(said), str(value))


def _wrong(line: Line, view: View) -> Iterator[str]:
    row = _row(line, view)
    if row is None:
        yield f"no raw record is row {line.said.get('processor_text')!r} of run {line.run}"
        return
    if isinstance(row, RawRow):
        wanted = tables.with_price(view.wanted(row), _number(line.said.get("price_per_hour")))
        wanted = tables.with_seed(wanted, _number(line.said.get("seed")))
        if line.table in NOTED:
            yield from ceilings.wrong_notes(line.notes, row, view.products.best(row))
        if not tables.fits(line.group, row, view):
            yield f"its group is {line.group!r}, which is other work"
    else:
        wanted = view.of_published(row)
    keys = {columns.key_of(name, line.table) for name in line.said}
    for key in sorted(key for key in keys if key is not None):
        yield from _wrong_column(line, key, wanted, view)
    for name in line.said:
        if columns.key_of(name, line.table) is None:
            yield f"no rule to check column {name!r}"


def _number(said: object) -> float | None:
    try:
        return None if said is None else float(str(said))
    except ValueError:
        return None


def _wrong_column(line: Line, key: str, wanted: Wanted, view: View) -> Iterator[str]:
    """Raw values and printed text of one column."""
    for name, value in columns.raw(key, line.table, wanted).items():
        if name in columns.MODES and not any(each in line.said for each in columns.MODES):
            continue  # a file of rows that are all computed the plain way says nothing of it
        said = line.said.get(name)
        if name == "baseline" and wanted.base is not None:
            right = columns.is_baseline(wanted, said)
            value = wanted.base.full_name
        else:
            right = same(said, value)
        if not right:
            yield f"{name} is {said!r}, from the records it is {value!r}"
    text = str(line.said.get(f"{key}_text", ""))
    if key == "processor":
        if not any(each.row is wanted.row for each in view.printed_as(text)):
            yield f"{text!r} is not how the row is called"
        return
    try:
        yield from cells.wrong(cells.read(columns.heading(key, line.table), text), wanted)
    except ValueError as error:
        yield f"{key}_text: {error}"


def _wrong_learning(line: Line, view: View) -> Iterator[str]:
    """A line of the lecture's stopping rule, or of a mode against the plain one."""
    named = _row(line, view) if line.run is not None else None
    row = named if isinstance(named, RawRow) else None
    if line.table == converging.TABLE:
        line_of = converging.of_line(line.said, tables.bare_title(line.group), row, view)
    else:
        line_of = stopping.of_line(line.said, line.table, row, view)
    if line_of is None:
        yield f"no raw record gives such a line of run {line.run}"
    else:
        told = any(name in line.said for name in columns.MODES)
        yield from expected.wrong_line(line.said, line_of if told else _untold(line_of), same)


def _untold(line: Sequence[expected.Expected]) -> list[expected.Expected]:
    """The same without the fields that a file of rows computed the plain way leaves out."""
    return [
        replace(each, values={name: value for name, value in each.values.items() if name not in columns.MODES})
        for each in line
    ]


def _wrong_machines(line: Line, view: View) -> Iterator[str]:
    """A fact with a column a machine, or a machine with a column a fact."""
    names, fact = sorted(view.machines), str(line.said.get("fact"))
    for name, value in line.said.items():
        said, column = shown(str(value)), name.removesuffix("_text")
        numbered = _MACHINE.fullmatch(column)
        if numbered and int(numbered.group(1)) < len(names):
            yield from machines.wrong_fact(fact, names[int(numbered.group(1))], said, view)
        elif column in machines.FACTS:
            yield from machines.wrong_fact(column, str(line.said.get("machine_id")), said, view)
        elif column not in ("fact", "differs", "machine_id", "machine"):
            yield f"no rule to check column {name!r}"
    texts = {str(value) for name, value in line.said.items() if _MACHINE.fullmatch(name)}
    marks = (("fact_text", line.said.get("fact")), ("differs_text", "differs" if len(texts) > 1 else None))
    for name, right in (*marks, ("differs", len(texts) > 1)):
        if name in line.said and not same(line.said[name], right):
            yield f"{fact}: {name} is {line.said[name]!r}, the machines' texts say otherwise"
