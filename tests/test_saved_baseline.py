"""Runs against a stored baseline: what is within, suspicious, changed, missing or refused, and what the file withstands."""

from __future__ import annotations

import contextlib
import random
import threading
from dataclasses import replace

import builders as b
import numpy as np
import pytest
import run_builders as r
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnbench import store
from cnnbench.analysis import process_table, stats
from cnnbench.analysis.stats import predict_mean
from cnnbench.errors import ExitCode, LedgerError, UsageError
from cnnbench.regression import saved_baseline
from cnnbench.regression.saved_baseline import (
    BaselineEntry,
    change_entries,
    check_name,
    load_baseline,
    make_baseline,
    read_entries,
    save_baseline,
)
from cnnbench.regression.screen import ACCURACY_TAIL, MetricStatus
from cnnbench.schema import Evaluation, Outcome
from cnnbench.store import Ledger


def test_a_run_like_the_stored_ones_is_within_in_every_metric():
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.0101))
    assert r.standings(judgement) == dict.fromkeys(
        ("records", "median step", "model FLOPs", "parameters", "operators", "accuracy"), "within"
    )
    assert judgement.exit_code == ExitCode.DONE
    assert judgement.advice is None


@given(st.lists(st.floats(1e-5, 10), min_size=8, max_size=12))
@settings(max_examples=30)
def test_each_stored_run_is_within_its_own_baseline(steps):
    """Of 9 runs or more one may lie outside the range they give together; it was accepted when they were saved."""
    ledgers = r.runs(steps, processes=1)
    baseline = r.saved(ledgers)
    for ledger in ledgers:
        assert set(r.standings(r.held(baseline, ledger)).values()) == {"within"}


def test_twice_the_step_time_is_suspicious_fails_nothing_and_asks_for_the_paired_check():
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.02, commit="f" * 40))
    assert r.standings(judgement)["median step"] == MetricStatus.SLOWER
    assert judgement.exit_code == ExitCode.DONE
    assert judgement.advice is not None
    assert "cnnbench check quick --base 0123456789ab" in judgement.advice


def test_half_the_step_time_is_suspicious_too():
    assert r.standings(r.held(r.saved(r.runs()), r.run(20, 0.005)))["median step"] == MetricStatus.FASTER


@pytest.mark.parametrize(
    ("stored", "new", "words"),
    [
        ({"commit": None}, {"commit": None}, "no commit without local changes"),
        ({}, {}, "the baseline's own commit"),
        ({}, {"commit": "f" * 40}, "--base 0123456789ab"),
    ],
)
def test_the_advice_follows_what_is_known_of_the_commits(stored, new, words):
    advice = r.held(r.saved(r.runs(**stored)), r.run(20, 0.02, **new)).advice
    assert advice is not None
    assert words in advice


@pytest.mark.parametrize(
    ("field", "metric"),
    [("step_flops", "model FLOPs"), ("parameters", "parameters"), ("operators_per_step", "operators")],
)
@pytest.mark.parametrize("more", [1, -1])
def test_one_more_or_less_of_a_count_is_a_change(field, metric, more):
    """As where layers were changed and the workload's version was not. No time makes up for it."""
    if field == "step_flops":
        saved = r.saved(r.runs())
        before = replace(saved, rows=tuple(replace(row, step_flops=row.step_flops - more) for row in saved.rows))
    else:
        before = r.saved(r.runs(**{field: r.MEASURED[field] - more}))
    for step in (0.0101, 0.001):
        judgement = r.held(before, r.run(20, step))
        assert r.standings(judgement)[metric] == MetricStatus.CHANGED
        assert judgement.exit_code == ExitCode.FINDING


