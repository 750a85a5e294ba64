"""Tables of a page against the records: each row is held against the raw row it can be that it departs least from."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnnbench.verify import cells, convergence, machines, stopping_rule, time_to_accuracy
from cnnbench.verify.cells import ReadCell
from cnnbench.verify.expectations import Expectations, ExpectedRow
from cnnbench.verify.intervals import ExpectedFigure
from cnnbench.verify.pages import PrintedRow, PrintedTable
from cnnbench.verify.raw_rows import RawRow

METHOD = "figure"
"""First heading of the table of formulas, which has no figures."""
_PUBLISHED = re.compile(r"(\d{4}), the lecture's table.*?(?:: ([\d,]+) images)?(?: · ours below)?")
_SHORTENED = re.compile(r" · (?:(\d+) of ([\d,]+) rows, the others in .*|\d+ more groups in the files)$")


@dataclass(frozen=True)
class Checked:
    """How many figures were looked at, and what is wrong, each with the line it stands on."""

    figures: int
    errors: tuple[tuple[int, str], ...]


def check_table(table: PrintedTable, view: Expectations) -> Checked | None:
    """The table against the records; None where it is of a kind that there are no rules for."""
    if table.headings[:1] == ["processor"]:
        return _check_processors(table, view)
    if table.headings[:1] == [METHOD]:
        return Checked(0, ())
    if machines.is_machines_table(table.headings):
        return Checked(*machines.check_table(table, view))
    groups = [(strip_title(title), rows) for title, rows in _groups(table.rows)]
    if stopping_rule.is_stopping_table(table.headings):
        return Checked(*stopping_rule.check_table(table.headings, groups, view))
    if convergence.is_convergence_table(table.headings):
        return Checked(*convergence.check_table(table.headings, groups, view))
    return None


def _check_processors(table: PrintedTable, view: Expectations) -> Checked:
    columns = [cells.find_column_rule(heading) for heading in table.headings]
    wrong = [
        (table.line, f"no rule to check column {heading!r}")
        for heading, name in zip(table.headings, columns, strict=True)
        if name is None
    ]
    wrong += [(table.line, message) for heading in table.headings for message in _find_heading_errors(heading, view)]
    figures = 0
    for group, rows in _groups(table.rows):
        wrong += [(rows[0].line, message) for message in find_title_errors(group, rows, view)]
        for row in rows:
            found, messages = _check_row(row, columns, view)
            figures += found
            wrong += [(row.line, message) for message in messages]
    return Checked(figures, tuple(wrong))


def _find_heading_errors(heading: str, view: Expectations) -> Iterator[str]:
    """`over 2017's i7-4790K` is over the published CPU, and `speed-up over box/cpu` over what the page is over."""
    over, published = heading.removeprefix("over "), view.published
    if over != heading:
        right = "" if published is None else f"{published.year}'s {published.processor.rpartition(' ')[2]}"
        if over != right:
            yield f"the column is over {over!r}, the published CPU is {right!r}"


def _groups(rows: Sequence[PrintedRow]) -> Iterator[tuple[str, list[PrintedRow]]]:
    by_title: dict[str, list[PrintedRow]] = {}
    for row in rows:
        by_title.setdefault(row.group, []).append(row)
    yield from by_title.items()


def _check_row(row: PrintedRow, columns: Sequence[str | None], view: Expectations) -> tuple[int, list[str]]:
    """How many cells were held against the records, and what is wrong in the row."""
    if len(row.cells) != len(columns):
        return 0, [f"{len(row.cells)} cells under {len(columns)} headings"]
    keys = row.keys or (None,) * len(columns)
    name = row.cells[columns.index("processor")]
    read, wrong = [], []
    for column, text, key in zip(columns, row.cells, keys, strict=True):
        if column is None or column in cells.NAMES:
            if key and not cells.can_sort_by(key, text):
                wrong.append(f"{text!r} sorts by {key!r}")
            continue
        try:
            read.append(cells.read_cell(column, text, key))
        except ValueError as error:
            wrong.append(f"{column}: {error}")
    candidates = view.printed_as(name)
    if not candidates:
        return 0, [*wrong, f"no raw record is a row {name!r}"]
    fitting = _find_fitting(row.group, view)
    same = [each for each in candidates if fitting is None or id(each.row) in fitting]
    return len(read), wrong + find_nearest(read, same or candidates)


def find_nearest(read: Sequence[ReadCell], candidates: Sequence[ExpectedRow]) -> list[str]:
    """What is wrong with the row as the candidate that fits best."""
    best: list[str] | None = None
    for wanted in candidates:
        found: list[str] = []
        for message in _find_errors(read, wanted):
            found.append(message)
            if best is not None and len(found) >= len(best):
                break
        else:
            best = found
        if not best:
            break
    return best or []


def _find_errors(read: Sequence[ReadCell], wanted: ExpectedRow) -> Iterator[str]:
    price = next((cell.parsed for cell in read if cell.column == "price an hour" and cell.parsed), None)
    if price is not None:
        wanted = add_price(wanted, None if price.number is None else price.number.value)
    seed = next((cell.parsed for cell in read if cell.column == "seed" and cell.parsed), None)
    if seed is not None:
        wanted = select_seed(wanted, None if seed.number is None else seed.number.value)
    for cell in read:
        yield from cells.find_cell_errors(cell, wanted)


def add_price(wanted: ExpectedRow, an_hour: float | None) -> ExpectedRow:
    """The row with the cost of its job at a price that only the page knows."""
    time = wanted.metrics.get("time of the job")
    cost = None if an_hour is None or time is None else time.scaled(an_hour / cells.SECONDS_AN_HOUR)
    given = None if an_hour is None else ExpectedFigure(an_hour)
    return dataclasses.replace(wanted, metrics=wanted.metrics | {"price an hour": given, "cost of the job": cost})


def select_seed(wanted: ExpectedRow, seed: float | None) -> ExpectedRow:
    """The row as one of its seeds, which only the page names."""
    found = (
        time_to_accuracy.expect_seed(wanted.row, seed) if isinstance(wanted.row, RawRow) and seed is not None else None
    )
    if found is None:
        return wanted
    return dataclasses.replace(
        wanted, metrics=wanted.metrics | found.metrics, words=wanted.words | found.words, raw_values=found.raw_values
    )


def strip_title(group: str) -> str:
    """A group's title without what is said of rows that are left out."""
    return _SHORTENED.sub("", group)


