"""Benchmarks read from pytest-benchmark's files, as a table and as text. Never in a table with a ledger's rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from cnnbench import __version__, units
from cnnbench.bridges import exports
from cnnbench.bridges.pytest_benchmark import COLUMNS, IngestedBenchmark, flatten_benchmarks
from cnnbench.report import escaping
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table

CLOCK = "Clock: pytest-benchmark's, a round from start to stop; whether a device was waited for is up to the test."
RULE = "Each file is one process: n=1, whatever rounds it has. Rounds are not independent, so no interval is drawn."


def _name(each: IngestedBenchmark) -> str:
    return escaping.plain(each.name)


METRIC_COLUMNS: tuple[tuple[Column, Callable[[IngestedBenchmark], str]], ...] = (
    (Column("name", "benchmark", "", 1, "left"), _name),
    (Column("median", "median", "of a round", 1), lambda each: units.short_seconds(each.median_seconds)),
    (Column("min", "fastest", "round", 2), lambda each: units.short_seconds(each.min_seconds)),
    (Column("stddev", "std. dev.", "of rounds", 4), lambda each: units.short_seconds(each.stddev_seconds)),
    (Column("rounds", "rounds", "", 3), lambda each: units.count(each.rounds)),
    (Column("flops", "achieved", "GFLOP/s", 3), lambda each: units.giga(each.flops_per_second)),
    (Column("images", "images", "/s", 4), lambda each: units.rate(each.images_per_second)),
    (Column("host_peak", "host peak", "", 5), lambda each: units.data_size(each.host_peak_bytes)),
    (Column("device", "device", "", 5, "left"), lambda each: escaping.plain(each.job_device or units.NOT_AVAILABLE)),
)


def build(found: Sequence[IngestedBenchmark], problems: Sequence[str] = ()) -> Report:
    """The table, a group a file, with what each file is of in its heading."""
    by_run: dict[str, list[IngestedBenchmark]] = {}
    for each in found:
        by_run.setdefault(each.run_id, []).append(each)
    groups = tuple(RowGroup(_title(rows[0]), tuple(_line(each) for each in rows)) for rows in by_run.values())
    table = Table(
        "ingested", "pytest-benchmark: one process a file", CLOCK, tuple(c for c, _ in METRIC_COLUMNS), groups
    )
    notes = (Note("rule", RULE), *(Note("problem", escaping.plain(line)) for line in problems))
    return Report((table,) if groups else (), notes)


def _title(first: IngestedBenchmark) -> str:
    parts = [first.source, first.processor or "unknown processor"]
    parts += [f"torch {first.torch}"] if first.torch else []
    parts += (
        [f"commit {first.commit_id[:10]}{' with changes' if first.commit_dirty else ''}"] if first.commit_id else []
    )
    parts += [first.created_at] if first.created_at else []
    return " · ".join(escaping.plain(part) for part in parts)


def _line(each: IngestedBenchmark) -> Line:
    return Line(tuple(Cell(text(each)) for _, text in METRIC_COLUMNS))


def as_csv(found: Sequence[IngestedBenchmark]) -> str:
    """One line a benchmark, under the frame's names; unknown is empty."""
    return exports.comma_separated(flatten_benchmarks(found), COLUMNS)


def as_json(found: Sequence[IngestedBenchmark]) -> str:
    """One object a benchmark, its parameters and extra_info as objects."""
    rows = [
        {
            **row,
            **{name: None if row[name] is None else json.loads(str(row[name])) for name in ("params", "extra_info")},
        }
        for row in flatten_benchmarks(found)
    ]
    document = {"cnnbench": __version__, "kind": "pytest-benchmark", "rule": RULE, "benchmarks": rows}
    return escaping.as_json(document, indent=2) + "\n"