def test_one_byte_more_of_the_allocators_peak_is_a_change():
    job, machine = b.cnn_job(device="cuda:0"), b.machine(gpus=[b.GPU])
    stored, new = ({"memory": b.Memory(device_allocated_peak_bytes=300 * 2**20 + more)} for more in (0, 1))
    baseline = r.saved(r.runs(job=job, machine=machine, **stored))
    assert r.standings(r.held(baseline, r.run(20, 0.01, job=job, machine=machine, **stored)))["device peak"] == "within"
    judgement = r.held(baseline, r.run(20, 0.01, job=job, machine=machine, **new))
    assert r.standings(judgement)["device peak"] == MetricStatus.CHANGED


def test_a_count_the_stored_runs_had_and_this_one_lacks_is_missing():
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.0101, parameters=None))
    assert r.standings(judgement)["parameters"] == MetricStatus.MISSING
    assert judgement.exit_code == ExitCode.JOB_FAILED


def test_seven_runs_judge_no_time_and_still_hold_counts_exactly():
    baseline = r.saved(r.runs(r.STEPS[:7]))
    judgement = r.held(baseline, r.run(20, 0.02))
    found = r.standings(judgement)
    assert (found["median step"], found["accuracy"]) == (MetricStatus.TOO_FEW, MetricStatus.TOO_FEW)
    assert judgement.exit_code == ExitCode.INCONCLUSIVE
    assert r.held(baseline, r.run(20, 0.02, operators_per_step=86)).exit_code == ExitCode.FINDING


def test_the_order_of_runs_and_records_changes_nothing():
    ledgers = r.runs()
    new = r.run(20, 0.0103)
    expected, judged = r.saved(ledgers), r.held(r.saved(ledgers), new)
    rng = random.Random(3)
    for _ in range(5):
        mixed = [
            Ledger(each.path, each.header, tuple(rng.sample(each.records, len(each.records))))
            for each in rng.sample(ledgers, len(ledgers))
        ]
        assert r.saved(mixed) == expected
        shuffled = Ledger(new.path, new.header, tuple(rng.sample(new.records, len(new.records))))
        assert r.held(r.saved(mixed), shuffled) == judged


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"machine": b.machine("other-1f2e")}, "machine_id other-1f2e (stored testbox-0a1b)"),
        ({"software": {"torch": "2.14.0"}}, "torch 2.14.0 (stored 2.13.0)"),
        ({"software": {"python": "3.12.1"}}, "python 3.12 (stored 3.11)"),
        ({"machine": b.machine(governor="powersave")}, "governor powersave (stored unknown)"),
        ({"protocol": 2}, "protocol 2 (stored 1)"),
    ],
)
def test_other_conditions_are_refused_and_named(fields, names):
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.02, **fields))
    (found,) = [each for each in judgement.findings if each.status is MetricStatus.NOT_COMPARABLE]
    assert found.note == names
    assert judgement.exit_code == ExitCode.UNFIT
    assert "median step" not in r.standings(judgement)


@pytest.mark.parametrize(
    "fields",
    [{"machine": b.machine(kernel="6.9", libc="glibc 2.99")}, {"software": {"python": "3.11.99", "cnnbench": "9.9"}}],
)
def test_what_changes_by_itself_or_is_under_test_is_only_recorded(fields):
    assert r.held(r.saved(r.runs()), r.run(20, 0.0101, **fields)).exit_code == ExitCode.DONE


def test_runs_of_two_protocols_never_mix():
    """Nine old runs and one under a new timing rule: the new one alone is kept, and judges nothing yet."""
    processes, _ = process_table.read_processes([*r.runs(r.STEPS[:9]), r.run(15, 0.01, protocol=2)])
    baseline, left_out = make_baseline("main", processes, "2026-04-01T00:00:00Z")
    assert [len(row.runs) for row in baseline.rows] == [1]
    assert [run.run_id for run in baseline.runs] == ["20260315T120000Z-000f"]
    assert len(left_out) == 9
    assert "protocol 1 (newest 2)" in left_out[0]
    assert r.standings(r.held(baseline, r.run(20, 0.01, protocol=2)))["median step"] == MetricStatus.TOO_FEW


