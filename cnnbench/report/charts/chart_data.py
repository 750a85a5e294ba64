"""The input of charts: the compared rows, the records behind each, and the names of rows on an axis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cnnbench import naming, units
from cnnbench.analysis.ratio import PublishedResult
from cnnbench.analysis.rows import Row
from cnnbench.analysis.speedup import Comparison
from cnnbench.analysis.stats import Estimate
from cnnbench.plain_text import plain
from cnnbench.report import cells
from cnnbench.report.model import Datum
from cnnbench.schema import Record, Trial
from cnnbench.store import Ledger

Item = TypeVar("Item")
Kept = tuple[Sequence[Item], str]
"""The items that a chart has room for, and the caption's last sentence if some are left out."""
LONGEST_ID = 40
MOST_MARKS = 40
"""Most rows of a chart: with more, labels do not fit a page; the caption names those left out."""


@dataclass(frozen=True)
class ChartData:
    """All the input of a chart. `records` has those of each shown row, by (run, row key), then by index and attempt."""

    comparison: Comparison
    records: Mapping[tuple[str, str], Mapping[tuple[int, int], Record]] = field(default_factory=dict)

    @property
    def training(self) -> list[Row]:
        """List the rows of training jobs."""
        return [row for row in self.comparison.rows if row.job.workload != "gemm"]

    def list_trials(self, row: Row, *, missed: bool = False) -> list[tuple[Record, Trial]]:
        """List the row's processes that ended well by round, with `missed` also those that missed their target."""
        wanted = ("ok", "missed") if missed else ("ok",)
        found = [
            (record, record.outcome.trial)
            for record in self.records.get((row.run_id, row.row_key), {}).values()
            if record.outcome.status in wanted and record.outcome.trial is not None
        ]
        return sorted(found, key=lambda pair: (pair[0].job.round, pair[0].index, pair[0].attempt))


def collect_chart_data(comparison: Comparison, ledgers: Iterable[Ledger]) -> ChartData:
    """Collect the comparison with the records of its rows."""
    shown = {(row.run_id, row.row_key, row.protocol) for row in comparison.rows}
    found: dict[tuple[str, str], dict[tuple[int, int], Record]] = {}
    for record in (record for ledger in ledgers for record in ledger.records):
        key = record.run_id, record.job.row_key
        if (*key, record.protocol) in shown:
            found.setdefault(key, {})[record.index, record.attempt] = record
    return ChartData(comparison, found)


def list_numbers(data: Iterable[Datum], *names: str) -> list[float]:
    """List the known figures in these fields."""
    return [datum[name] for datum in data for name in names if datum.get(name) is not None]


def list_values(data: Iterable[Datum], name: str, order: Iterable[str] | None = None) -> list[str]:
    """List the different words in a field, in the given order or else in that of the data."""
    found = dict.fromkeys(str(datum[name]) for datum in data)
    return list(found) if order is None else [each for each in order if each in found]


def identity(row: Row) -> Datum:
    """Identify the raw row of a mark: run, the beginning of its row key's SHA-256, and words for the reader."""
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


def label_rows(rows: Sequence[Row], *, batch: bool = False) -> Iterator[tuple[Row, Datum]]:
    """Yield each row with the fields of all its marks: its identity and its label."""
    for row, label in zip(rows, axis_labels(row_names(rows, batch=batch)), strict=True):
        yield row, {**identity(row), "label": label}


def label_published(published: Sequence[PublishedResult]) -> Iterator[tuple[PublishedResult, Datum]]:
    """Yield each published row as `label_rows` does; run, row, machine and precision are unknown."""
    names = [(found.published.processor, "published", str(found.published.year)) for found in published]
    unknown = dict.fromkeys(("run", "row", "machine", "precision"))
    work = "the lecture's table; the job is assumed"
    for found, (processor, _, year), label in zip(published, names, axis_labels(names), strict=True):
        yield found, {**unknown, "processor": processor, "place": year, "work": work, "label": label}


