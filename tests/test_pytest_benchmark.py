"""pytest-benchmark's files in our columns: every shape it ever wrote, one process a file, and nothing else is taken."""

from __future__ import annotations

import csv
import io
import json

import builders as b
import pandas as pd
import pytest
from click.testing import CliRunner

from cnnbench import store
from cnnbench.analysis import process_table
from cnnbench.bridges import pytest_benchmark
from cnnbench.cli.main import run_cli
from cnnbench.cli.read import show as command
from cnnbench.errors import DataError, ExitCode, UsageError
from cnnbench.report.render import text

STATS = {
    **{"min": 0.1, "max": 0.4, "mean": 0.2, "stddev": 0.05, "median": 0.15, "q1": 0.12, "q3": 0.3, "iqr": 0.18},
    **{"rounds": 9, "iterations": 5, "outliers": "1;0", "iqr_outliers": 0, "stddev_outliers": 1},
    **{"ld15iqr": 0.1, "hd15iqr": 0.4},
}


def version_2():
    """The keys of a file of 2.5.0 (2015): neither ops, total, data, params, extra_info nor a processor."""
    benchmark = {
        "name": "test_it",
        "group": None,
        "fullname": "tests/a.py::test_it",
        "stats": dict(STATS),
        "options": {},
    }
    machine = {"processor": "x86_64", "system": "Linux", "python_version": "2.7.3", "node": "box", "machine": "x86_64"}
    return {
        "benchmarks": [benchmark],
        "datetime": "2015-08-15T00:04:18.687119",
        "machine_info": machine,
        "commit_info": {"id": "5b78858e", "dirty": True},
        "version": "2.5.0",
    }


def version_3():
    """3.2: parameters, extra_info, a processor by `brand`."""
    document = version_2()
    document["benchmarks"][0] |= {"params": {"n": 3}, "param": "3", "extra_info": {}}
    document["machine_info"]["cpu"] = {"brand": "Old CPU", "hz_actual": "2.2 GHz"}
    return document | {"version": "3.2.3"}


def version_5():
    """5.3 with the fixture `cnnbench`."""
    document = version_3()
    info = {
        **{"device": "cuda:0", "device_name": "NVIDIA T1", "torch": "2.13.0", "threads": 8, "calls_per_round": 5},
        **{"flops_per_second": 4e9, "images_per_second": 100.0, "host_peak_bytes": 900, "device_peak_bytes": None},
    }
    document["benchmarks"][0] |= {"extra_info": info}
    document["benchmarks"][0]["stats"] |= {"ops": 5.0, "total": 1.8, "data": [0.2] * 9}
    document["machine_info"] |= {"cpu": {"brand_raw": "New CPU"}, "cnnbench": {"machine_id": "box-1", "cpu": "New CPU"}}
    document["commit_info"] |= {"branch": "main", "dirty": False}
    return document | {"version": "5.3.1"}


def write(path, document):
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (version_2(), {"processor": "x86_64", "torch": None, "params": None, "commit_dirty": True, "group": None}),
        (version_3(), {"processor": "Old CPU", "params": '{"n": 3}', "tool_version": "3.2.3", "extra_info": None}),
        (
            version_5(),
            {
                **{"processor": "NVIDIA T1", "torch": "2.13.0", "machine_id": "box-1", "job_device": "cuda:0"},
                **{"flops_per_second": 4e9, "images_per_second": 100.0, "host_peak_bytes": 900, "job_threads": 8},
                **{"device_peak_bytes": None, "commit_branch": "main", "commit_dirty": False, "calls_per_round": 5},
            },
        ),
    ],
    ids=["2.5", "3.2", "5.3"],
)
def test_every_shape_it_wrote_gives_the_same_columns(tmp_path, document, expected):
    [row], problems = pytest_benchmark.read_files([write(tmp_path / "a.json", document)])
    assert problems == ()
    found = row.model_dump()
    assert {name: found[name] for name in expected} == expected
    assert (row.rounds, row.iterations, row.median_seconds, row.iqr_seconds) == (9, 5, 0.15, 0.18)


def test_a_file_is_one_process_whatever_rounds_it_has(tmp_path):
    """Two files are two processes; the same file twice is one, and says so."""
    first, second = write(tmp_path / "a.json", version_3()), write(tmp_path / "b.json", version_5())
    copy = write(tmp_path / "copy.json", version_3())
    rows, problems = pytest_benchmark.read_files([first, second, copy])
    assert [row.processes for row in rows] == [1, 1]
    assert len({row.run_id for row in rows}) == 2
    assert problems == (f"{copy}: the same run as {first}; counted once",)


def test_columns_of_one_name_mean_the_same_as_in_the_frame_of_ledgers(tmp_path):
    [row], _ = pytest_benchmark.read_files([write(tmp_path / "a.json", version_5())])
    shared = set(pytest_benchmark.COLUMNS) & set(process_table.list_columns())
    assert shared >= {"run_id", "machine_id", "processor", "torch", "flops_per_second", "host_peak_bytes", "job_device"}
    values = row.model_dump()
    assert tuple(values) == pytest_benchmark.COLUMNS
    assert values["processes"] == 1


def test_what_was_ingested_is_no_ledger(tmp_path):
    """Neither the file nor what is made of it is read where results are."""
    [row], _ = pytest_benchmark.read_files([write(tmp_path / "a.json", version_5())])
    (tmp_path / "rows.json").write_text(text.render(pytest_benchmark.build([row]), "json"))
    (tmp_path / "rows.csv").write_text(pytest_benchmark.as_csv([row]))
    assert store.load_tree([tmp_path]).ledgers == ()
    assert not isinstance(row, process_table.Process)