def failed(ledger: Ledger, place: int = 1) -> Ledger:
    records = list(ledger.records)
    outcome = Outcome(status="oom", message="too large")
    records[place] = records[place].model_copy(update={"outcome": outcome})
    return Ledger(ledger.path, ledger.header, tuple(records))


def test_a_process_that_did_not_end_well_or_never_ran_is_missing():
    baseline, new = r.saved(r.runs()), r.run(20, 0.0101)
    for lacking, note in (
        (failed(new), "1 oom: too large"),
        (Ledger(new.path, new.header, new.records[:2]), "1 not run"),
    ):
        judgement = r.held(baseline, lacking)
        (found,) = [each for each in judgement.findings if each.metric == "records"]
        assert (found.status, found.value, found.note) == (MetricStatus.MISSING, 2, note)
        assert judgement.exit_code == ExitCode.JOB_FAILED
        assert r.standings(judgement)["median step"] == MetricStatus.WITHIN


def test_a_row_the_same_command_measured_before_is_missed_and_one_of_other_suites_is_not():
    both = [
        b.ledger([*r.run(n, 0.01).records, b.record(b.gemm_job(), 0.002, index=3)], run_id=f"2026030{n}T120000Z-0001")
        for n in range(1, 10)
    ]
    judgement = r.held(r.saved(both), r.run(20, 0.01))
    (found,) = [each for each in judgement.findings if each.job.workload == "gemm"]
    assert (found.metric, found.status) == ("records", MetricStatus.MISSING)
    other = r.run(20, 0.01)
    other = Ledger(other.path, other.header.model_copy(update={"suites": {"training": "0"}}), other.records)
    judgement = r.held(r.saved(both), other)
    assert judgement.elsewhere == 1
    assert judgement.exit_code == ExitCode.DONE


def test_a_row_that_was_never_stored_has_too_few_runs():
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.01, job=b.cnn_job(batch_size=64)))
    assert {(f.job.batch_size, f.metric, f.status.value) for f in judgement.findings} == {
        (64, "records", "within"),
        (64, "median step", "too few runs"),
        (128, "records", "missing"),
    }


def test_accuracy_far_from_the_stored_runs_is_a_change_either_way():
    baseline = r.saved(r.runs())
    for correct, standing in ((9_700, "within"), (9_660, "within"), (9_500, "changed"), (9_900, "changed")):
        judgement = r.held(baseline, r.run(20, 0.0101, correct=(correct,)))
        assert r.standings(judgement)["accuracy"] == standing


def test_accuracy_on_other_images_is_a_change():
    test = Evaluation(after_steps=150, images=5_000, correct=4_850, seconds=1.0)
    judgement = r.held(r.saved(r.runs()), r.run(20, 0.0101, test=test))
    assert r.standings(judgement)["accuracy"] == MetricStatus.CHANGED


@pytest.mark.parametrize("spread", [0.0005, 0.005])
def test_good_runs_leave_the_accuracy_band_in_at_most_2_of_1000(spread):
    """10,000 baselines of 8 runs, seeds alike or far apart beside the 0.17 % that 10,000 test images give."""
    rng = np.random.default_rng(11)
    shares = rng.binomial(10_000, rng.normal(0.97, spread, (10_000, 9)).clip(0, 1)) / 10_000
    outside = 0
    for *past, following in shares.tolist():
        mean, low, high = predict_mean(past, ACCURACY_TAIL)
        sampling = stats.wilson(round(mean * 10_000), 10_000, 1 - 2 * ACCURACY_TAIL)
        outside += not min(low, sampling.low) <= following <= max(high, sampling.high)
    assert outside <= 10_000 * 2 * ACCURACY_TAIL + 4 * (10_000 * 2 * ACCURACY_TAIL) ** 0.5


