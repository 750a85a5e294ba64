"""A metric is declared in one place: declared in a test, it is a column of the terminal's table, of CSV, JSON and HTML, a line of
the page of formulas, a column of the exported processes, and a reason where it is n/a.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import builders as b
import pytest
from click.testing import CliRunner

from cnnbench import units
from cnnbench.analysis import metrics
from cnnbench.analysis.metrics import Metric
from cnnbench.cli.main import cli

FAULTS = (1_500, 3_000, 6_000)
STEPS = 150
"""Timed steps of each process: their page faults a step are 10, 20 and 40, with the geometric mean 20."""
DRILLED = Metric(
    "page_faults_per_step",
    "page\nfaults",
    "a step",
    text=units.count,
    tables={"resources": 1},
    key="page_faults",
    of=lambda process: None if process.trial.minor_faults is None else process.trial.minor_faults / process.trial.steps,
    why_missing=lambda row, values, good: None if values else "that system counts no page faults",
    gap="page faults",
    formula="minor_faults / steps; geometric mean over processes",
    reads="minor_faults, steps",
)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run cnnbench on one row with page faults and one without; the metric is declared in this test alone."""
    counted = [b.record(b.cnn_job(round=n), 0.07, index=n, minor_faults=FAULTS[n]) for n in range(len(FAULTS))]
    uncounted = b.repeats(b.cnn_job(threads=1), [0.4, 0.41, 0.42], start=len(FAULTS))
    b.write(tmp_path, b.ledger([*counted, *uncounted]))
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, DRILLED))

    def invoke(*arguments: str) -> str:
        found = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": "400"}, catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout

    monkeypatch.chdir(tmp_path)
    return invoke


def test_a_declared_metric_is_a_column_on_the_terminal(call: Callable[..., str]) -> None:
    text = call("show", ".", "--all")
    assert [line for line in text.splitlines() if "faults" in line and "cold" not in line]
    assert "n/a, page faults: that system counts no page faults" in text


def test_a_declared_metric_has_its_values_in_csv_and_json(call: Callable[..., str]) -> None:
    def rows(table: str) -> list[dict[str, str]]:
        return [
            row for row in csv.DictReader(io.StringIO(call("show", ".", "--format", "csv"))) if row["table"] == table
        ]

    known, unknown = sorted(rows("resources"), key=lambda row: row["page_faults_per_step"], reverse=True)
    assert float(known["page_faults_per_step"]) == pytest.approx(20.0)
    assert (known["page_faults_per_step_n"], known["page_faults_text"]) == ("3", "20")
    assert (unknown["page_faults_per_step"], unknown["page_faults_text"]) == ("", "n/a")
    (found,) = [
        row["page_faults_per_step"]
        for table in json.loads(call("show", ".", "--format", "json"))["tables"]
        for row in table["rows"]
        if row.get("page_faults_per_step") is not None
    ]
    assert found == pytest.approx(20.0)


def test_a_declared_metric_is_a_column_of_the_page_and_a_line_of_its_formulas(call: Callable[..., str]) -> None:
    call("report", ".", "--static", "-o", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "page faults" in " ".join(page.split())
    assert DRILLED.formula in page
    assert DRILLED.reads in page


def test_each_process_of_a_declared_metric_is_exported(call: Callable[..., str]) -> None:
    exported = list(csv.DictReader(io.StringIO(call("export", ".", "--to", "csv"))))
    values = [row["page_faults_per_step"] for row in exported]
    assert sorted(map(float, filter(None, values))) == pytest.approx([faults / STEPS for faults in FAULTS])
    assert values.count("") == 3
