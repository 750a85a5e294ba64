"""Tables for other programs, CSV and JSON: each line names its row exactly, and has raw values beside what was printed."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnbench.schema import PublishedRow
from cnnbench.verify import ceilings, cells, columns, convergence, expected_line, machines, stopping_rule, tables
from cnnbench.verify.expectations import Expectations, ExpectedRow
from cnnbench.verify.raw_rows import RawRow, to_page_text
from cnnbench.verify.tables import Checked

META = {"kind", "notes", "row_notes", "clock_rule", "report_notes"}
"""What is said about a line and its table in prose, or in a word that its figures repeat."""
NOTED = {"training", "lecture", "resources", "bounds", "gemm"}
"""Tables whose lines have all notes of their rows."""
_OURS = re.compile(r'\s*\{\s*"cnnbench":')
IDENTITY = ("run_id", "work_key_sha256", "protocol", "device", "threads", "allocator")
_MACHINE = re.compile(r"machine_(\d+)")


@dataclass(frozen=True)
class FileLine:
    """A line of such a file: where it stands, of which table it is, what it says under each name. Unknown is not there."""

    line: int
    table: str
    group: str
    values: Mapping[str, Any]
    notes: str = ""
    """What it says in prose of its own row."""

    @property
    def run(self) -> str | None:
        """The run it is of; None for a published row or a machine."""
        return self.values.get("run_id")


def read_csv(text: str) -> list[FileLine] | None:
    """The lines of a CSV file, without the ' that keeps a sheet from calculating; None where it is none of ours."""
    reader = csv.DictReader(io.StringIO(text))
    if not {"table", "group", "clock_rule"} <= set(reader.fieldnames or ()):
        return None
    found = []
    for row in reader:
        table, group = row.pop("table") or "", row.pop("group") or ""
        values = {name: value.removeprefix("'") for name, value in row.items() if value and name not in META}
        found.append(FileLine(reader.line_num, table, group, values, row.get("row_notes") or ""))
    return found


def read_json(text: str) -> list[FileLine] | None:
    """The rows of a JSON file, by number; None where it is none of ours. Raises ValueError where it was and is broken."""
    try:
        document = json.loads(text, object_pairs_hook=_reject_repeated_keys)
    except ValueError:
        if _OURS.match(text):
            raise
        return None
    if not isinstance(document, dict) or not {"cnnbench", "tables"} <= document.keys():
        return None
    found: list[FileLine] = []
    try:
        for table in document["tables"]:
            for row in table["rows"]:
                values = {name: value for name, value in row.items() if value not in (None, "") and name not in META}
                notes = "; ".join(map(str, row.get("notes") or ()))
                found.append(FileLine(len(found) + 1, table["key"], values.pop("group", ""), values, notes))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it has no tables of rows: {error!r}") from error
    return found


def _reject_repeated_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which no name stands twice: a reader would see the last alone."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name stands twice among {', '.join(list(found)[:4])}, ...")
    return found


def find_speedups(lines: Sequence[FileLine], view: Expectations) -> Iterator[tuple[RawRow, float]]:
    """Each row with the speed-up that the file says it has: over whom, it says in words alone."""
    for line in lines:
        row, value = _find_row(line, view), _parse_number(line.values.get("speedup"))
        if isinstance(row, RawRow) and value is not None:
            yield row, value


def check_lines(lines: Sequence[FileLine], view: Expectations) -> Checked | None:
    """Every line of one table held against its row; None where there are no rules for such a table."""
    first = lines[0]
    if {"fact", "machine_id"} & first.values.keys() and "processor" not in first.values:
        found = [(line, list(_find_machine_errors(line, view))) for line in lines]
    elif first.table in (*stopping_rule.TABLES, convergence.TABLE):
        found = [(line, list(_find_learning_errors(line, view))) for line in lines]
    elif "processor" in first.values:
        found = [(line, list(_find_errors(line, view))) for line in lines]
        found += [(line, list(tables.find_title_errors(line.group, (), view))) for line in _check_groups(lines)]
    else:
        return None
    wrong = tuple((line.line, f"{first.table}: {message}") for line, messages in found for message in messages)
    return Checked(sum(len(line.values) for line in lines), wrong)


def _check_groups(lines: Sequence[FileLine]) -> list[FileLine]:
    return list({line.group: line for line in lines}.values())


def _find_row(line: FileLine, view: Expectations) -> RawRow | PublishedRow | None:
    """The row that the line names; None where there is none such."""
    printed = line.values
    if line.run is None:
        named = [row for row in view.references if is_same_value(printed.get("processor"), row.processor)]
        return next((row for row in named if is_same_value(printed.get("year"), row.year)), None)
    return view.rows_by_identity.get(tuple(str(printed.get(name, "")) for name in IDENTITY))


