"""Ledgers in other tools' formats, each read back by the tool itself where it can be had, else by its definition."""

from __future__ import annotations

import csv
import json
import re
import statistics
import subprocess
import sys

import builders as b
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.logger import Logger
from pytest_benchmark.stats import Stats
from pytest_benchmark.storage.file import FileStorage

from cnnbench.analysis import process_table
from cnnbench.bridges import exports
from cnnbench.cli.read import export
from cnnbench.errors import UsageError
from cnnbench.naming import export_name
from cnnbench.schema import Job

SECONDS = [0.02, 0.024, 0.021]


@given(st.lists(st.floats(1e-9, 1e6), min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark(seconds):
    """Its own class is the oracle, name by name and in its order."""
    oracle = Stats()
    for each in seconds:
        oracle.update(each)
    found = exports.summarise(seconds)
    assert list(found) == list(oracle.fields)
    assert found == {**oracle.as_dict(), "total": pytest.approx(oracle.total), "ops": pytest.approx(oracle.ops)}


def test_no_rounds_have_no_statistics():
    with pytest.raises(ValueError, match="at least one data point"):
        exports.summarise([])


@pytest.fixture
def run():
    """Three processes of the CNN, three of a GEMM of which one failed, and a job that was never started."""
    gemm = b.repeats(b.gemm_job(), [0.001, 0.0012], start=3)
    failed = b.record(b.gemm_job(round=2, seed=5), index=5, status="oom")
    cnn = b.repeats(b.cnn_job(), SECONDS)
    return b.ledger([*cnn, *gemm, failed], unstarted=[b.cnn_job(batch_size=64)])


@pytest.fixture
def results(tmp_path, run):
    b.write(tmp_path / "results", run)
    return tmp_path / "results"


def processes(*ledgers):
    return process_table.read_processes(ledgers)[0]


def call(*arguments):
    return CliRunner().invoke(export, [str(each) for each in arguments])


def exported(path, *arguments):
    result = call(*arguments, "-o", path)
    assert result.exit_code == 0, result.output
    return result


def test_pytest_benchmarks_own_storage_reads_processes_as_rounds(results, tmp_path):
    path = tmp_path / "storage" / "0001_run.json"
    path.parent.mkdir()
    exported(path, results, "--to", "pytest-benchmark")
    storage = FileStorage(path.parent, Logger())
    found = {each["name"].partition("-v")[0]: each for each in storage.load_benchmarks()}
    cnn = found["mnist-cnn"]
    assert set(found) == {"mnist-cnn", "gemm"}
    assert cnn["data"] == pytest.approx(SECONDS)
    assert cnn["rounds"] == 3
    assert cnn["mean"] == pytest.approx(statistics.mean(SECONDS))
    assert cnn["iterations"] == 150
    assert (found["gemm"]["rounds"], found["gemm"]["extra_info"]["processes"]) == (2, 2)


def test_pytest_benchmarks_own_command_compares_two_exports(results, tmp_path):
    """The stored file on its own, and beside another: table and CSV, the names and figures as exported."""
    slower = b.ledger(b.repeats(b.cnn_job(), [2 * each for each in SECONDS]), run_id="20260302T120000Z-0002")
    b.write(results, slower)
    for number, run_id in enumerate([b.RUN_ID, slower.header.run_id], start=1):
        exported(tmp_path / f"000{number}_run.json", results, "--run", run_id, "--to", "pytest-benchmark")
    files = [str(tmp_path / f"000{number}_run.json") for number in (1, 2)]
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *files, "--csv", "out", "--group-by", "fullname"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Failed to load" not in done.stdout + done.stderr
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    cnn = sorted(float(row["mean"]) for row in rows if "mnist-cnn" in row["name"])
    assert cnn == pytest.approx([statistics.mean(SECONDS), 2 * statistics.mean(SECONDS)])
    assert {row["param:device"] for row in rows} == {"cpu"}
    assert "mnist-cnn-v1[precision=fp32,batch_size=128" in done.stdout


def test_what_is_not_known_of_the_machine_is_not_invented(run):
    document = exports.pytest_benchmark(run.header, processes(run), "abc")
    assert document["machine_info"]["cnnbench"]["machine_id"] == b.MACHINE_ID
    assert document["machine_info"]["cnnbench"]["torch"] == "2.13.0"
    assert "environment" not in document["machine_info"]["cnnbench"]
    assert document["machine_info"]["cpu"]["brand_raw"] == b.CPU.name
    assert document["commit_info"]["id"] == "unversioned"
    assert document["cnnbench"] == {
        "version": document["cnnbench"]["version"],
        "run_id": b.RUN_ID,
        "ledger_sha256": "abc",
    }
    commit = b.ledger(run.records, software=b.software(git_commit="1f2e", git_dirty=True))
    assert exports.pytest_benchmark(commit.header, processes(commit))["commit_info"]["dirty"] is True


def test_rates_are_of_the_median_process(run):
    [gemm, cnn] = exports.pytest_benchmark(run.header, processes(run))["benchmarks"]
    assert gemm["extra_info"]["flops_per_second"] == pytest.approx(2 * 1024**3 / 0.0011)
    assert gemm["extra_info"]["images_per_second"] is None
    assert cnn["extra_info"]["images_per_second"] == pytest.approx(128 / 0.021)
    assert cnn["extra_info"]["host_peak_bytes"] == 900 * 2**20


class TestNames:
    """Unique within a run, the same in every run."""

    jobs = st.builds(
        Job,
        workload=st.just("mnist-cnn"),
        workload_version=st.integers(1, 2),
        batch_size=st.sampled_from([64, 128]),
        optimizer=st.sampled_from([None, "rmsprop"]),
        epochs=st.sampled_from([None, 1]),
        block_steps=st.sampled_from([5, 10]),
        data=st.sampled_from(["mnist", "synthetic"]),
        device=st.sampled_from(["cpu", "cuda:0"]),
        threads=st.sampled_from([None, 1, 2]),
        seed=st.integers(0, 3),
        round=st.integers(0, 3),
    )

    @given(jobs, jobs)
    def test_two_jobs_share_a_name_exactly_where_they_share_a_row(self, first, second):
        same = export_name(first, 1) == export_name(second, 1)
        assert same == (first.row_key == second.row_key)

    def test_a_name_depends_on_the_job_alone_and_on_the_protocol(self, run):
        """So a chart of one name over commits never joins two timing rules."""
        names = [each.name for each in exports.group_jobs(processes(run))]
        alone = b.ledger(b.repeats(b.cnn_job(), [0.5]), run_id="another")
        assert [each.name for each in exports.group_jobs(processes(alone))] == [names[1]]
        assert export_name(b.cnn_job(), 1) != export_name(b.cnn_job(), 2)

    def test_a_hostile_name_stays_on_a_line_and_is_still_its_own(self):
        jobs = [b.cnn_job(workload=f"a\x1b[31m{tail}", seed=n) for n, tail in enumerate(["\n", "\t"])]
        ledger = b.ledger([b.record(job, index=n) for n, job in enumerate(jobs)])
        names = [each.name for each in exports.group_jobs(processes(ledger))]
        assert len(set(names)) == 2
        assert not re.search(r"[\x00-\x1f]", "".join(names))


def test_the_actions_definition_of_an_entry_holds(run):
    """github-action-benchmark, src/extract.ts: name, unit, extra, range are texts, value a number, and no other key; its
    extractRangeInfo reads a range as +- or ±, blanks, then a number of two characters or more.
    """
    entries = json.loads(json.dumps(exports.github_action(processes(run))))
    assert len(entries) == 2
    for entry in entries:
        assert set(entry) <= {"name", "value", "unit", "range", "extra"}
        assert all(isinstance(entry[key], str) and entry[key] for key in entry.keys() - {"value"})
        assert isinstance(entry["value"], float)
    assert len({entry["name"] for entry in entries}) == 2
    cnn = entries[1]
    assert (cnn["value"], cnn["unit"]) == (pytest.approx(0.021), "s")
    spread = re.fullmatch(r"(?:\+-|±)\s*(\d.+)", cnn["range"])
    assert float(spread[1]) == pytest.approx(statistics.stdev(SECONDS))


def test_one_process_has_no_range():
    alone = b.ledger(b.repeats(b.cnn_job(), [0.5]))
    assert "range" not in exports.github_action(processes(alone))[0]


def test_pandas_reads_a_line_a_process_failed_ones_too(results, tmp_path):
    b.write(results, b.ledger(b.repeats(b.cnn_job(), SECONDS), run_id="r2", machine=b.machine("=cmd|' /C'!A0")))
    exported(tmp_path / "all.csv", results, "--to", "csv")
    table = pd.read_csv(tmp_path / "all.csv")
    assert len(table) == len(SECONDS) + 7
    assert table["status"].value_counts().to_dict() == {"ok": 8, "oom": 1, "not run": 1}
    ok = table[(table["status"] == "ok") & (table["job_workload"] == "mnist-cnn") & (table["run_id"] == b.RUN_ID)]
    assert sorted(ok["median_step_seconds"]) == pytest.approx(sorted(SECONDS))
    assert table.loc[table["status"] == "oom", "median_step_seconds"].isna().all()
    assert set(table["machine_id"]) == {b.MACHINE_ID, "'=cmd|' /C'!A0"}


def test_what_is_left_out_is_said_since_their_readers_cannot_tell(results):
    result = call(results, "--to", "github-action-benchmark")
    assert result.exit_code == 0
    assert "gemm-v1" in result.stderr
    assert "1 of 3 processes left out (oom 1); the rest is there" in result.stderr
    assert "1 of 1 processes left out (not run 1); nothing of it is there" in result.stderr
    assert len(json.loads(result.stdout)) == 2


@pytest.mark.parametrize("target", ["pytest-benchmark", "github-action-benchmark"])
def test_several_runs_are_not_pooled_into_one_file(results, target):
    b.write(results, b.ledger(b.repeats(b.cnn_job(), SECONDS), run_id="r2", created_at="2026-04-01"))
    several = call(results, "--to", target)
    assert isinstance(several.exception, UsageError)
    assert "r2" in str(several.exception)
    assert call(results, "--to", target, "--last").exit_code == 0


def test_nothing_to_export_is_an_error(tmp_path):
    assert isinstance(call(tmp_path, "--to", "csv").exception, UsageError)
    b.write(tmp_path, b.ledger([b.record(b.cnn_job(), status="oom")]))
    assert isinstance(call(tmp_path, "--to", "pytest-benchmark").exception, UsageError)
    assert call(tmp_path, "--to", "csv").exit_code == 0
