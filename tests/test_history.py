"""Rows over recorded runs: the order, the change with its interval, the prediction, and what is never joined."""

from __future__ import annotations

import csv
import io
import json
import random
import statistics
import xml.etree.ElementTree as ET

import builders as b
import pytest
import run_builders as r
from click.testing import CliRunner

from cnnbench.analysis import process_table, stats
from cnnbench.analysis.history import build_history
from cnnbench.analysis.run_spread import PRIORS
from cnnbench.analysis.stats import predict_next_run
from cnnbench.cli.read import history as command
from cnnbench.errors import CnnbenchError, ExitCode
from cnnbench.report import cells, chart_images
from cnnbench.report.charts.history import MOST_PANELS, draw_history
from cnnbench.report.history import describe_changes


def series_of(ledgers):
    return build_history(process_table.read_processes(ledgers)[0])


def test_points_are_oldest_first_and_each_divides_by_the_one_before():
    """The change divides the processes' medians of two runs, worked out here from the builders' times."""
    (series,) = series_of(random.Random(1).sample(r.runs(), len(r.STEPS)))
    days = [point.row.created_at for point in series.points]
    assert days == sorted(days)
    times = [[step * (1 + (place - 1) / 100) for place in range(3)] for step in r.STEPS]
    assert series.points[0].change is None
    for before, now, point in zip(times, times[1:], series.points[1:], strict=False):
        prior = PRIORS["training", False]  # no run here has a boot
        expected = stats.ratio_between_runs(now, before, (prior, prior))
        assert point.change is not None
        assert (point.change.value, point.change.low, point.change.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )
    assert series.points[0].step is not None
    assert series.points[0].step.value == pytest.approx(statistics.geometric_mean(times[0]))


def test_the_ninth_run_is_the_first_with_a_prediction_and_it_is_of_the_eight_before():
    (series,) = series_of(r.runs())
    assert [point.predicted is not None for point in series.points] == [False] * 8 + [True] * 2
    assert series.points[8].predicted == predict_next_run([point.steps for point in series.points[:8]], 3)
    assert series.next == predict_next_run([point.steps for point in series.points], 3)


def test_work_machines_and_protocols_are_series_of_their_own():
    ledgers = [
        r.run(1, 0.01),
        r.run(2, 0.01, job=b.cnn_job(batch_size=64)),
        r.run(3, 0.01, machine=b.machine("other-1f2e")),
        r.run(4, 0.01, protocol=2),
        r.run(5, 0.01, job=b.cnn_job(threads=1)),
        r.run(6, 0.01, job=b.cnn_job(allocator="system")),
        r.run(7, 0.01),
    ]
    found = series_of(ledgers)
    assert sorted(len(series.points) for series in found) == [1, 1, 1, 1, 1, 2]
    for series in found:
        assert len({(point.row.row_key, point.row.protocol, point.row.machine.id) for point in series.points}) == 1


def test_other_conditions_are_named_not_joined_and_not_predicted_from():
    ledgers = [*r.runs(r.STEPS[:8]), r.run(9, 0.01, software={"torch": "2.14.0"}), r.run(10, 0.01)]
    (series,) = series_of(ledgers)
    assert [describe_changes(point.changed) for point in series.points[8:]] == [
        "torch 2.13.0 to 2.14.0",
        "torch 2.14.0 to 2.13.0",
    ]
    assert [point.stretch for point in series.points[7:]] == [0, 1, 2]
    assert series.points[8].predicted is None
    assert series.points[9].predicted == predict_next_run([point.steps for point in series.points[:8]], 3)


def test_a_new_version_of_cnnbench_is_named_and_joined():
    (series,) = series_of([r.run(1, 0.01), r.run(2, 0.01, software={"cnnbench": "0.2.0"})])
    assert describe_changes(series.points[1].changed) == "cnnbench 0.1.0 to 0.2.0"
    assert series.points[1].stretch == 0


def test_a_run_without_a_time_is_there_and_the_next_divides_by_the_one_before_it():
    job = b.cnn_job()
    failed = b.ledger([b.record(job, status="oom")], run_id="20260302T120000Z-dead", created_at="2026-03-02T12:00:00Z")
    (series,) = series_of([r.run(1, 0.01), failed, r.run(3, 0.02)])
    assert [point.step is None for point in series.points] == [False, True, False]
    assert series.points[1].change is None
    assert series.points[2].change is not None
    assert series.points[2].change.value == pytest.approx(2)


def test_the_order_of_ledgers_and_records_changes_nothing():
    ledgers = [*r.runs(), *(r.run(n, 0.02, job=b.cnn_job(batch_size=64)) for n in range(11, 14))]
    expected = draw_history(series_of(ledgers))
    for seed in range(2):
        assert draw_history(series_of(random.Random(seed).sample(ledgers, len(ledgers)))) == expected


def test_a_chart_has_a_mark_for_each_timed_run_and_a_band_for_the_next():
    ledgers = [*r.runs(), r.run(20, 0.02, software={"torch": "2.14.0"})]
    chart = draw_history(series_of(ledgers))
    assert chart is not None
    timed = [datum for datum in chart.data if datum["run"] is not None]
    assert [datum["median_step_seconds"] for datum in timed] == [
        pytest.approx(point.step.value) for point in series_of(ledgers)[0].points if point.step
    ]
    assert [datum["mark"] for datum in timed] == [None] * 10 + ["1"]
    assert "1: torch 2.13.0 to 2.14.0" in chart.caption
    assert len({datum["stretch"] for datum in timed}) == 2
    chart = draw_history(series_of(r.runs()))
    assert chart is not None
    assert chart.data[-1]["run"] is None
    assert chart.data[-1]["predicted_low_seconds"] == series_of(r.runs())[0].next.low


