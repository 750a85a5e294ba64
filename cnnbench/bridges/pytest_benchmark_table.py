"""Benchmarks read from pytest-benchmark's files, as a table and as text. Never in a table with a ledger's rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

from cnnbench import units
from cnnbench.bridges.pytest_benchmark import COLUMNS, IngestedBenchmark, flatten_benchmarks
from cnnbench.report.escaping import plain
from cnnbench.report.model import Column, Note, Report
from cnnbench.report.render import text
from cnnbench.report.value_table import ValueColumn, make_table

CLOCK = "Clock: pytest-benchmark's, a round from start to stop; whether a device was waited for is up to the test."
RULE = "Each file is one process: n=1, whatever rounds it has. Rounds are not independent, so no interval is drawn."
METRIC_COLUMNS: tuple[ValueColumn[IngestedBenchmark], ...] = (
    (Column("name", "benchmark", "", 1, "left"), lambda each: plain(each.name)),
    (Column("median", "median", "of a round", 1), lambda each: units.short_seconds(each.median_seconds)),
    (Column("min", "fastest", "round", 2), lambda each: units.short_seconds(each.min_seconds)),
    (Column("stddev", "std. dev.", "of rounds", 4), lambda each: units.short_seconds(each.stddev_seconds)),
    (Column("rounds", "rounds", "", 3), lambda each: each.rounds),
    (Column("flops", "achieved", "GFLOP/s", 3), lambda each: units.giga(each.flops_per_second)),
    (Column("images", "images", "/s", 4), lambda each: units.rate(each.images_per_second)),
    (Column("host_peak", "host peak", "", 5), lambda each: units.data_size(each.host_peak_bytes)),
    (Column("device", "device", "", 5, "left"), lambda each: plain(each.job_device or units.NOT_AVAILABLE)),
)


def build(found: Sequence[IngestedBenchmark], problems: Sequence[str] = ()) -> Report:
    """The table, a group a file, with what each file is of in its heading."""
    runs = (list(members) for _, members in itertools.groupby(found, key=lambda each: each.run_id))
    groups = [(_title(members[0]), members) for members in runs]
    table = make_table("ingested", "pytest-benchmark: one process a file", METRIC_COLUMNS, groups, CLOCK)
    notes = (Note("rule", RULE), *(Note("problem", plain(line)) for line in problems))
    return Report((table,) if groups else (), notes, _document(found))


def _title(first: IngestedBenchmark) -> str:
    changes = " with changes" if first.commit_dirty else ""
    parts = (
        first.source,
        first.processor or "unknown processor",
        first.torch and f"torch {first.torch}",
        first.commit_id and f"commit {first.commit_id[:10]}{changes}",
        first.created_at,
    )
    return " · ".join(plain(part) for part in parts if part)


def as_csv(found: Sequence[IngestedBenchmark]) -> str:
    """One line a benchmark, under the frame's names; unknown is empty."""
    return text.write_csv(flatten_benchmarks(found), COLUMNS)


def _document(found: Sequence[IngestedBenchmark]) -> dict[str, object]:
    """One object a benchmark, its parameters and extra_info as objects."""
    rows = flatten_benchmarks(found)
    for row in rows:
        row |= {name: row[name] and json.loads(row[name]) for name in ("params", "extra_info")}
    return {"kind": "pytest-benchmark", "rule": RULE, "benchmarks": rows}
