"""What charts are made from: the compared rows, the records behind each, and how a row is named on an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cnnbench import naming, units
from cnnbench.analysis.speedup import Comparison, PublishedResult, Row
from cnnbench.report import cells, escaping
from cnnbench.report.model import Value
from cnnbench.schema import Record, Trial
from cnnbench.store import Ledger

Item = TypeVar("Item")
LONGEST_ID = 40
MOST_MARKS = 40
"""Rows a chart shows at the most: beyond it labels no longer fit a page; which are left out is said in the caption."""


@dataclass(frozen=True)
class ChartData:
    """All a chart may look at. `records` are those of each shown row, by (run, row key)."""

    comparison: Comparison
    records: Mapping[tuple[str, str], tuple[Record, ...]] = field(default_factory=dict)
    published_rows: tuple[PublishedResult, ...] = ()

    @property
    def training(self) -> list[Row]:
        """Rows of training jobs."""
        return [row for row in self.comparison.rows if row.job.workload != "gemm"]

    @property
    def gemm(self) -> list[Row]:
        """Rows of matrix products."""
        return [row for row in self.comparison.rows if row.job.workload == "gemm"]

    def trials(self, row: Row) -> list[tuple[Record, Trial]]:
        """The row's processes that ended well, by round."""
        return [(record, trial) for record, trial in self.attempts(row) if record.outcome.status == "ok"]

    def attempts(self, row: Row) -> list[tuple[Record, Trial]]:
        """Those, and the ones that missed their target, by round."""
        found = [
            (record, record.outcome.trial)
            for record in self.records.get((row.run_id, row.row_key), ())
            if record.outcome.status in ("ok", "missed") and record.outcome.trial is not None
        ]
        return sorted(found, key=lambda pair: (pair[0].job.round, pair[0].index))


def collect_chart_data(
    comparison: Comparison, ledgers: Iterable[Ledger], published_rows: Sequence[PublishedResult]
) -> ChartData:
    """The comparison with the records of its rows. The published rows are drawn where they are given."""
    shown = {(row.run_id, row.row_key, row.protocol) for row in comparison.rows}
    found: dict[tuple[str, str], dict[tuple[int, int], Record]] = {}
    for ledger in ledgers:
        for record in ledger.records:
            key = record.job.row_key
            if (record.run_id, key, record.protocol) in shown:
                found.setdefault((record.run_id, key), {})[record.index, record.attempt] = record
    records = {key: tuple(by_place[place] for place in sorted(by_place)) for key, by_place in found.items()}
    return ChartData(comparison, records, tuple(published_rows))


