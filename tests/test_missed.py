"""A missed target is a finding about learning: counted, named and kept wherever a status is read, and never averaged."""

from __future__ import annotations

import json
from typing import get_args

import builders as b
import pytest
import report_builders
import run_builders as r
import variant_records as modes
from click.testing import CliRunner

from cnnbench import schema
from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.comparison import ComparisonSide, compare_sides
from cnnbench.analysis.history import build_history
from cnnbench.bridges import exports
from cnnbench.cli.main import cli
from cnnbench.errors import UsageError
from cnnbench.naming import name_plan
from cnnbench.regression.arms import pair_jobs
from cnnbench.regression.saved_baseline import read_median_step
from cnnbench.regression.screen import _list_tests


def processes_of(*ledgers):
    found, _ = process_table.read_processes(ledgers)
    return found


def test_it_is_a_status_of_the_schema_and_no_other_status_has_a_crossing():
    assert "missed" in get_args(schema.Status)
    for status in set(get_args(schema.Status)) - {"ok", "missed"}:
        (process,) = processes_of(b.ledger([b.record(b.target_job(), status=status)]))
        assert process.seed_result is None


def test_a_baseline_stores_no_missed_process_and_no_accuracy_that_was_the_target():
    reached, missed = processes_of(b.ledger(b.crossings(b.target_job(), [3, None])))
    assert read_median_step(missed) is None
    assert _list_tests([reached]) == []
    assert read_median_step(reached) == pytest.approx(0.01)


def test_a_run_held_against_a_baseline_names_what_it_missed():
    ledgers = [
        b.ledger(b.crossings(b.target_job(), [3, 4, 5]), run_id=f"r{n}", created_at=f"2026-03-{n + 1:02}T12:00:00Z")
        for n in range(8)
    ]
    later = b.ledger(b.crossings(b.target_job(), [3, None, 4]), run_id="later", created_at="2026-04-01T12:00:00Z")
    judgement = r.held(r.saved(ledgers), later)
    (records,) = [found for found in judgement.findings if found.metric == "records"]
    assert records.status == "missing"
    assert records.note.startswith("1 missed: 9019 of 10000 right")
    assert {found.metric for found in judgement.findings} & {"accuracy"} == set()


def test_the_history_of_a_row_counts_it_and_keeps_its_step_out():
    (series,) = build_history(processes_of(b.ledger(b.crossings(b.target_job(), [3, None, 4]))))
    assert series.points[0].row.outcomes == {"missed": 1, "ok": 2}
    assert len(series.points[0].steps) == 2


def test_exports_leave_it_out_by_name():
    found = processes_of(b.ledger(b.crossings(b.target_job(), [3, None, 4])))
    (line,) = exports.list_left_out(found)
    assert "1 of 3 processes left out (missed 1); the rest is there" in line
    header, *rows = exports.tidy_csv(found).splitlines()
    assert len(rows) == 3
    assert {"job_kind", "reached_target", "job_execution"} <= set(header.split(","))


def test_accuracies_at_which_training_stopped_make_no_side_learn_worse():
    """Both stopped where they first reached the target: what one has above it is chance."""
    fine = b.crossings(b.target_job(), [3, 3, 3])
    higher = [
        record.model_copy(update={"outcome": record.outcome.model_copy(update={"trial": _with_last(record, 9_950)})})
        for record in b.crossings(b.target_job(), [3, 3, 3])
    ]
    sides = [
        ComparisonSide(name, speedup.compute_speedups(processes_of(b.ledger(records, run_id=name))).rows)
        for name, records in (("base", fine), ("new", higher))
    ]
    (pair,) = compare_sides(*sides).pairs
    assert (pair.learns_worse, pair.seconds_of) == (None, "step")
    assert pair.ratio.value == pytest.approx(1.0)


def _with_last(record, correct):
    trial = record.outcome.trial
    last = trial.epoch_evaluations[-1].model_copy(update={"correct": correct})
    return trial.model_copy(update={"epoch_evaluations": (*trial.epoch_evaluations[:-1], last), "test": last})


def test_a_training_to_a_target_takes_no_turns_in_a_paired_check():
    with pytest.raises(UsageError, match="clock 'accuracy' times one piece and cannot take turns"):
        pair_jobs([b.target_job()], {}, {}, 8)


def test_jobs_that_read_alike_are_told_apart_by_what_differs():
    plain, loader, adam = b.cnn_job(), b.cnn_job(loader="dataloader"), b.cnn_job(batch_size=64, optimizer="adam")
    names = name_plan([plain, loader, adam, b.target_job()])
    assert names(plain) == "mnist-cnn b128 fp32 on cpu, resident, round 1"
    assert names(loader) == "mnist-cnn b128 fp32 on cpu, dataloader, round 1"
    assert names(adam) == "mnist-cnn b64 fp32 on cpu, round 1"
    assert names(b.target_job(round=2)) == "mnist-cnn b128 to 99 % fp32 on cpu, round 3"


def test_a_page_warns_of_it_and_says_it_in_every_table(tmp_path):
    results = report_builders.write(tmp_path / "results", [modes.targets()])
    done = CliRunner().invoke(cli, ["show", str(results), "--format", "json"])
    document = json.loads(done.output)
    warned = [note["text"] for note in document["notes"] if note["kind"] == "warning"]
    assert any(": missed in round 3: " in text for text in warned)
    rows = {table["key"]: table["rows"] for table in document["tables"]}
    assert [row["outcome"] for row in rows["training"] if "missed" in row["outcome"]] == [
        "missed 3 of 3",
        "ok 5/6, missed 1 of 6",
    ]
    assert sum(row["seeds_missed"] for row in rows["tta"]) == 4
