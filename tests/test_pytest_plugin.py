"""The pytest plugin in runs of pytest itself: what it adds where it is used, and that it is not there where it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

USES_THE_FIXTURE = """
def test_sum(cnnbench):
    assert cnnbench(lambda: sum(range(1000)), device="cpu", calls=3, rounds=4, flops=999, images=2) == 499500
"""
USES_PYTEST_BENCHMARK = """
import sys

def test_plain(benchmark):
    benchmark.pedantic(lambda: None, rounds=2)
    assert not {"torch", "numpy", "pandas", "cnnbench.engine.pytest_timer"} & set(sys.modules)
"""


def run(folder: Path, *arguments: str, benchmark: bool = True) -> subprocess.CompletedProcess[str]:
    """Pytest with the plugins named alone, whichever are installed."""
    plugins = [*(["-p", "pytest_benchmark.plugin"] if benchmark else []), "-p", "cnnbench.bridges.pytest_plugin"]
    package = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": package, "COLUMNS": "200"}
    for outer in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):  # a pytest of its own, whoever runs this one
        environment.pop(outer, None)
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *plugins, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def folder_with(parent: Path, name: str, text: str) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A run that used the fixture, as pytest-benchmark saved it."""
    folder = folder_with(tmp_path_factory.mktemp("plugin"), "saved", USES_THE_FIXTURE)
    done = run(folder, "--benchmark-only", "--benchmark-json", "saved.json")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "saved.json"


def test_the_fixture_says_what_a_round_was_and_where(saved):
    document = json.loads(saved.read_text())
    [benchmark] = document["benchmarks"]
    info, stats = benchmark["extra_info"], benchmark["stats"]
    assert stats["rounds"] == 4
    assert info["flops_per_second"] == pytest.approx(3 * 999 / stats["median"])
    assert info["images_per_second"] == pytest.approx(3 * 2 / stats["median"])
    assert info["device"] == "cpu"
    assert info["torch"] == document["machine_info"]["cnnbench"]["torch"]
    assert info["threads"] >= 1
    assert info["host_peak_bytes"] is None or info["host_peak_bytes"] > 0


def test_machine_info_has_the_devices_and_no_clock_of_the_moment(saved):
    machine = json.loads(saved.read_text())["machine_info"]
    assert machine["cnnbench"]["devices"][0]["id"] == "cpu"
    assert not [name for name in machine["cpu"] if name.startswith("hz_")]
    assert machine["cpu"]["count"] >= 1


def test_a_run_that_does_not_use_it_is_as_without_it(tmp_path):
    """Same machine_info keys, clocks included, and nothing heavy in the process."""
    folder = folder_with(tmp_path, "plain", USES_PYTEST_BENCHMARK)
    done = run(folder, "--benchmark-json", "plain.json")
    assert done.returncode == 0, done.stdout + done.stderr
    machine = json.loads((folder / "plain.json").read_text())["machine_info"]
    assert "cnnbench" not in machine


def compare(folder: Path, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, f"--benchmark-compare={file}", "--benchmark-json", "now.json", *arguments)


def altered(saved: Path, path: Path, **changes: object) -> Path:
    document = json.loads(saved.read_text())
    document["machine_info"]["cnnbench"] |= changes
    path.write_text(json.dumps(document))
    return path


def test_a_comparison_on_the_same_machine_warns_of_nothing(saved, tmp_path):
    """Neither here nor in pytest-benchmark, whose own comparison is of every key: so the machine is the same to it too."""
    folder = folder_with(tmp_path, "same", USES_THE_FIXTURE)
    done = compare(folder, saved)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Comparing against benchmarks from" in done.stderr
    assert "another machine" not in done.stdout + done.stderr
    assert "machine_info is different" not in done.stdout + done.stderr


def test_another_machine_is_said_in_words_and_may_end_the_run(saved, tmp_path):
    folder = folder_with(tmp_path, "other", USES_PYTEST_BENCHMARK)
    other = altered(saved, tmp_path / "other.json", cores_allowed=640, torch="1.0\x1b[31m")
    warned = compare(folder, other)
    assert warned.returncode == 0, warned.stdout + warned.stderr
    assert "compared with a run of another machine" in warned.stdout
    assert "machine_info is different" in warned.stdout + warned.stderr  # pytest-benchmark sees it too
    assert "640 there" in warned.stdout
    assert "\x1b[31m" not in warned.stdout
    failed = compare(folder, other, "--cnnbench-other-machine", "fail")
    assert failed.returncode == pytest.ExitCode.USAGE_ERROR
    assert "640 there" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_saved_run_without_facts_is_said_to_hold_none_where_facts_are_asked_for(saved, tmp_path):
    folder = folder_with(tmp_path, "bare", USES_PYTEST_BENCHMARK)
    document = json.loads(saved.read_text())
    del document["machine_info"]["cnnbench"]
    (tmp_path / "bare.json").write_text(json.dumps(document))
    done = compare(folder, tmp_path / "bare.json", "--cnnbench-facts", "--cnnbench-other-machine", "fail")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no facts of cnnbench" in done.stderr


def test_without_pytest_benchmark_the_fixture_skips_and_all_else_runs(tmp_path):
    folder = folder_with(tmp_path, "absent", USES_THE_FIXTURE + "\ndef test_other():\n    pass\n")
    done = run(folder, benchmark=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "needs pytest-benchmark" in done.stdout