def is_same_value(printed: object, value: object) -> bool:
    """Whether a file that says this means that: CSV has numbers as text."""
    if value in (None, "") or printed is None:
        return printed in (None, "") and value in (None, "")
    if isinstance(value, bool):
        return str(printed) == str(value)
    if isinstance(value, int | float):
        try:
            return cells.is_close(float(str(printed)), value)
        except ValueError:
            return False
    return columns.is_same_cell_text(str(printed), str(value))


def _find_errors(line: FileLine, view: Expectations) -> Iterator[str]:
    row = _find_row(line, view)
    if row is None:
        yield f"no raw record is row {line.values.get('processor_text')!r} of run {line.run}"
        return
    if isinstance(row, RawRow):
        wanted = tables.add_price(view.expect_row(row), _parse_number(line.values.get("price_per_hour")))
        wanted = tables.select_seed(wanted, _parse_number(line.values.get("seed")))
        if line.table in NOTED:
            yield from ceilings.find_note_errors(line.notes, row, view.products.best(row))
        if not tables.can_have_title(line.group, row, view):
            yield f"its group is {line.group!r}, which is other work"
    else:
        wanted = view.expect_published(row)
    keys = {columns.find_key(name, line.table) for name in line.values}
    for key in sorted(key for key in keys if key is not None):
        yield from _find_column_errors(line, key, wanted, view)
    for name in line.values:
        if columns.find_key(name, line.table) is None:
            yield f"no rule to check column {name!r}"


def _parse_number(printed: object) -> float | None:
    try:
        return None if printed is None else float(str(printed))
    except ValueError:
        return None


def _find_column_errors(line: FileLine, key: str, wanted: ExpectedRow, view: Expectations) -> Iterator[str]:
    """Raw values and printed text of one column."""
    for name, value in columns.raw_values(key, line.table, wanted).items():
        if name in columns.VARIANT_FIELDS and not any(each in line.values for each in columns.VARIANT_FIELDS):
            continue  # a file of rows that are all computed the plain way says nothing of it
        printed = line.values.get(name)
        if name == "baseline" and wanted.base is not None:
            right = columns.is_row_baseline(wanted, printed)
            value = wanted.base.full_name
        else:
            right = is_same_value(printed, value)
        if not right:
            yield f"{name} is {printed!r}, from the records it is {value!r}"
    text = str(line.values.get(f"{key}_text", ""))
    if key == "processor":
        if not any(each.row is wanted.row for each in view.printed_as(text)):
            yield f"{text!r} is not how the row is called"
        return
    try:
        yield from cells.find_cell_errors(cells.read_cell(columns.heading(key, line.table), text), wanted)
    except ValueError as error:
        yield f"{key}_text: {error}"


def _find_learning_errors(line: FileLine, view: Expectations) -> Iterator[str]:
    """A line of the lecture's stopping rule, or of a mode against the plain one."""
    named = _find_row(line, view) if line.run is not None else None
    row = named if isinstance(named, RawRow) else None
    if line.table == convergence.TABLE:
        line_of = convergence.expect_line(line.values, tables.strip_title(line.group), row, view)
    else:
        line_of = stopping_rule.expect_line(line.values, line.table, row, view)
    if line_of is None:
        yield f"no raw record gives such a line of run {line.run}"
    else:
        has_variant_fields = any(name in line.values for name in columns.VARIANT_FIELDS)
        yield from expected_line.find_line_errors(
            line.values, line_of if has_variant_fields else _without_variant_fields(line_of), is_same_value
        )


def _without_variant_fields(line: Sequence[expected_line.ExpectedCell]) -> list[expected_line.ExpectedCell]:
    """The same without the fields that a file of rows computed the plain way leaves out."""
    return [
        replace(each, values={name: value for name, value in each.values.items() if name not in columns.VARIANT_FIELDS})
        for each in line
    ]


def _find_machine_errors(line: FileLine, view: Expectations) -> Iterator[str]:
    """A fact with a column a machine, or a machine with a column a fact."""
    names, fact = sorted(view.machines), str(line.values.get("fact"))
    for name, value in line.values.items():
        printed, column = to_page_text(str(value)), name.removesuffix("_text")
        numbered = _MACHINE.fullmatch(column)
        if numbered and int(numbered.group(1)) < len(names):
            yield from machines.find_fact_errors(fact, names[int(numbered.group(1))], printed, view)
        elif column in machines.FACTS:
            yield from machines.find_fact_errors(column, str(line.values.get("machine_id")), printed, view)
        elif column not in ("fact", "differs", "machine_id", "machine"):
            yield f"no rule to check column {name!r}"
    texts = {str(value) for name, value in line.values.items() if _MACHINE.fullmatch(name)}
    marks = (("fact_text", line.values.get("fact")), ("differs_text", "differs" if len(texts) > 1 else None))
    for name, right in (*marks, ("differs", len(texts) > 1)):
        if name in line.values and not is_same_value(line.values[name], right):
            yield f"{fact}: {name} is {line.values[name]!r}, the machines' texts say otherwise"