def broken(change):
    document = version_5()
    change(document)
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("not json", "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ([{"name": "a", "unit": "s", "value": 1}], "no list `benchmarks`"),
        ({"benchmarks": {"a": 1}}, "no list `benchmarks`"),
        ({"benchmarks": [1]}, "benchmarks.0"),
        (broken(lambda d: d["benchmarks"][0]["stats"].pop("median")), "benchmarks.0.stats.median: Field required"),
        (broken(lambda d: d["benchmarks"][0]["stats"].update(min=float("nan"))), "benchmarks.0.stats.min"),
        (broken(lambda d: d["benchmarks"][0]["stats"].update(max=-1)), "benchmarks.0.stats.max"),
        (broken(lambda d: d["benchmarks"][0]["stats"].update(rounds=0)), "benchmarks.0.stats.rounds"),
        (broken(lambda d: d.update(cnnbench={"version": "0.1.0"})), "processes of a ledger"),
    ],
)
def test_other_json_is_refused_with_where_and_why(tmp_path, document, message):
    path = write(tmp_path / "other.json", document)
    with pytest.raises(DataError, match=r"other\.json") as raised:
        pytest_benchmark.read_files([path])
    assert message in str(raised.value)


def test_odd_extra_info_of_others_is_kept_and_not_believed(tmp_path):
    def odd(document):
        document["benchmarks"][0]["extra_info"] = {"flops_per_second": "fast", "host_peak_bytes": True, "torch": 3}
        document["machine_info"] = {"cpu": "a text", "cnnbench": []}

    [row], _ = pytest_benchmark.read_files([write(tmp_path / "a.json", broken(odd))])
    assert (row.flops_per_second, row.host_peak_bytes, row.torch, row.processor) == (None, None, None, None)
    assert json.loads(row.extra_info)["flops_per_second"] == "fast"


class TestCommand:
    def call(self, *arguments):
        return CliRunner().invoke(command, [str(each) for each in arguments], env={"COLUMNS": "160"})

    def test_the_table_says_that_n_is_one(self, tmp_path):
        result = self.call(write(tmp_path / "a.json", version_5()))
        assert result.exit_code == 0, result.output
        assert "n=1" in result.output
        assert "150 ms" in result.output

    def test_the_csv_is_read_by_pandas_and_calculates_nothing(self, tmp_path):
        document = broken(lambda d: d["benchmarks"][0].update(name="=HYPERLINK(1)", group="a\nb"))
        result = self.call(write(tmp_path / "a.json", document), "-o", tmp_path / "rows.csv")
        assert result.exit_code == 0, result.output
        table = pd.read_csv(tmp_path / "rows.csv")
        assert table.loc[0, "median_seconds"] == 0.15
        assert table.loc[0, "name"] == "'=HYPERLINK(1)"
        assert table["device_peak_bytes"].isna().all()
        assert len(list(csv.reader(io.StringIO((tmp_path / "rows.csv").read_text())))) == 2

    def test_the_json_has_extra_info_as_an_object(self, tmp_path):
        self.call(write(tmp_path / "a.json", version_5()), "-o", tmp_path / "rows.json")
        [row] = json.loads((tmp_path / "rows.json").read_text())["benchmarks"]
        assert row["extra_info"]["torch"] == "2.13.0"
        assert row["processes"] == 1

    def test_wrong_use_and_wrong_files_end_with_2(self, tmp_path):
        good = write(tmp_path / "a.json", version_5())
        for arguments in (
            [tmp_path / "nosuch.json"],
            [good, "-o", tmp_path / "x.txt"],
            [good, "-o", good],
            [good, tmp_path],
        ):
            result = self.call(*arguments)
            assert isinstance(result.exception, UsageError | DataError), arguments
            assert result.exception.exit_code == ExitCode.USAGE
        assert json.loads(good.read_text()) == version_5()

    def test_a_ledger_is_no_benchmark_file(self, tmp_path):
        ledger = b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)))
        copy = tmp_path / "ledger.json"
        copy.write_bytes(ledger.read_bytes())
        assert isinstance(self.call(copy).exception, DataError)
        good = write(tmp_path / "a.json", version_5())
        assert isinstance(self.call(good, ledger).exception, UsageError)

    def test_the_format_is_the_one_asked_for_or_the_ending_s(self, tmp_path):
        good = write(tmp_path / "a.json", version_5())
        self.call(good, "-o", tmp_path / "rows.csv")
        assert self.call(good, "--format", "csv").output == (tmp_path / "rows.csv").read_text()
        self.call(good, "--format", "markdown", "-o", tmp_path / "rows.txt")
        assert (tmp_path / "rows.txt").read_text().count("|") > 10

    def test_the_ending_that_is_typed_wins_over_a_format_of_the_settings(self, tmp_path, monkeypatch, capsys):
        """A typed format wins over both; which ledgers the settings choose is no matter here."""
        monkeypatch.delenv("CNNBENCH_NO_SETTINGS")
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "a.json", version_5())
        self.call("a.json", "-o", tmp_path / "plain.csv")
        (tmp_path / "cnnbench.toml").write_text("[show]\nformat = 'markdown'\nresults = 'r'\nlast = true\n")

        def show(*flags: str) -> str:
            assert run_cli(["show", "a.json", *flags]) == 0, capsys.readouterr().err
            return (tmp_path / flags[1]).read_text()

        assert show("-o", "rows.csv") == (tmp_path / "plain.csv").read_text()
        assert show("-o", "rows.txt").count("|") > 10
        assert show("-o", "rows.csv", "--format", "markdown") == (tmp_path / "rows.txt").read_text()
        assert run_cli(["show", "a.json", "--last"]) == ExitCode.USAGE
        assert "show pytest-benchmark's files (.json) by themselves" in capsys.readouterr().err