def read_number(datum: Mapping[str, Value], name: str) -> float:
    """A figure of a mark. Raises TypeError where it is unknown or no number."""
    value = datum[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    return float(value)


def identity(row: Row) -> dict[str, Value]:
    """Which raw row a mark is: run, the beginning of its row key's SHA-256, and words for the reader."""
    ((run, key),) = cells.name_raw_rows(row)
    return {
        "run": run,
        "row": key,
        "machine": row.machine.id,
        "processor": naming.processor_name(row.device),
        "place": naming.place_label(row.job),
        "precision": row.job.precision,
        "work": naming.work_label(row.job),
    }


def published_identity(found: PublishedResult) -> dict[str, Value]:
    """The same for a published row."""
    row = found.published
    return {
        "run": None,
        "row": None,
        "machine": None,
        "processor": row.processor,
        "place": str(row.year),
        "precision": None,
        "work": "the lecture's table; the job is assumed",
    }


def row_names(rows: Sequence[Row], *, batch: bool = False) -> list[tuple[str, str, str, str]]:
    """Each row's label in four lines: processor, place on the machine, what was timed, and what tells rows apart."""
    several = len({row.job.workload for row in rows} - {"gemm"}) > 1
    names = [_row_lines(row, batch=batch, workload=several) for row in rows]
    return [(*name, apart) for name, apart in zip(names, find_distinctions(names, rows), strict=True)]


def _row_lines(row: Row, *, batch: bool, workload: bool) -> tuple[str, str, str]:
    job = row.job
    where = (naming.place_label(job).removeprefix("cpu, "), *naming.chart_words(job))
    if job.workload == "gemm":
        what = [f"gemm {units.count(job.size)}"]
    else:
        what = [escaping.plain(job.workload, LONGEST_ID)] if workload else []
        what += [f"batch {job.batch_size}"] if batch else []
        what += [_timed(row)]
    return naming.processor_name(row.device), ", ".join(where), ", ".join(what)


def find_distinctions(names: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[str]:
    """What must stand beside each name where rows of several machines, or of several runs, would read alike: the machine, the
    run, or else what they were trained from and on. For all of them or, where none needs it, for none.
    """
    ways: tuple[Callable[[Row], str], ...] = (_machine, _run, _init, _order)
    for words in ways:
        places: dict[tuple[str, ...], set[str]] = {}
        for name, row in zip(names, rows, strict=True):
            places.setdefault(tuple(name), set()).add(words(row))
        if any(len(found) > 1 for found in places.values()):
            return [words(row) for row in rows]
    return ["" for _ in rows]


def _timed(row: Row) -> str:
    """What was timed: the whole job, the way to a target, or so many steps."""
    job = row.job
    if job.clock == "accuracy" and job.target is not None:
        return f"to {units.exact_percent(job.target)}"
    return "whole job" if job.timed_whole else f"{units.count(row.timed_steps)} steps"


def _machine(row: Row) -> str:
    return escaping.plain(row.machine.id, LONGEST_ID)


def _run(row: Row) -> str:
    return escaping.plain(row.run_id, LONGEST_ID)


def _init(row: Row) -> str:
    return escaping.plain(str(row.job.init), LONGEST_ID)


def _order(row: Row) -> str:
    return row.job.order


def series_names(names: Sequence[Sequence[str]]) -> list[str]:
    """Each name in one line, no two alike: a line a series, never two processors in one line."""
    seen: dict[str, int] = {}
    made = []
    for words in names:
        text = ", ".join(word for word in words if word)
        count = seen[text] = seen.get(text, 0) + 1
        made.append(text if count == 1 else f"{text} ({count})")
    return made


def mix_kinds(items: Sequence[Item], kind: Callable[[Item], object]) -> list[Item]:
    """The items so that the first few are of as many kinds as possible: the first of each kind, then the second of each."""
    seen: dict[object, int] = {}
    turns = []
    for place, item in enumerate(items):
        turn = seen[kind(item)] = seen.get(kind(item), 0) + 1
        turns.append((turn, place, item))
    return [item for _, _, item in sorted(turns, key=lambda each: each[:2])]


def describe_left_out(shown: int, all_of: int, what: str, which: str) -> str:
    """A caption's last sentence where not all are drawn; nothing where all are."""
    return f" {which} {shown} of {all_of} {what} are drawn; all are in the tables' files." if shown < all_of else ""


def published_lines(found: PublishedResult) -> tuple[str, str, str]:
    """The same for a published row."""
    return found.published.processor, "published", str(found.published.year)


LABEL_LINES = 4


def axis_labels(names: Sequence[Sequence[str]]) -> list[str]:
    """A label a row: its lines, four of them with blank ones at the end, then a counter that the axis does not show.

    Vega-Lite makes one place of equal labels, so rows that read alike need something to tell them apart.
    """
    seen: dict[tuple[str, ...], int] = {}
    made = []
    for lines in names:
        words = tuple(" ".join(line.split()) for line in (*lines, *[""] * (LABEL_LINES - len(lines))))
        count = seen[words] = seen.get(words, 0) + 1
        made.append("\n".join((*words, str(count))))
    return made


def one_line(label: object) -> str:
    """The label as the reader sees it, in one line."""
    return ", ".join(part for part in str(label).split("\n")[:-1] if part)