def _find_fitting(group: str, view: Expectations) -> frozenset[int] | None:
    """The rows, by `id`, whose work the title of this group can be of; None where it is of no work."""
    title = strip_title(group)
    return None if _PUBLISHED.fullmatch(title) else view.find_fitting(title)


def can_have_title(group: str, row: RawRow, view: Expectations) -> bool:
    """Whether a row can stand under the title of this group."""
    fitting = _find_fitting(group, view)
    return fitting is None or id(row) in fitting


def find_title_errors(group: str, rows: Sequence[PrintedRow], view: Expectations) -> Iterator[str]:
    """What is wrong in the title itself: numbers of no job here, rows counted wrong, another published job."""
    shortened = _SHORTENED.search(group)
    if shortened and shortened.group(1) and int(shortened.group(1)) != len(rows):
        yield f"the title counts {shortened.group(1)} rows, there are {len(rows)}"
    title = strip_title(group)
    if published := _PUBLISHED.fullmatch(title):
        year, images = published.groups()
        years = {str(row.year) for row in view.references}
        known = {None, *(str(row.job_images) for row in view.references)}
        if year not in years or (images and images.replace(",", "")) not in known:
            yield f"the title {title!r} is of no published job"
        return
    if not view.find_fitting(title):
        least = min((view.find_word_errors(title, row) for row in view.rows), key=len, default=())
        yield from (f"the title {title!r} {message}" for message in least)