def stored(folder, ledgers):
    """The baseline of these runs stored as `main` beside their ledgers; returns its file."""
    for ledger in ledgers:
        b.write(folder, ledger)
    return save_baseline(folder, r.saved(ledgers), store.load_tree([folder]).ledgers, replace=True)


def test_a_file_gives_the_baseline_back_and_is_the_same_bytes_each_time(tmp_path):
    path = stored(tmp_path, r.runs())
    text = path.read_text()
    baseline, runs = load_baseline(tmp_path, b.MACHINE_ID, "main")
    assert [each.state for each in runs] == ["unchanged"] * 10
    new = r.run(20, 0.0103)
    assert r.held(baseline, new).findings == r.held(r.saved(r.runs()), new).findings
    assert stored(tmp_path, r.runs()).read_text() == text
    with change_entries(tmp_path, b.MACHINE_ID):
        path.unlink()
    assert path.read_text() == text


def test_of_two_names_saved_at_once_none_is_lost(tmp_path, monkeypatch):
    """Each command waits for the other where both would otherwise read the names before either writes them."""
    both_read = threading.Barrier(2)

    def read_slowly(*place):
        entries = read_entries(*place)
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait(timeout=0.2)
        return entries

    (tmp_path / "box").mkdir()
    monkeypatch.setattr(saved_baseline, "read_entries", read_slowly)

    def save(name):
        with change_entries(tmp_path, "box") as known:
            known[name] = BaselineEntry(saved_at="2026", runs={"r": "0"})

    commands = [threading.Thread(target=save, args=(name,)) for name in ("main", "other")]
    for command in commands:
        command.start()
    for command in commands:
        command.join()
    assert set(read_entries(tmp_path, "box")) == {"main", "other"}


@pytest.mark.parametrize("key", ["v1.2.3", "main", 'a"b', "ä", "a b", "x\ny"])
def test_any_key_is_written_so_that_it_is_read_back(tmp_path, key):
    entries = {"v1.2-x": BaselineEntry(saved_at="2026", runs={key: "0"}, step_flops={key: 1})}
    (tmp_path / "box").mkdir()
    with change_entries(tmp_path, "box") as known:
        known |= entries
    assert read_entries(tmp_path, "box") == entries


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace("saved_at", "saved"), "main.saved_at"),
        (lambda text: text + 'more = "x"', "step_flops.more"),
        (lambda text: "[main]\nsaved_at = '2026'\n[main.runs]", "at least 1 item"),
        (lambda text: text[:-40], "cannot be read"),
        (lambda text: "x = " + "[" * 100_000, "cannot be read"),
        (lambda text: "main = 1", "main: Input should be"),
    ],
)
def test_a_file_that_is_no_list_of_names_is_one_clear_error(tmp_path, edit, words):
    path = stored(tmp_path, r.runs())
    path.write_text(edit(path.read_text()))
    with pytest.raises(LedgerError, match=words) as caught:
        read_entries(tmp_path, b.MACHINE_ID)
    assert "correct it, or delete it and save the baselines again" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "-o",
        ".hidden",
        "a b",
        "a\nb",
        "main\n",
        "*",
        "ä",
        "x" * 65,
        "a\0",
        "$(id)",
        "=1",
    ],
)
def test_a_name_is_letters_digits_and_little_else(name):
    with pytest.raises(UsageError, match="baseline name"):
        check_name(name)


@pytest.mark.parametrize("name", ["main", "v1.2.3", "torch-2.13_cpu", "0", "x" * 64])
def test_usual_names_will_do(name):
    assert check_name(name) == name


def test_two_machines_or_none_make_no_baseline():
    with pytest.raises(UsageError, match="2 machines"):
        r.saved([r.run(1, 0.01), r.run(2, 0.01, machine=b.machine("other-1f2e"))])
    with pytest.raises(UsageError, match="no process that ended well"):
        r.saved([b.ledger([b.record(b.cnn_job(), status="oom")])])