def test_a_chart_joins_no_two_rows_and_draws_no_more_than_fit():
    ledgers = [
        r.run(2 * n + day, 0.01, job=b.cnn_job(batch_size=8 * (n + 1)))
        for n in range(MOST_PANELS + 2)
        for day in (1, 2)
    ]
    chart = draw_history(series_of(ledgers))
    assert chart is not None
    assert len({datum["panel"] for datum in chart.data}) == MOST_PANELS
    for panel in range(MOST_PANELS):
        assert len({datum["row"] for datum in chart.data if datum["panel"] == panel}) == 1
    assert "2 more are in the table" in chart.caption


def test_one_run_of_each_row_is_no_chart():
    assert draw_history(series_of([r.run(1, 0.01)])) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0721, "72.10 ms"), (0.07155, "71.55 ms"), (1.5, "1.500 s"), (0.99999, "1,000 ms"), (12345.6, "12,346 s")],
)
def test_a_step_has_four_figures(seconds, text):
    assert cells.step_text(seconds) == text


def test_a_range_says_its_unit_once_unless_it_has_two():
    assert cells.step_span(0.07155, 0.07586) == "71.55–75.86 ms"
    assert cells.step_span(999e-6, 1010e-6) == "999.0 us–1.010 ms"


@pytest.fixture
def results(tmp_path):
    for ledger in [*r.runs(), r.run(20, 0.02, software={"torch": "2.14.0"})]:
        b.write(tmp_path, ledger)
    return tmp_path


def call(results, *arguments, code=0):
    result = CliRunner().invoke(command, [str(results), *map(str, arguments)], env={"COLUMNS": "200"})
    error = result.exception
    assert (error.exit_code if isinstance(error, CnnbenchError) else result.exit_code) == code, result.output
    return str(error) if isinstance(error, CnnbenchError) else result.output


def test_every_format_has_every_run(results):
    rows = json.loads(call(results, "--format", "json"))["tables"][0]["rows"]
    assert len(rows) == 11
    assert rows[-1]["changed"] == "torch 2.13.0 to 2.14.0"
    assert rows[-1]["step_ratio_to_run_before"] == pytest.approx(0.02 / r.STEPS[-1])
    table = list(csv.DictReader(io.StringIO(call(results, "--format", "csv"))))
    assert [row["median_step_seconds"] for row in table] == [str(row["median_step_seconds"]) for row in rows]
    for format_ in ("table", "markdown"):
        text = call(results, "--format", format_)
        for row in rows:
            assert row["step_text"].split(" (")[0] in text


def test_a_picture_a_page_and_a_table_by_the_files_ending(results, tmp_path):
    for ending in ("svg", "png", "html", "md", "csv"):
        call(results, "-o", tmp_path / f"out.{ending}")
    svg = (tmp_path / "out.svg").read_text()
    ET.fromstring(svg)
    chart = draw_history(series_of(b_ledgers(results)))
    assert chart is not None
    assert chart_images.stored_digest(svg) == chart_images.stored_digest((tmp_path / "out.png").read_bytes())
    assert chart_images.stored_digest(svg) == chart_images.data_digest(chart)
    assert "<svg" in (tmp_path / "out.html").read_text()
    assert (tmp_path / "out.md").read_text().startswith("## Recorded runs")
    assert (tmp_path / "out.csv").read_text().startswith("table,")


def b_ledgers(results):
    from cnnbench import store

    return store.load_tree([results]).ledgers


def test_rows_are_chosen_by_text_and_by_workload(results):
    b.write(results, b.ledger(b.repeats(b.gemm_job(), [0.002] * 3), run_id="20260325T120000Z-9e99"))
    for arguments, rows in ((("--job", "gemm"), 1), (("-k", "not gemm"), 11), (("-k", "fp32 on cpu"), 12), ((), 12)):
        assert len(json.loads(call(results, *arguments, "--format", "json"))["tables"][0]["rows"]) == rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-k", "nosuch"), "matches no row"),
        (("-k", "and"), "write text to look for"),
        (("--job", "nosuch"), "no such workload there; there are: mnist-cnn"),
        (("--machine", "nosuch"), "no such machine"),
        (("-o", "x.svg", "--format", "csv"), "give one of them"),
        (("-o", "/nosuch/x.svg"), "cannot write"),
    ],
)
def test_every_mistake_is_one_clear_error(results, arguments, words):
    assert words in call(results, *arguments, code=ExitCode.USAGE)


def test_nothing_to_draw_is_said(tmp_path):
    b.write(tmp_path, r.run(1, 0.01))
    assert "nothing to draw" in call(tmp_path, "-o", tmp_path / "x.svg", code=ExitCode.USAGE)
    call(tmp_path, "-o", tmp_path / "x.html")


def test_what_a_ledger_says_does_nothing_in_a_picture_or_page(tmp_path):
    evil = "'];alert(1)//\x1b<script>\"</svg>"
    for number in (1, 2):
        ledger = r.run(number, 0.01, software={"torch": f"{evil}{number}", "cnnbench": evil})
        header = ledger.header.model_copy(update={"created_at": f"{number}{evil}"})
        b.write(tmp_path, b.Ledger(ledger.path, header, ledger.records))
    call(tmp_path, "-o", tmp_path / "x.svg")
    call(tmp_path, "-o", tmp_path / "x.html")
    ET.fromstring((tmp_path / "x.svg").read_text())
    assert '<script>"' not in (tmp_path / "x.html").read_text()
    chart = draw_history(series_of(b_ledgers(tmp_path)))
    assert chart is not None
    specification = {key: value for key, value in chart.wide.items() if key != "datasets"}
    assert "alert" not in json.dumps(specification)