def row_names(rows: Sequence[Row], *, batch: bool = False) -> list[tuple[str, ...]]:
    """Name each row in four lines: processor, place on the machine, what was timed, and what distinguishes it."""
    several = len({row.job.workload for row in rows} - {"gemm"}) > 1
    names = []
    for row in rows:
        job = row.job
        what = [plain(job.workload, LONGEST_ID)] if several else []
        what += [f"batch {job.batch_size}"] if batch else []
        if job.workload == "gemm":
            what = [f"gemm {units.count(job.size)}"]
        elif job.clock == "accuracy" and job.target is not None:
            what.append(f"to {units.exact_percent(job.target)}")
        else:
            what.append("whole job" if job.timed_whole else f"{units.count(row.steps)} steps")
        where = (naming.place_label(job).removeprefix("cpu, "), *naming.chart_words(job))
        names.append((naming.processor_name(row.device), ", ".join(where), ", ".join(what)))
    return tell_apart(names, rows)


def tell_apart(names: Iterable[Sequence[str]], rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Find what each name needs beside it if rows would read alike: the machine, the run, or their training data.

    All names get it, or all get an empty word if none needs it.
    """
    alike = [(*name, "") for name in names]
    facts = [(row.machine.id, row.run_id, str(row.job.init), str(row.job.order)) for row in rows]
    for words in zip(*facts, strict=True):
        told = [(*name[:-1], plain(word, LONGEST_ID)) for name, word in zip(alike, words, strict=True)]
        if len({*told}) > len({*alike}):
            return told
    return alike


def number_repeats(items: Iterable[Item]) -> Iterator[tuple[Item, int]]:
    """Yield each item with its number among those that equal it, from 1 on."""
    seen = Counter[Item]()
    for item in items:
        seen[item] += 1
        yield item, seen[item]


def series_names(names: Iterable[Sequence[str]]) -> list[str]:
    """Write each name in one line, no two alike, so that each series has its own line in the legend."""
    lines = [", ".join(filter(None, words)) for words in names]
    return [line if number == 1 else f"{line} ({number})" for line, number in number_repeats(lines)]


def keep_fastest(rows: Iterable[Row], estimate_of: Callable[[Row], Estimate | None]) -> Kept[Row]:
    """Keep the rows with the largest estimates, the largest first."""
    known = [(-found.value, row.row_key, row) for row in rows if (found := estimate_of(row)) is not None]
    return keep_first([row for *_, row in sorted(known, key=lambda item: item[:2])], which="The fastest")


def keep_different(
    items: Sequence[Item], kind: Callable[[Item], Hashable], most: int, what: str = "series"
) -> Kept[Item]:
    """Keep items of as many kinds as possible: the first of each kind, then the second of each."""
    turns = sorted(zip(number_repeats(map(kind, items)), items, strict=True), key=lambda pair: pair[0][1])
    return keep_first([item for _, item in turns], most, "The most different", what)


def keep_evenly(items: Sequence[Item]) -> Kept[Item]:
    """Keep every item, or every second, and so on."""
    return keep_first(items, which="Evenly some,", step=max(1, -(-len(items) // MOST_MARKS)))


def keep_first(
    items: Sequence[Item], most: int = MOST_MARKS, which: str = "The first", what: str = "rows", step: int = 1
) -> Kept[Item]:
    """Keep the first items, as many as a chart has room for."""
    shown = items[::step][:most]
    if len(shown) == len(items):
        return shown, ""
    return shown, f" {which} {len(shown)} of {len(items)} {what} are drawn; all are in the tables' files."


LABEL_LINES = 4


def axis_labels(names: Iterable[Sequence[str]]) -> list[str]:
    """Make a label for each row: four lines, some may be blank, then a counter that the axis does not show.

    Vega-Lite merges the places of equal labels, so rows that read alike need the counter.
    """
    blank = ("",) * LABEL_LINES
    labels = ["\n".join(" ".join(line.split()) for line in (*lines, *blank)[:LABEL_LINES]) for lines in names]
    return [f"{label}\n{number}" for label, number in number_repeats(labels)]


def one_line(label: object) -> str:
    """Write a label as the reader sees it, in one line."""
    return ", ".join(filter(None, str(label).split("\n")[:-1]))


def describe_texts(data: Iterable[Datum]) -> list[str]:
    """Describe each mark by its row and its figure."""
    return [f"{one_line(datum['label'])} {datum['text']}" for datum in data]
