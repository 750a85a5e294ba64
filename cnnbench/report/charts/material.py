"""What charts are made from: the compared rows, the records behind each, and how a row is named on an axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnbench import units
from cnnbench.analysis.compare import Comparison, Reference, Row
from cnnbench.report import labels
from cnnbench.report.model import Value
from cnnbench.report.safe import plain
from cnnbench.schema import Record, Trial, digest
from cnnbench.store import Ledger

KEY_CHARACTERS = 12
"""Of a row key's SHA-256: enough to tell the rows of one run apart."""
MOST_MARKS = 40
"""Rows a chart shows at the most: beyond it labels no longer fit a page; which are left out is said in the caption."""


@dataclass(frozen=True)
class Material:
    """All a chart may look at. `records` are those of each shown row, by (run, row key)."""

    comparison: Comparison
    records: Mapping[tuple[str, str], tuple[Record, ...]] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()

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
        found = [
            (record, record.outcome.trial)
            for record in self.records.get((row.run_id, row.row_key), ())
            if record.outcome.status == "ok" and record.outcome.trial is not None
        ]
        return sorted(found, key=lambda pair: (pair[0].job.round, pair[0].index))


def gather(comparison: Comparison, ledgers: Iterable[Ledger], references: Sequence[Reference]) -> Material:
    """The comparison with the records of its rows. The published rows are drawn where they are given."""
    shown = {(row.run_id, row.row_key, row.protocol) for row in comparison.rows}
    found: dict[tuple[str, str], dict[tuple[int, int], Record]] = {}
    for ledger in ledgers:
        for record in ledger.records:
            key = record.job.row_key
            if (record.run_id, key, record.protocol) in shown:
                found.setdefault((record.run_id, key), {})[record.index, record.attempt] = record
    records = {key: tuple(by_place[place] for place in sorted(by_place)) for key, by_place in found.items()}
    return Material(comparison, records, tuple(references))


def number(datum: Mapping[str, Value], name: str) -> float:
    """A figure of a mark. Raises TypeError where it is unknown or no number."""
    value = datum[name]
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is {value!r}, no number")
    return float(value)


def identity(row: Row) -> dict[str, Value]:
    """Which raw row a mark is: run, the beginning of its row key's SHA-256, and words for the reader."""
    return {
        "run": row.run_id,
        "row": digest(row.row_key)[:KEY_CHARACTERS],
        "machine": row.machine.id,
        "processor": labels.processor(row.device),
        "place": labels.place(row.job),
        "precision": row.job.precision,
        "work": labels.work(row.job),
    }


def reference_identity(found: Reference) -> dict[str, Value]:
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


def row_lines(row: Row, *, batch: bool = False) -> tuple[str, str, str]:
    """A row's label in three lines: the processor, its place on the machine, what was timed."""
    where = [labels.place(row.job).removeprefix("cpu, ")]
    where += [row.job.precision] if row.job.precision != "fp32" else []
    if row.job.workload == "gemm":
        what = [f"gemm {units.count(row.job.size)}"]
    else:
        what = [f"batch {row.job.batch_size}"] if batch else []
        what += ["whole job" if row.job.clock == "job" else f"{units.count(row.timed_steps)} steps"]
    return labels.processor(row.device), ", ".join(where), ", ".join(what)


def reference_lines(found: Reference) -> tuple[str, str, str]:
    """The same for a published row."""
    return found.published.processor, "published", str(found.published.year)


def axis_labels(names: Sequence[Sequence[str]]) -> list[str]:
    """A label a row: its lines, then a counter that the axis does not show.

    Vega-Lite makes one place of equal labels, so rows that read alike need something to tell them apart.
    """
    seen: dict[tuple[str, ...], int] = {}
    made = []
    for lines in names:
        words = tuple(" ".join(line.split()) for line in lines)
        count = seen[words] = seen.get(words, 0) + 1
        made.append("\n".join((*words, str(count))))
    return made


def series_names(names: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[str]:
    """A name a line of a chart, in one line; those that read alike get their machine, then their run, then a number.

    Marks of one name are joined by one line, so two machines with the same processor need something to tell them apart.
    """
    made = [one_line(label) for label in axis_labels(names)]
    made = _told_apart(made, [plain(row.machine.id) for row in rows])
    made = _told_apart(made, [plain(row.run_id) for row in rows])
    return _told_apart(made, [f"number {made[:n].count(name) + 1}" for n, name in enumerate(made)])


def _told_apart(names: Sequence[str], further: Sequence[str]) -> list[str]:
    return [f"{name}, {more}" if names.count(name) > 1 else name for name, more in zip(names, further, strict=True)]


def one_line(label: object) -> str:
    """The label as the reader sees it, in one line."""
    return ", ".join(part for part in str(label).split("\n")[:-1] if part)
