"""The command `show`: paths, choices, failures, and what it must not import before it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import builders as b
import pytest
from click.testing import CliRunner

from cnnbench.cli.load_results import Selection
from cnnbench.cli.read import make_report, show
from cnnbench.errors import ExitCode, FileError, LedgerError, UsageError


@pytest.fixture
def results(tmp_path):
    """Two runs of one machine and one of another, a failed process among them."""
    failed = b.record(b.cnn_job(round=3, seed=3), index=3, status="oom")
    here = b.machine(gpus=[b.GPU])
    b.write(tmp_path, b.ledger([*b.repeats(b.cnn_job(), [0.02] * 3), failed], run_id="r1", machine=here))
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), run_id="r2", created_at="2026-04-01", machine=here))
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.03] * 3), run_id="r3", machine=b.machine("elsewhere")))
    return tmp_path


def call(*arguments, **environment):
    return CliRunner().invoke(show, [str(each) for each in arguments], env={"COLUMNS": "120", **environment})


def as_json(*arguments):
    result = call(*arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def runs(document):
    return [row.get("run_id") for table in document["tables"][:1] for row in table["rows"]]


def test_a_failed_process_does_not_fail_the_showing(results):
    result = call(results / b.MACHINE_ID / "r1.jsonl")
    assert result.exit_code == 0
    assert "ok 3/4" in result.output
    assert "oom 1 of 4" in result.output


def test_the_newest_run_of_each_machine_is_shown(results):
    assert runs(as_json(results)) == ["r3", "r2"]
    assert sorted(runs(as_json(results, "--all-runs"))) == ["r1", "r2", "r3"]


def test_machine_run_and_last_choose(results):
    assert runs(as_json(results, "--machine", "else")) == ["r3"]
    assert runs(as_json(results, "--run", "r1")) == ["r1"]
    assert runs(as_json(results, "--last")) == ["r2"]
    assert runs(as_json(results, "--machine", "else", "--last")) == ["r3"]


@pytest.mark.parametrize(("flag", "known"), [("--machine", "elsewhere"), ("--run", "r1, r2, r3")])
def test_an_unknown_name_is_refused_with_those_there_are(results, flag, known):
    error = call(results, flag, "nosuch").exception
    assert isinstance(error, UsageError)
    assert known in str(error)


def test_the_lectures_rows_ship_with_the_package(results):
    rows = as_json(results, "--with-lecture")["tables"][0]["rows"]
    assert [row["speedup_over_reference"] for row in rows[:5] if row["speedup_over_reference"]] == pytest.approx(
        [1.0, 6331 / 1324, 6331 / 550, 6331 / 327]
    )
    assert {row["year"] for row in rows[:5]} == {2017}


def test_a_folder_of_references_beside_the_ledgers_doubles_nothing(results):
    """results/reference lies in results, and the same rows ship with the package."""
    from cnnbench import store

    shipped = (store.find_published_dir() / "lecture-2017.jsonl").read_text()
    (results / "reference").mkdir()
    (results / "reference" / "lecture-2017.jsonl").write_text(shipped)
    assert len(as_json(results, "--with-lecture")["tables"][0]["rows"]) == 5 + 2


def test_the_results_directory_is_a_path_then_the_environment_then_here(results, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    assert call(CNNBENCH_RESULTS=str(results)).exit_code == 0
    (empty / "results").symlink_to(results)
    assert call().exit_code == 0
    error = call(empty / "nosuch").exception
    assert isinstance(error, LedgerError)
    assert "nosuch" in str(error)


def test_no_results_is_a_usage_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = call(CNNBENCH_RESULTS=None).exception
    (tmp_path / "results").mkdir()
    empty = call(CNNBENCH_RESULTS=None).exception
    for error in (missing, empty):
        assert isinstance(error, UsageError)
        assert error.exit_code == ExitCode.USAGE
        assert "cnnbench run quick" in str(error)


def test_a_file_that_is_no_ledger_is_said_and_costs_nothing_else(results):
    (results / "notes.jsonl").write_text("hello\n")
    (results / b.MACHINE_ID / "r2.jsonl").open("a").write('{"kind": "rec')
    result = call(results)
    assert result.exit_code == 0
    assert "torn last line" in result.output
    assert "notes.jsonl" in result.output


def test_output_goes_to_a_file_whole_and_a_bad_place_is_an_error(results, tmp_path):
    target = tmp_path / "table.md"
    result = call(results, "--format", "markdown", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert target.read_text().startswith("## ")
    assert isinstance(call(results, "-o", tmp_path / "no" / "where").exception, FileError)


def test_the_width_is_columns(results):
    narrow = call(results, "--with-lecture", COLUMNS="80").stdout
    assert max(map(len, narrow.splitlines())) <= 80
    assert "Left out at 80 columns" in narrow
    (named,) = set(re.findall(r"--format ([a-z, ]+)\.", " ".join(narrow.split())))
    (choices,) = (each.type.choices for each in show.params if each.name == "format_")
    assert set(re.split(", | or ", named)) == set(choices) - {"table"}, "what the hint names, the command takes"


def test_an_output_that_cannot_write_a_dash_writes_something():
    code = "import click; from cnnbench.cli import output; click.echo(output.printable('0.9–1.1x'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0.9?1.1x\n"


def test_reading_needs_no_torch_and_naming_the_command_needs_no_pandas():
    """`show` itself imports neither torch nor pandas; importing its module not even scipy."""
    code = (
        "import sys\n"
        "from cnnbench.cli import read\n"
        "from cnnbench.cli.load_results import Selection\n"
        "assert not {'torch', 'pandas', 'scipy', 'rich'} & set(sys.modules)\n"
        "from cnnbench import store\n"
        "read.make_report(Selection(paths=(store.find_published_dir(),)), with_lecture=True)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_of_one_ledger_is_what_a_run_prints(results):
    report = make_report(Selection(paths=(results / b.MACHINE_ID / "r2.jsonl",)))
    assert [table.key for table in report.tables] == ["training", "resources"]
    assert [line.kind for table in report.tables for group in table.groups for line in group.lines] == ["measured"] * 2


def test_a_gemm_above_its_devices_peak_is_shown_as_invalid(tmp_path):
    """Written before the gate knew better, judged again when read: 8192 cubed in 1 ms is 16 times an H200's float32."""
    h200 = b.GPU.model_copy(update={"name": "NVIDIA H200", "max_clock_hertz": 1.98e9, "multiprocessors": 132})
    records = b.repeats(b.gemm_job(8192, device="cuda:0"), [1e-3, 3e-2])
    b.write(tmp_path, b.ledger(records, machine=b.machine(gpus=[h200])))
    shown = call(tmp_path, "--format", "markdown").output
    assert "ok 1/2 (invalid 1 of 2)" in shown
    assert "physics gate" in shown
